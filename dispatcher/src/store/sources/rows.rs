//! Rows as the databases give them, made into records.

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::SourceRow;
use crate::store::rows::word;

/// Name, kind, settings, sealed secret, creation, last change.
pub(in crate::store) type SourceColumns = (String, String, String, Option<String>, i64, i64);

pub(in crate::store) fn source(row: SourceColumns) -> Result<SourceRow, StoreError> {
    let (name, kind, settings, sealed, created, updated) = row;
    Ok(SourceRow {
        name: word(&name)?,
        kind,
        settings,
        sealed,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}
