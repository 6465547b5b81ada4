//! Rows as the databases give them, the same columns on both, made into records.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use carillon_domain::{ChannelKind, DeliveryId, EndpointId, Priority, TenantId, Timestamp, ports::Operation};
use carillon_sql::StoreError;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{
    decide::{Candidate, CandidateDelivery, Unreadable},
    planning::{Bars, CollapseName, Earlier, EarlierOnes, Sent},
    receipt::Early,
    records::{
        AttemptDetail, Brings, DeliveryState, DueLane, EndpointSource, EventSource, LaneKey, LeasedDelivery,
        NotificationSource, OutsideDetail, RedriveRow, SealedSecret, Sources, StoredTemplate, SuppressionRow,
    },
    remote::RemoteChannelRow,
};
use crate::store::{
    Fingerprints,
    records::PlanJob,
    rows::{corrupt, json, number, word},
};

pub(in crate::store) type LaneColumns = (String, String, String, String, i64);

/// Lanes; one that cannot be read is left out, so that its neighbours are looked at.
pub(in crate::store) fn due_lanes(rows: Vec<LaneColumns>) -> Vec<DueLane> {
    let readable = |row| match due_lane(row) {
        Ok(lane) => Some(lane),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a lane cannot be read");
            None
        }
    };
    rows.into_iter().filter_map(readable).collect()
}

/// The tenant to go on after; none where fewer than wanted were left, and it begins anew.
pub(in crate::store) fn next_turn(found: &[(String,)], wanted: usize) -> Option<TenantId> {
    let (last,) = found.last().filter(|_| found.len() >= wanted)?;
    last.parse().ok()
}

pub(in crate::store) fn due_lane(row: LaneColumns) -> Result<DueLane, StoreError> {
    let (tenant, channel, lane, strand, due) = row;
    Ok(DueLane {
        key: LaneKey {
            tenant: word(&tenant)?,
            channel: word(&channel)?,
            lane: Arc::from(lane),
            strand: Arc::from(strand),
        },
        due_at: Timestamp::from_micros(due),
    })
}

/// The columns of [`CandidateColumns`]: of work `c`, its delivery `d`, a suppression `s`, an endpoint `e`, and whether
/// its recipient turned it off since.
pub(in crate::store) const CANDIDATE: &str = "c.tenant, c.delivery, c.channel, c.lane, c.strand, c.operation, \
    c.expires_at, c.lease, c.earlier, d.notification, d.user_id, d.address, d.locale, d.state, d.provider_id, \
    d.created_at, d.reason, s.reason, e.state, c.stands, \
    CASE WHEN EXISTS (SELECT 1 FROM opt_outs o CROSS JOIN notifications n WHERE o.tenant = c.tenant \
    AND o.user_id = d.user_id AND o.channel = c.channel AND n.tenant = c.tenant AND n.id = d.notification \
    AND n.category = o.category) THEN 'yes' END, d.news";

/// What [`CANDIDATE`] needs joined to the work `c`.
pub(in crate::store) const CANDIDATE_JOINS: &str = "LEFT JOIN deliveries d ON d.tenant = c.tenant \
    AND d.id = c.delivery AND d.channel <> 'in_app' \
    LEFT JOIN suppressions s ON s.tenant = c.tenant AND s.channel = c.channel AND s.address = d.address \
    LEFT JOIN endpoints e ON c.channel = 'webhook' AND e.tenant = c.tenant AND e.id = d.address";

pub(in crate::store) struct CandidateColumns {
    lane: [String; 5],
    operation: String,
    numbers: [i64; 3],
    delivery: [Option<String>; 6],
    created_at: Option<i64>,
    reason: Option<String>,
    suppressed: Option<String>,
    endpoint: Option<String>,
    stands: Option<String>,
    turned_off: Option<String>,
    news: Option<String>,
}

