mod apply;
mod closed;
mod ends;
mod lanes;
mod lease;
mod listeners;
mod planning;
mod read;
mod redrive;
mod remote;
mod settle;
mod suppressions;
mod upkeep;
mod withdrawn;

use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{Address, ChannelKind, DeliveryId, PlainAddress, RedriveId, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(super) use apply::{write_deliveries, write_events, write_new, write_work};
pub(super) use ends::{end_outside, in_flight};
pub(super) use lanes::refresh;
pub(super) use listeners::listeners;
pub(super) use planning::{bars, earlier, write_overtaken};

use super::SqliteStore;
use crate::store::{outside::*, records::PlanJob};

#[async_trait]
impl OutsideStore for SqliteStore {
    async fn open_work(&self, outside: &[OutsideRow], work: &[WorkRow]) -> Result<(), StoreError> {
        Self::open_work(self, outside, work).await
    }

    async fn due_lanes(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        Self::due_lanes(self, now, channels, limit).await
    }

    async fn due_lanes_in_turn(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        after: Option<&TenantId>,
        most: (usize, usize),
    ) -> Result<(Vec<DueLane>, Option<TenantId>), StoreError> {
        Self::due_lanes_in_turn(self, now, channels, after, most).await
    }

    async fn next_lane_due(&self, channels: &[ChannelKind]) -> Result<Option<Timestamp>, StoreError> {
        Self::next_lane_due(self, channels).await
    }

    async fn lease_deliveries(
        &self,
        now: Timestamp,
        picks: &[LanePick],
        until: Timestamp,
        again: Timestamp,
    ) -> Result<Handed, StoreError> {
        Self::lease_deliveries(self, now, picks, until, again).await
    }

    async fn open_lanes(&self, tenant: &TenantId, limit: usize) -> Result<Vec<DueLane>, StoreError> {
        Self::open_lanes(self, tenant, limit).await
    }

    async fn park(&self, lanes: &[ParkedLane]) -> Result<(), StoreError> {
        Self::park(self, lanes).await
    }

    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<Settled, StoreError> {
        Self::settle(self, now, settlements).await
    }

    async fn expire_deliveries(&self, now: Timestamp, limit: usize) -> Result<Vec<Ended>, StoreError> {
        Self::expire_deliveries(self, now, limit).await
    }

    async fn end_closed(
        &self,
        now: Timestamp,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        Self::end_closed(self, now, cutoff, limit).await
    }

    async fn release_deliveries(&self, now: Timestamp, channels: &[ChannelKind]) -> Result<u64, StoreError> {
        Self::release_deliveries(self, now, channels).await
    }

    async fn load_work(
        &self,
        now: Timestamp,
        deliveries: &[Arc<LeasedDelivery>],
    ) -> Result<Sources, StoreError> {
        Self::load_work(self, now, deliveries).await
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        query: &DeadQuery,
    ) -> Result<Vec<OutsideDetail>, StoreError> {
        Self::dead_letters(self, tenant, query).await
    }

    async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<(OutsideDetail, Vec<AttemptDetail>)>, StoreError> {
        Self::delivery(self, tenant, id).await
    }

    async fn begin_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        filter: &DeadFilter,
    ) -> Result<RedriveRow, StoreError> {
        Self::begin_redrive(self, now, tenant, filter).await
    }

    async fn redrive_page(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
        limit: usize,
    ) -> Result<bool, StoreError> {
        Self::redrive_page(self, now, tenant, id, limit).await
    }

    async fn resend(&self, now: Timestamp, tenant: &TenantId, id: DeliveryId) -> Result<Resent, StoreError> {
        Self::resend(self, now, tenant, id).await
    }

    async fn running_redrives(&self, limit: usize) -> Result<Vec<(TenantId, RedriveId)>, StoreError> {
        Self::running_redrives(self, limit).await
    }

    async fn put_off_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
    ) -> Result<(), StoreError> {
        Self::put_off_redrive(self, now, tenant, id).await
    }

    async fn redrive(&self, tenant: &TenantId, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
        Self::redrive(self, tenant, id).await
    }

    async fn redrives(
        &self,
        tenant: &TenantId,
        before: Option<RedriveId>,
        limit: u32,
    ) -> Result<Vec<RedriveRow>, StoreError> {
        Self::redrives(self, tenant, before, limit).await
    }

    async fn bars(&self, now: Timestamp, jobs: &[PlanJob]) -> Result<Bars, StoreError> {
        Self::bars(self, now, jobs).await
    }

    async fn suppress(&self, row: &SuppressionRow) -> Result<SuppressionRow, StoreError> {
        Self::suppress(self, row).await
    }

    async fn suppressions(
        &self,
        tenant: &TenantId,
        query: &SuppressionQuery,
    ) -> Result<Vec<SuppressionRow>, StoreError> {
        Self::suppressions(self, tenant, query).await
    }

    async fn suppressed(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, StoreError> {
        Self::suppressed(self, tenant, addresses).await
    }

    async fn lift_suppression(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
    ) -> Result<bool, StoreError> {
        Self::lift_suppression(self, tenant, channel, address).await
    }

    async fn sweep_outside(
        &self,
        sweep: OutsideSweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        Self::sweep_outside(self, sweep, cutoff, limit).await
    }

    async fn tally_states(&self) -> Result<Vec<(String, DeliveryState, u64)>, StoreError> {
        Self::tally_states(self).await
    }

    async fn tally_outside(&self) -> Result<OutsideTally, StoreError> {
        Self::tally_outside(self).await
    }
}
