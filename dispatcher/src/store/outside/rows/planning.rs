//! What planning asks for about addresses and earlier deliveries.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{Address, ChannelKind, TenantId, Timestamp};
use carillon_sql::StoreError;

use crate::{
    policy::counted_since,
    store::{
        Fingerprints,
        digests::OpenDigests,
        outside::planning::{Bars, CollapseName, Earlier, EarlierOnes, Sent},
        plan::{OpenKey, Rival},
        policy::ChoicesOf,
        reach::{ReachRowColumns, reach_row},
        records::{PlanJob, UserKey},
        rows::word,
    },
};

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

/// The same as they are: tenant, channel, address.
pub(in crate::store) fn as_they_are<'a>(sought: &[Sought<'a>]) -> Vec<(&'a str, &'a str, &'a str)> {
    let plain = sought.iter().filter(|one| *one.spelled == *one.address);
    plain.map(|one| (one.tenant, one.channel, one.address)).collect()
}

/// How well addresses have proved to be within reach, where their channels tell at all what arrived.
pub(in crate::store) fn scores(
    now: Timestamp,
    rows: Vec<(String, ReachRowColumns)>,
) -> Result<HashMap<(TenantId, ChannelKind, Address), u8>, StoreError> {
    let mut scores = HashMap::new();
    for (tenant, row) in rows {
        let row = reach_row(row)?;
        if let Some(score) = row.score(now) {
            scores.insert((word(&tenant)?, row.channel, row.address), score);
        }
    }
    Ok(scores)
}

/// Whose choices count for jobs, each once; and since when their alerts do, where there are caps or throttles at all.
pub(in crate::store) fn choosers(now: Timestamp, jobs: &[PlanJob]) -> (Vec<UserKey>, Option<Timestamp>) {
    let users = jobs.iter().flat_map(|job| {
        let known = job.users.iter().filter(|addressee| addressee.plain.is_none());
        known.map(|addressee| (job.lease.tenant.clone(), addressee.user))
    });
    let mut users: Vec<UserKey> = users.collect();
    users.sort_unstable();
    users.dedup();
    let counting = jobs.iter().filter(|job| job.policies.count());
    let since = counting.map(|job| counted_since(&job.policies.tenant, now));
    (users, since.min())
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

/// What the collapse keys of jobs name for each of their recipients: tenant, user, category, key; each once.
pub(in crate::store) fn collapse_keys(jobs: &[PlanJob]) -> Vec<(&str, String, &str, &str)> {
    let mut keys: Vec<_> = jobs
        .iter()
        .filter_map(|job| Some((job, job.notification.collapse_key.as_ref()?)))
        .flat_map(|(job, collapse)| {
            let category = job.notification.category.as_str();
            job.users.iter().map(move |addressee| {
                let user = addressee.user.to_string();
                (job.lease.tenant.as_str(), user, category, collapse.as_str())
            })
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Tenant, user, category, collapse key, notification, when it was to be sent, whether its recipient is open.
pub(in crate::store) type RivalColumns = (String, String, String, String, String, i64, i64);

pub(in crate::store) fn rivals(rows: Vec<RivalColumns>) -> Result<HashMap<OpenKey, Vec<Rival>>, StoreError> {
    let mut rivals: HashMap<OpenKey, Vec<Rival>> = HashMap::new();
    for (tenant, user, category, collapse, id, send_at, open) in rows {
        let key = ((word(&tenant)?, word(&user)?), word(&category)?, word(&collapse)?);
        rivals.entry(key).or_default().push(Rival {
            notification: word(&id)?,
            send_at: Timestamp::from_micros(send_at),
            is_open: open != 0,
        });
    }
    Ok(rivals)
}

/// Tenant, channel, address.
pub(in crate::store) type SuppressedColumns = (String, String, String);

pub(in crate::store) fn bars(
    sought: &[Sought<'_>],
    suppressed: Vec<SuppressedColumns>,
    choices: ChoicesOf,
    digests: OpenDigests,
) -> Result<Bars, StoreError> {
    let mut bars = Bars {
        choices,
        digests,
        ..Bars::default()
    };
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
    Ok(bars)
}

/// Tenant, user, name, id, channel, address, the far end's id, what it brings.
pub(in crate::store) type EarlierColumns = (
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
);

pub(in crate::store) fn earlier(rows: Vec<EarlierColumns>) -> Result<EarlierOnes, StoreError> {
    let mut earlier = EarlierOnes::new();
    for (tenant, user, name, id, channel, address, provider_id, brings) in rows {
        let name: CollapseName = ((word(&tenant)?, word(&user)?), Arc::from(name));
        earlier.entry(name).or_default().push(Earlier {
            id: word(&id)?,
            notification: brings.parse().ok(),
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
