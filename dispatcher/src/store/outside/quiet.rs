//! First attempts that quiet hours put off: what was decided before they began, and has waited since. Pure: rows in, rows
//! out.

use carillon_domain::Timestamp;
use carillon_policy::{QuietHours, Reason, Zone};
use carillon_sql::StoreError;

use super::decide::Effects;
use crate::{
    policy::UserPolicy,
    store::{
        ladder::{Decision, Why},
        ledger::encode,
    },
};

/// Quiet hours, and in which zone they are read.
#[derive(Debug, Clone)]
pub(in crate::store) struct Quiet {
    pub(in crate::store) hours: QuietHours,
    pub(in crate::store) zone: Zone,
}

impl Quiet {
    /// From a zone's name and what its recipient wants. What cannot be read holds nothing up.
    pub(in crate::store) fn stored((zone, body): (Option<String>, Option<String>)) -> Option<Self> {
        let (zone, body) = (zone?, body?);
        match UserPolicy::read(&body) {
            Ok(policy) => Some(Self {
                hours: policy.quiet_hours?,
                zone: zone.parse().unwrap_or_default(),
            }),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what a user wants cannot be read; quiet hours do not hold"
                );
                None
            }
        }
    }

    /// Why nothing starts now, if nothing does.
    pub(in crate::store) fn reason(&self, now: Timestamp) -> Option<Reason> {
        let until = self.hours.until(&self.zone, now)?;
        let zone = self.zone.clone();
        Some(Reason::QuietHours { until, zone })
    }
}

/// The decision that a first attempt is put off.
pub(in crate::store) struct HeldRow<'a> {
    pub(in crate::store) tenant: &'a str,
    pub(in crate::store) delivery: String,
    /// At the least.
    pub(in crate::store) number: i64,
    pub(in crate::store) body: String,
}

/// The decisions that first attempts are put off.
pub(in crate::store) fn held(now: Timestamp, effects: &Effects) -> Result<Vec<HeldRow<'_>>, StoreError> {
    let rows = effects.held.iter().zip(0..);
    rows.map(|(((tenant, delivery), reason), place)| {
        let reason = reason.clone();
        Ok(HeldRow {
            tenant: tenant.as_str(),
            delivery: delivery.to_string(),
            number: now.as_micros().saturating_add(place),
            body: encode(&Decision::Held(Why { reason }))?,
        })
    })
    .collect()
}
