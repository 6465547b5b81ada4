//! Segments: saved filters over users, judged page by page by internal id.

use std::sync::Arc;

use carillon_domain::{ExternalUserId, SegmentName, TenantId, Timestamp, UserId, ports::Unavailable};
use tokio::time::Instant;

use crate::{
    Users,
    audience::Scanned,
    filter::{Filter, Person},
    store::{PersonRecord, Store},
};

/// How many segments a tenant has at the most.
pub(crate) const MAX_SEGMENTS: i64 = 1_000;

/// How many users are read at once.
const SCAN: usize = 500;

/// How many users a preview shows.
pub(crate) const PREVIEW: usize = 20;

/// What a look at all users found until it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// How many the segment holds.
    pub(crate) count: u64,
    /// The first of them, at most as many as were asked for.
    pub(crate) first: Vec<ExternalUserId>,
    /// How many were looked at.
    pub(crate) scanned: u64,
    /// Whether these were all; always so when as many were found as were asked for.
    pub(crate) complete: bool,
}

impl Users {
    /// The filter of a segment.
    pub(crate) async fn filter(
        &self,
        tenant: &TenantId,
        segment: &SegmentName,
    ) -> Result<Option<Filter>, Unavailable> {
        let Some(row) = self.store.segment(tenant, segment).await? else {
            return Ok(None);
        };
        // It was checked when it was saved.
        let filter = Filter::read(&row.filter, "");
        filter.map(Some).map_err(|errors| {
            let what = errors
                .first()
                .map(|error| error.detail.clone())
                .unwrap_or_default();
            Unavailable::new("reading a segment", what.into_owned())
        })
    }

    /// One look at users behind `after`, whom a segment may hold.
    pub(crate) async fn scan_segment(
        &self,
        tenant: &TenantId,
        segment: &SegmentName,
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<Scanned, Unavailable> {
        let Some(filter) = self.filter(tenant, segment).await? else {
            return Ok(Scanned {
                users: Vec::new(),
                through: None,
            });
        };
        let people = self.store.people(tenant, after, SCAN).await?;
        let mut through = people.last().filter(|_| people.len() == SCAN).map(|last| last.id);
        let held = people
            .iter()
            .filter(|person| person.created_at <= born_before && holds(&filter, person));
        let mut users: Vec<UserId> = held.map(|person| person.id).collect();
        if users.len() > limit {
            users.truncate(limit);
            through = users.last().copied();
        }
        Ok(Scanned { users, through })
    }

    /// Looks at all users until the patience ends, or `enough` were found.
    pub(crate) async fn look(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        enough: Option<usize>,
    ) -> Result<Look, Unavailable> {
        let store: &Arc<dyn Store> = &self.store;
        let ends = Instant::now() + self.config.segment_patience.duration();
        let mut look = Look::default();
        let mut after = None;
        while look.scanned < self.config.segment_rows {
            let left = usize::try_from(self.config.segment_rows - look.scanned).unwrap_or(SCAN);
            let asked = SCAN.min(left);
            // What the database does not give in time is not waited for.
            let Ok(people) = tokio::time::timeout_at(ends, store.people(tenant, after, asked)).await else {
                return Ok(look);
            };
            let people = people?;
            after = people.last().map(|last| last.id);
            let last_page = people.len() < asked;
            for person in people {
                look.scanned += 1;
                if holds(filter, &person) {
                    look.count += 1;
                    if enough.is_some_and(|enough| look.first.len() < enough) {
                        look.first.push(person.user);
                    }
                }
                if enough == Some(look.first.len()) {
                    look.complete = true;
                    return Ok(look);
                }
            }
            if last_page {
                look.complete = true;
                return Ok(look);
            }
        }
        // Nobody may be left behind the last one.
        look.complete = store.people(tenant, after, 1).await?.is_empty();
        Ok(look)
    }
}

fn holds(filter: &Filter, person: &PersonRecord) -> bool {
    filter.holds(Person {
        locale: person.locale.as_deref(),
        timezone: person.timezone.as_deref(),
        created_at: person.created_at,
        attributes: &person.attributes,
    })
}
