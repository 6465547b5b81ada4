//! Rows as the databases give them, the same columns on both, made into records.

use std::sync::Arc;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::records::{CategoryRow, TemplateRow, TemplateVersionRow};
use crate::store::rows::{json, number, word};

/// Name, title, channels, policy, creation, last change.
pub(in crate::store) type CategoryColumns = (String, Option<String>, String, Option<String>, i64, i64);

pub(in crate::store) fn category(row: CategoryColumns) -> Result<CategoryRow, StoreError> {
    let (name, title, channels, policy, created, updated) = row;
    Ok(CategoryRow {
        name: word(&name)?,
        title,
        channels: json(&channels)?,
        policy,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Name, version, creation, last change.
pub(in crate::store) type TemplateColumns = (String, i64, i64, i64);

pub(in crate::store) fn template(row: TemplateColumns) -> Result<TemplateRow, StoreError> {
    let (name, version, created, updated) = row;
    Ok(TemplateRow {
        name: word(&name)?,
        version: number(version)?,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Version, default locale, locales, creation.
pub(in crate::store) type VersionColumns = (i64, String, String, i64);

pub(in crate::store) fn version(row: VersionColumns) -> Result<TemplateVersionRow, StoreError> {
    let (version, default_locale, locales, created) = row;
    Ok(TemplateVersionRow {
        version: number(version)?,
        default_locale,
        locales: Arc::from(locales),
        created_at: Timestamp::from_micros(created),
    })
}