/// Where a settlement finds its delivery: its place in the batch, the delivery's state, what stands while it is sent again, news that
/// came early, the endpoint's state and since when it fails.
pub(in crate::store) type FoundRow = (
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

impl<'r, R> FromRow<'r, R> for CandidateColumns
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            lane: [
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            ],
            operation: row.try_get(5)?,
            numbers: [row.try_get(6)?, row.try_get(7)?, row.try_get(8)?],
            delivery: [
                row.try_get(9)?,
                row.try_get(10)?,
                row.try_get(11)?,
                row.try_get(12)?,
                row.try_get(13)?,
                row.try_get(14)?,
            ],
            created_at: row.try_get(15)?,
            reason: row.try_get(16)?,
            suppressed: row.try_get(17)?,
            endpoint: row.try_get(18)?,
            stands: row.try_get(19)?,
            turned_off: row.try_get(20)?,
            news: row.try_get(21)?,
        })
    }
}

/// Candidates, and what cannot be read: one of a thousand must not keep its neighbours from being handed out.
pub(in crate::store) fn candidates(
    rows: impl IntoIterator<Item = CandidateColumns>,
) -> (Vec<Candidate>, Vec<Unreadable>) {
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        let [tenant, delivery, ..] = &row.lane;
        let key = (tenant.clone(), delivery.clone());
        match candidate(row) {
            Ok(candidate) => readable.push(candidate),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    tenant = key.0,
                    delivery = key.1,
                    "work cannot be read; it is a dead letter now"
                );
                unreadable.push(key);
            }
        }
    }
    (readable, unreadable)
}

fn candidate(row: CandidateColumns) -> Result<Candidate, StoreError> {
    let [tenant, delivery, channel, lane, strand] = &row.lane;
    let [expires, token, earlier] = row.numbers;
    let key = LaneKey {
        tenant: word(tenant)?,
        channel: word(channel)?,
        lane: Arc::from(lane.as_str()),
        strand: Arc::from(strand.as_str()),
    };
    let (id, token, earlier) = (word(delivery)?, small(token)?, small(earlier)?);
    let of = match row.delivery {
        [
            Some(brings),
            Some(user),
            Some(address),
            locale,
            Some(state),
            provider_id,
        ] => {
            let state = delivery_state(&state)?;
            // What cannot be read must not keep its neighbours from being handed out.
            let leased = || {
                Ok::<_, StoreError>(LeasedDelivery {
                    key: key.clone(),
                    id,
                    brings: brings.parse::<Brings>().map_err(|_| corrupt("an id", &brings))?,
                    user: if user.is_empty() { None } else { Some(word(&user)?) },
                    address: word(&address)?,
                    locale: locale.map(Arc::from),
                    operation: Operation::from_stored(&row.operation)
                        .ok_or_else(|| corrupt("an operation", &row.operation))?,
                    provider_id,
                    token,
                    earlier,
                    created_at: Timestamp::from_micros(row.created_at.unwrap_or_default()),
                    expires_at: Timestamp::from_micros(expires),
                })
            };
            Some(CandidateDelivery {
                leased: leased().ok(),
                state,
                reason: row.reason,
                suppressed: row.suppressed.is_some(),
                disabled: row.endpoint.as_deref().is_some_and(|state| state != "enabled"),
                turned_off: row.turned_off.is_some(),
                news: row.news.as_deref().and_then(Early::from_stored),
                stands: row.stands.as_deref().map(delivery_state).transpose()?,
            })
        }
        _ => None,
    };
    Ok(Candidate {
        key,
        id,
        token,
        earlier,
        delivery: of,
    })
}

pub(in crate::store) fn delivery_state(text: &str) -> Result<DeliveryState, StoreError> {
    DeliveryState::from_stored(text).ok_or_else(|| corrupt("a delivery's state", text))
}

/// A count that fits.
pub(in crate::store) fn small(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| corrupt("a number", &stored.to_string()))
}

fn time(stored: Option<i64>) -> Option<Timestamp> {
    stored.map(Timestamp::from_micros)
}

/// The columns of [`outside_detail`]: of a delivery `d`.
pub(in crate::store) const DETAIL: &str = "d.id, d.notification, d.user_id, d.channel, d.address, d.lane, d.state, \
    d.reason, d.outcome, (SELECT COUNT(*) FROM attempts a WHERE a.tenant = d.tenant AND a.delivery = d.id), \
    d.created_at, d.expires_at, d.ended_at";

pub(in crate::store) type DetailColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
);

