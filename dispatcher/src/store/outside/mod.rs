//! Everything durable about deliveries outside the inbox: their work by lanes, attempts, dead letters, suppressions.
//!
//! Work is handed out by lanes: a row of `lanes` says when something of a tenant's lane (and strand) is due, so that a
//! look costs by the lane and not by the backlog. Whoever changes a lane's work holds the lane's row: on PostgreSQL it
//! is locked before rows of `delivery_queue` are looked at, always in the order of its key, after mailboxes and topics.
//! What follows of a candidate or an attempt is worked out in `decide`, pure and shared by both databases.

mod decide;
mod disabled;
mod ends;
mod failing;
mod follow;
mod planning;
mod quiet;
mod receipt;
mod records;
mod remote;
mod rows;
mod withdrawn;

use async_trait::async_trait;
use carillon_domain::{Address, ChannelKind, DeliveryId, PlainAddress, RedriveId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::records::PlanJob;

pub(super) use decide::{
    Candidate, Effects, Found, FoundEndpoint, Outcomes, QueueKey, UNREADABLE, Unreadable, by_lane, expire,
    hand_out, not_resendable, note_outcomes, settle,
};
pub(super) use disabled::{disabled_notices, tell_disabled};
pub(super) use ends::{
    EndLaneColumns, LONGEST_ATTEMPT, SentOfColumns, WaitingColumns, end_lanes, taken_back, waiting,
};
pub(super) use follow::{follow, may_follow};
pub(crate) use planning::Bars;
pub(super) use planning::{EarlierOnes, NOT_RECALLABLE, OVERTAKEN, Sending, overtake_earlier, send};
pub(super) use quiet::held;
pub(crate) use receipt::FarReceipt;
pub(super) use receipt::{
    BY_PROVIDER, Early, RECEIPT, ReceiptColumns, SOONER, far_receipts, receive, received,
};
pub(crate) use records::*;
pub(crate) use remote::*;
pub(super) use rows::*;
pub(super) use withdrawn::{
    EMPTIED, Gate, LiveMember, WithdrawnColumns, behind_open, gate, gates, live_members, mark, starts,
    without,
};

/// The durable state of deliveries outside the inbox.
#[async_trait]
pub(crate) trait OutsideStore: Send + Sync + 'static {
    /// Adds deliveries and work that nothing planned: what tests begin with.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only tests begin with work that nothing planned")
    )]
    async fn open_work(&self, outside: &[OutsideRow], work: &[WorkRow]) -> Result<(), StoreError>;

    /// Lanes of these channels with work that is due, the longest due first, at most `limit` of each channel.
    async fn due_lanes(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError>;

    /// Lanes with due work of the tenants after `after`: `most` has how many tenants, and how many lanes of each per
    /// channel. Answers the tenant to go on after; none where there is none left.
    async fn due_lanes_in_turn(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        after: Option<&TenantId>,
        most: (usize, usize),
    ) -> Result<(Vec<DueLane>, Option<TenantId>), StoreError>;

    /// When the next lane of these channels is due.
    async fn next_lane_due(&self, channels: &[ChannelKind]) -> Result<Option<Timestamp>, StoreError>;

    /// Hands out what is due of the picked lanes until `until`, each with an attempt that has begun; what is
    /// suppressed or too late ends at once. A picked lane with more due is parked until `again`.
    async fn lease_deliveries(
        &self,
        now: Timestamp,
        picks: &[LanePick],
        until: Timestamp,
        again: Timestamp,
    ) -> Result<Handed, StoreError>;

    /// A tenant's lanes with open work, by channel and lane.
    async fn open_lanes(&self, tenant: &TenantId, limit: usize) -> Result<Vec<DueLane>, StoreError>;

    /// Keeps lanes from being due before a time.
    async fn park(&self, lanes: &[ParkedLane]) -> Result<(), StoreError>;

    /// Writes what attempts said, and what follows. A settlement of a lease that is not the last one changes nothing.
    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<Settled, StoreError>;

    /// Ends up to `limit` deliveries whose time to live is over and that nobody tries.
    async fn expire_deliveries(&self, now: Timestamp, limit: usize) -> Result<Vec<Ended>, StoreError>;

    /// Ends up to `limit` deliveries that wait for endpoints that are disabled or deleted, and removes deleted ones that
    /// were closed before `cutoff`.
    async fn end_closed(
        &self,
        now: Timestamp,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError>;

    /// Makes what a dead process was trying over its own `channels` due again; workers of other channels may still be at
    /// it. Only where one process owns the store.
    async fn release_deliveries(&self, now: Timestamp, channels: &[ChannelKind]) -> Result<u64, StoreError>;

    /// What the messages of these deliveries are made of.
    async fn load_work(
        &self,
        now: Timestamp,
        deliveries: &[std::sync::Arc<LeasedDelivery>],
    ) -> Result<Sources, StoreError>;

    /// Dead letters, newest first.
    async fn dead_letters(
        &self,
        tenant: &TenantId,
        query: &DeadQuery,
    ) -> Result<Vec<OutsideDetail>, StoreError>;

    /// One delivery outside the inbox with its attempts in order.
    async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<(OutsideDetail, Vec<AttemptDetail>)>, StoreError>;

    /// Begins a redrive of the dead letters that match now.
    async fn begin_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        filter: &DeadFilter,
    ) -> Result<RedriveRow, StoreError>;

    /// Makes the next `limit` dead letters of a running redrive pending again. Answers whether there is more to do.
    async fn redrive_page(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
        limit: usize,
    ) -> Result<bool, StoreError>;

    /// Makes a delivery that ended pending again, last in its strand and with as much time to live as it had at first.
    /// What arrived before and does not arrive again stays what it was.
    async fn resend(&self, now: Timestamp, tenant: &TenantId, id: DeliveryId) -> Result<Resent, StoreError>;

    /// Redrives that run, of all tenants, the one first that waited the longest.
    async fn running_redrives(&self, limit: usize) -> Result<Vec<(TenantId, RedriveId)>, StoreError>;

    /// Lets the others go first of those that run.
    async fn put_off_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
    ) -> Result<(), StoreError>;

    /// One redrive.
    async fn redrive(&self, tenant: &TenantId, id: RedriveId) -> Result<Option<RedriveRow>, StoreError>;

    /// Redrives, newest first.
    async fn redrives(
        &self,
        tenant: &TenantId,
        before: Option<RedriveId>,
        limit: u32,
    ) -> Result<Vec<RedriveRow>, StoreError>;

    /// What stands against sending these jobs outside the inbox, as planning will find it.
    async fn bars(&self, now: Timestamp, jobs: &[PlanJob]) -> Result<Bars, StoreError>;

    /// Keeps an address from being written to; the first reason stays. Answers the row that stands.
    async fn suppress(&self, row: &SuppressionRow) -> Result<SuppressionRow, StoreError>;

    /// Suppressed addresses by channel and address.
    async fn suppressions(
        &self,
        tenant: &TenantId,
        query: &SuppressionQuery,
    ) -> Result<Vec<SuppressionRow>, StoreError>;

    /// Why nothing goes to each of these addresses, in their order; none where something does.
    async fn suppressed(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, StoreError>;

    /// Lifts a suppression; answers whether there was one.
    async fn lift_suppression(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
    ) -> Result<bool, StoreError>;

    /// Removes up to about `limit` rows that are older than `cutoff`; answers how many.
    async fn sweep_outside(
        &self,
        sweep: OutsideSweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError>;

    /// Counts deliveries outside the inbox by channel and state. Reads all of them.
    async fn tally_states(&self) -> Result<Vec<(String, DeliveryState, u64)>, StoreError>;

    /// Counts deliveries outside the inbox.
    async fn tally_outside(&self) -> Result<OutsideTally, StoreError>;
}
