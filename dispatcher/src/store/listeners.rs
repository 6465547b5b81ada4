//! Who is told of what happens, in the transaction in which it does. Pure: rows in, rows out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    ChannelKind, DeliveryId, EndpointId, EventId, TenantId, Timestamp,
    ports::{Lane, Operation},
};
use carillon_sql::StoreError;
use serde::Serialize;

use super::{
    endpoints::{EventRow, strand},
    outside::{Brings, DeliveryState, LaneKey, OutsideRow, WorkRow},
    rows::{json, word},
};
use crate::events::{EventFilter, EventKind, body};

/// Tenant, id, lane, events, fifo.
pub(super) type ListenerColumns = (String, String, String, String, i64);

/// A tenant's endpoint that is enabled.
#[derive(Debug, Clone)]
struct Listener {
    id: EndpointId,
    lane: Lane,
    fifo: bool,
    events: Vec<EventFilter>,
}

/// The endpoints of the tenants that a transaction is about.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    of: HashMap<TenantId, Vec<Listener>>,
    /// How long it is tried to tell them.
    ttl: Duration,
}

/// What telling them writes.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) events: Vec<EventRow>,
    pub(super) outside: Vec<OutsideRow>,
    pub(super) work: Vec<WorkRow>,
}

impl Listeners {
    pub(super) fn new(rows: Vec<ListenerColumns>, ttl: Duration) -> Result<Self, StoreError> {
        let mut of: HashMap<TenantId, Vec<Listener>> = HashMap::new();
        for (tenant, id, lane, events, fifo) in rows {
            of.entry(word(&tenant)?).or_default().push(Listener {
                id: word(&id)?,
                lane: Arc::from(lane),
                fifo: fifo != 0,
                events: json(&events)?,
            });
        }
        Ok(Self { of, ttl })
    }

    /// The lanes of those who are told of such things.
    pub(super) fn lanes(&self, kinds: &[EventKind]) -> BTreeSet<LaneKey> {
        let mut lanes = BTreeSet::new();
        for (tenant, listeners) in &self.of {
            for listener in listeners {
                if kinds.iter().any(|kind| listener.asks_for(*kind)) {
                    lanes.insert(listener.lane_key(tenant));
                }
            }
        }
        lanes
    }

    /// Tells everybody who asked for it, but `except`: one event, and a delivery to each.
    pub(super) fn tell<T: Serialize>(
        &self,
        told: &mut Told,
        now: Timestamp,
        tenant: &TenantId,
        kind: EventKind,
        data: &T,
        except: Option<EndpointId>,
    ) {
        let Some(listeners) = self.of.get(tenant) else {
            return;
        };
        let mut asking = listeners
            .iter()
            .filter(|listener| Some(listener.id) != except && listener.asks_for(kind))
            .peekable();
        if asking.peek().is_none() {
            return;
        }
        let event = EventId::at(now);
        told.events.push(EventRow {
            tenant: tenant.clone(),
            id: event,
            kind: kind.as_str(),
            body: body(kind, now, data),
            at: now,
        });
        for listener in asking {
            let Ok(address) = listener.id.to_string().parse() else {
                continue;
            };
            let row = OutsideRow {
                tenant: tenant.clone(),
                id: DeliveryId::at(now),
                brings: Brings::Event(event),
                user: None,
                step: 0,
                name: None,
                channel: ChannelKind::webhook(),
                address,
                device: None,
                lane: Arc::clone(&listener.lane),
                locale: None,
                state: DeliveryState::Pending,
                reason: None,
                provider_id: None,
                collapse: None,
                created_at: now,
                expires_at: now.after(self.ttl),
            };
            let mut work = WorkRow::of(&row, strand(listener.id, listener.fifo), Operation::Deliver);
            // What one transaction tells stays in the order in which it is told.
            work.ord = work
                .ord
                .saturating_add(i64::try_from(told.work.len()).unwrap_or(i64::MAX));
            told.work.push(work);
            told.outside.push(row);
        }
    }
}

impl Listener {
    fn asks_for(&self, kind: EventKind) -> bool {
        self.events.iter().any(|filter| filter.matches(kind))
    }

    fn lane_key(&self, tenant: &TenantId) -> LaneKey {
        LaneKey {
            tenant: tenant.clone(),
            channel: ChannelKind::webhook(),
            lane: Arc::clone(&self.lane),
            strand: strand(self.id, self.fifo),
        }
    }
}