pub(in crate::store) fn outside_detail(row: DetailColumns) -> Result<OutsideDetail, StoreError> {
    let (id, brings, user, channel, address, lane, state, reason, outcome, attempts, created, expires, ended) =
        row;
    Ok(OutsideDetail {
        id: word(&id)?,
        brings: word(&brings)?,
        user: if user.is_empty() { None } else { Some(word(&user)?) },
        channel: word(&channel)?,
        address,
        lane,
        state: delivery_state(&state)?,
        reason,
        outcome,
        attempts: small(attempts)?,
        created_at: Timestamp::from_micros(created),
        expires_at: time(expires),
        ended_at: time(ended),
        next_at: None,
    })
}

pub(in crate::store) type AttemptColumns = (
    i64,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn attempt(row: AttemptColumns) -> Result<AttemptDetail, StoreError> {
    let (number, operation, started, ended, outcome, status, reason, excerpt, next) = row;
    Ok(AttemptDetail {
        number: small(number)?,
        operation,
        started_at: Timestamp::from_micros(started),
        ended_at: time(ended),
        outcome,
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason,
        excerpt,
        next_at: time(next),
    })
}

/// [`AttemptColumns`] behind their delivery's id.
pub(in crate::store) type AttemptOfColumns = (
    String,
    i64,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn attempt_of(row: AttemptOfColumns) -> Result<(DeliveryId, AttemptDetail), StoreError> {
    let (delivery, number, operation, started, ended, outcome, status, reason, excerpt, next) = row;
    let row = (
        number, operation, started, ended, outcome, status, reason, excerpt, next,
    );
    Ok((word(&delivery)?, attempt(row)?))
}

pub(in crate::store) type SuppressionColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
);

pub(in crate::store) fn suppression(row: SuppressionColumns) -> Result<SuppressionRow, StoreError> {
    let (tenant, channel, address, reason, detail, delivery, at) = row;
    Ok(SuppressionRow {
        tenant: word(&tenant)?,
        channel: word(&channel)?,
        address: word(&address)?,
        reason: Cow::Owned(reason),
        detail,
        delivery: delivery.as_deref().map(word).transpose()?,
        at: Timestamp::from_micros(at),
    })
}

pub(in crate::store) type RedriveColumns = (String, String, String, i64, i64, i64, i64);

pub(in crate::store) fn redrive(row: RedriveColumns) -> Result<RedriveRow, StoreError> {
    let (id, filter, state, total, done, created, updated) = row;
    Ok(RedriveRow {
        id: word(&id)?,
        filter: json(&filter)?,
        is_done: state != "running",
        total: number(total)?,
        done: number(done)?,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Tenant, id, category, priority, collapse key, content, template, version, data.
pub(in crate::store) type NotificationSourceColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<i64>,
    Option<String>,
);
/// Tenant, name, version, default locale, locales.
pub(in crate::store) type TemplateColumns = (String, String, i64, String, String);
/// Tenant, id, kind, body.
pub(in crate::store) type EventColumns = (String, String, String, String);
/// Tenant, id, url.
pub(in crate::store) type EndpointColumns = (String, String, String);
/// Tenant, endpoint, id, sealed; newest first.
pub(in crate::store) type SecretColumns = (String, String, String, String);

impl Sources {
    pub(in crate::store) fn add_notification(
        &mut self,
        row: NotificationSourceColumns,
    ) -> Result<(), StoreError> {
        let (tenant, id, category, priority, collapse, content, template, version, data) = row;
        let source = NotificationSource {
            category: word(&category)?,
            priority: match priority.as_str() {
                "low" => Priority::Low,
                "high" => Priority::High,
                _ => Priority::Normal,
            },
            collapse_key: collapse.as_deref().map(word).transpose()?,
            content: serde_json::from_str(&content).ok().map(Arc::new),
            template: template.zip(version),
            data,
        };
        self.notifications
            .insert((word(&tenant)?, word(&id)?), Arc::new(source));
        Ok(())
    }

    /// The templates that the notifications name.
    pub(in crate::store) fn template_keys(&self) -> Vec<(&str, &str, i64)> {
        let mut keys: Vec<_> = self
            .notifications
            .iter()
            .filter_map(|((tenant, _), source)| {
                let (name, version) = source.template.as_ref()?;
                Some((tenant.as_str(), name.as_str(), *version))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(in crate::store) fn add_template(&mut self, row: TemplateColumns) -> Result<(), StoreError> {
        let (tenant, name, version, default_locale, locales) = row;
        let template = StoredTemplate {
            default_locale,
            locales: serde_json::from_str(&locales).ok(),
        };
        self.templates
            .insert((word(&tenant)?, name, version), Arc::new(template));
        Ok(())
    }

    pub(in crate::store) fn add_event(&mut self, row: EventColumns) -> Result<(), StoreError> {
        let (tenant, id, kind, body) = row;
        let event = EventSource {
            kind: Arc::from(kind),
            body: Arc::from(body),
        };
        self.events.insert((word(&tenant)?, word(&id)?), event);
        Ok(())
    }

    pub(in crate::store) fn add_endpoint(&mut self, row: EndpointColumns) -> Result<(), StoreError> {
        let (tenant, id, url) = row;
        self.endpoints
            .insert((word(&tenant)?, id), EndpointSource { url });
        Ok(())
    }

    pub(in crate::store) fn add_secret(&mut self, row: SecretColumns) -> Result<(), StoreError> {
        let (tenant, endpoint, id, sealed) = row;
        self.secrets
            .entry((word(&tenant)?, endpoint))
            .or_default()
            .push(SealedSecret { id, sealed });
        Ok(())
    }
}

/// What of leased deliveries must be read: notifications, events, and whose secrets sign.
pub(in crate::store) struct Wanted {
    pub(in crate::store) notifications: Vec<(TenantId, String)>,
    pub(in crate::store) events: Vec<(TenantId, String)>,
    pub(in crate::store) endpoints: Vec<(TenantId, String)>,
}

impl Wanted {
    pub(in crate::store) fn of(deliveries: &[Arc<LeasedDelivery>]) -> Self {
        let mut notifications = HashSet::new();
        let mut events = HashSet::new();
        let mut endpoints = HashSet::new();
        for delivery in deliveries {
            let tenant = delivery.key.tenant.clone();
            match delivery.brings {
                Brings::Notification(id) => notifications.insert((tenant.clone(), id)),
                Brings::Event(id) => events.insert((tenant.clone(), id)),
            };
            if delivery.key.channel.as_str() == ChannelKind::WEBHOOK {
                // A plain URL is signed by the tenant's own key, which is kept under the empty name.
                let address = delivery.address.as_str();
                let is_registered = address.parse::<EndpointId>().is_ok();
                endpoints.insert((tenant, if is_registered { address } else { "" }));
            }
        }
        Self {
            notifications: notifications
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_string()))
                .collect(),
            events: events
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_string()))
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_owned()))
                .collect(),
        }
    }
}

