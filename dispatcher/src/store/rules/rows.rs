//! Rows as the databases give them, made into records.

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::{Revision, RuleErrorRow, RuleRow};
use crate::store::rows::{number, word};

/// Name, version, body, creation of the rule, creation of the version.
pub(in crate::store) type RuleColumns = (String, i64, String, i64, i64);

pub(in crate::store) fn rule(row: RuleColumns) -> Result<RuleRow, StoreError> {
    let (name, version, body, created, updated) = row;
    Ok(RuleRow {
        name: word(&name)?,
        version: number(version)?,
        body,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Event, version, reason, time.
pub(in crate::store) type RuleErrorColumns = (String, i64, String, i64);

pub(in crate::store) fn rule_error(row: RuleErrorColumns) -> Result<RuleErrorRow, StoreError> {
    let (event, version, reason, at) = row;
    Ok(RuleErrorRow {
        event: word(&event)?,
        version: number(version)?,
        reason,
        at: Timestamp::from_micros(at),
    })
}

/// Versions ever made, rules that are not deleted, the last change.
pub(in crate::store) type RevisionColumns = (i64, i64, i64);

pub(in crate::store) fn revision(row: RevisionColumns) -> Result<Revision, StoreError> {
    let (versions, rules, at) = row;
    Ok(Revision {
        versions: number(versions)?,
        rules: number(rules)?,
        at: Timestamp::from_micros(at),
    })
}
