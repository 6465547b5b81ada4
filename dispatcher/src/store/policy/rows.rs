//! Rows as the databases give them, the same columns on both, made into records.

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::records::{ChoicesOf, PreferenceRow};
use crate::store::{records::UserKey, rows::word};

/// Category, channel, enabled, digest, time.
pub(in crate::store) type PreferenceColumns = (String, String, Option<i64>, Option<String>, i64);

pub(in crate::store) fn preference(row: PreferenceColumns) -> Result<PreferenceRow, StoreError> {
    let (category, channel, enabled, digest, at) = row;
    let named = |text: &str| !text.is_empty();
    Ok(PreferenceRow {
        category: Some(&*category)
            .filter(|text| named(text))
            .map(word)
            .transpose()?,
        channel: Some(&*channel).filter(|text| named(text)).map(word).transpose()?,
        enabled: enabled.map(|enabled| enabled != 0),
        digest,
        at: Timestamp::from_micros(at),
    })
}

/// Tenant, user, and the columns of a preference.
pub(in crate::store) type PreferenceOfColumns =
    (String, String, String, String, Option<i64>, Option<String>, i64);

/// Tenant, user, JSON.
pub(in crate::store) type PolicyOfColumns = (String, String, String);

/// Tenant, user, time.
pub(in crate::store) type AlertOfColumns = (String, String, i64);

pub(in crate::store) fn choices(
    preferences: Vec<PreferenceOfColumns>,
    policies: Vec<PolicyOfColumns>,
    alerts: Vec<AlertOfColumns>,
) -> Result<ChoicesOf, StoreError> {
    let mut choices = ChoicesOf::new();
    for (tenant, user, category, channel, enabled, digest, at) in preferences {
        let row = preference((category, channel, enabled, digest, at))?;
        choices
            .entry(key(&tenant, &user)?)
            .or_default()
            .preferences
            .push(row);
    }
    for (tenant, user, body) in policies {
        choices.entry(key(&tenant, &user)?).or_default().body = Some(body.into());
    }
    for (tenant, user, at) in alerts {
        let at = Timestamp::from_micros(at);
        choices.entry(key(&tenant, &user)?).or_default().alerts.push(at);
    }
    Ok(choices)
}

fn key(tenant: &str, user: &str) -> Result<UserKey, StoreError> {
    Ok((word(tenant)?, word(user)?))
}