/// Tenant, kind, capabilities, forms, when seen, when announced.
pub(in crate::store) type RemoteChannelColumns = (String, String, String, Option<String>, Option<i64>, i64);

pub(in crate::store) fn remote_channel(row: RemoteChannelColumns) -> Result<RemoteChannelRow, StoreError> {
    let (tenant, kind, capabilities, forms, seen, announced) = row;
    Ok(RemoteChannelRow {
        tenant: if tenant.is_empty() {
            None
        } else {
            Some(word(&tenant)?)
        },
        kind: word(&kind)?,
        capabilities: json(&capabilities)?,
        forms: forms.as_deref().map(json).transpose()?,
        seen_at: time(seen),
        announced_at: Timestamp::from_micros(announced),
    })
}

/// An address whose suppression is looked for, in one of the two spellings that it may have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Sought<'a> {
    pub(in crate::store) tenant: &'a str,
    pub(in crate::store) channel: &'a str,
    /// As it is, or its fingerprint.
    pub(in crate::store) spelled: Cow<'a, str>,
    address: &'a str,
}

/// Where jobs would go outside the inbox, each address once in each spelling.
pub(in crate::store) fn addresses<'a>(jobs: &'a [PlanJob], prints: &Fingerprints) -> Vec<Sought<'a>> {
    let mut plain: Vec<_> = jobs
        .iter()
        .flat_map(|job| {
            let tenant = job.lease.tenant.as_str();
            job.sendable()
                .map(move |(_, outgoing)| (tenant, outgoing.channel.as_str(), outgoing.address.as_str()))
        })
        .collect();
    plain.sort_unstable();
    plain.dedup();
    let mut sought = Vec::with_capacity(2 * plain.len());
    for (tenant, channel, address) in plain {
        for spelled in [
            Cow::Borrowed(address),
            Cow::Owned(prints.of(tenant, channel, address)),
        ] {
            sought.push(Sought {
                tenant,
                channel,
                spelled,
                address,
            });
        }
    }
    sought
}

/// Whose opt-outs count for jobs: tenant, user, category; each once.
pub(in crate::store) fn categories(jobs: &[PlanJob]) -> Vec<(&str, String, &str)> {
    let mut categories: Vec<_> = jobs
        .iter()
        .flat_map(|job| {
            let (tenant, category) = (job.lease.tenant.as_str(), job.notification.category.as_str());
            job.sendable()
                .map(move |(addressee, _)| (tenant, addressee.user.to_string(), category))
        })
        .collect();
    categories.sort_unstable();
    categories.dedup();
    categories
}

/// What the collapse keys of jobs name: tenant, user, name; each once.
pub(in crate::store) fn collapse_names(jobs: &[PlanJob]) -> Vec<(&str, String, Arc<str>)> {
    let mut names: Vec<_> = jobs
        .iter()
        .filter_map(|job| Some((job, job.collapse()?)))
        .flat_map(|(job, collapse)| {
            job.users.iter().map(move |addressee| {
                let user = addressee.user.to_string();
                (job.lease.tenant.as_str(), user, Arc::clone(&collapse))
            })
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Tenant, channel, address.
pub(in crate::store) type SuppressedColumns = (String, String, String);

/// Tenant, user, category, channel.
pub(in crate::store) type OptOutColumns = (String, String, String, String);

pub(in crate::store) fn bars(
    sought: &[Sought<'_>],
    suppressed: Vec<SuppressedColumns>,
    opted_out: Vec<OptOutColumns>,
) -> Result<Bars, StoreError> {
    let mut bars = Bars::default();
    let suppressed: HashSet<SuppressedColumns> = suppressed.into_iter().collect();
    for one in sought.iter().filter(|_| !suppressed.is_empty()) {
        let found = (
            one.tenant.to_owned(),
            one.channel.to_owned(),
            one.spelled.clone().into_owned(),
        );
        if suppressed.contains(&found) {
            bars.suppressed
                .insert((word(one.tenant)?, word(one.channel)?, word(one.address)?));
        }
    }
    for (tenant, user, category, channel) in opted_out {
        bars.opted_out
            .insert((word(&tenant)?, word(&user)?, word(&category)?, word(&channel)?));
    }
    Ok(bars)
}

/// Tenant, user, name, id, channel, address, the far end's id.
pub(in crate::store) type EarlierColumns = (String, String, String, String, String, String, Option<String>);

pub(in crate::store) fn earlier(rows: Vec<EarlierColumns>) -> Result<EarlierOnes, StoreError> {
    let mut earlier = EarlierOnes::new();
    for (tenant, user, name, id, channel, address, provider_id) in rows {
        let name: CollapseName = ((word(&tenant)?, word(&user)?), Arc::from(name));
        earlier.entry(name).or_default().push(Earlier {
            id: word(&id)?,
            channel: word(&channel)?,
            address: word(&address)?,
            provider_id,
        });
    }
    Ok(earlier)
}

/// Id, channel, lane, attempts.
pub(in crate::store) type SentColumns = (String, String, String, i64);

pub(in crate::store) fn sent(row: SentColumns) -> Result<Sent, StoreError> {
    let (id, channel, lane, attempts) = row;
    Ok(Sent {
        id: word(&id)?,
        channel: word(&channel)?,
        lane: Arc::from(lane),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    })
}

/// The lanes that jobs write to: all of them, or those with a collapse key.
pub(in crate::store) fn lanes_of(jobs: &[PlanJob], collapsing: bool) -> std::collections::BTreeSet<LaneKey> {
    jobs.iter()
        .filter(|job| !collapsing || job.notification.collapse_key.is_some())
        .flat_map(|job| {
            job.sendable().map(|(_, outgoing)| LaneKey {
                tenant: job.lease.tenant.clone(),
                channel: outgoing.channel.clone(),
                lane: Arc::clone(&outgoing.lane),
                strand: Arc::clone(&outgoing.strand),
            })
        })
        .collect()
}
