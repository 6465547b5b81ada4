use serde::de::DeserializeOwned;

use crate::StoreError;

/// The rows of an SQLite statement that makes them a `json_group_array` of `json_array`s: each row of an answer is a message
/// between threads, and so all of them are one.
///
/// # Errors
/// When the list does not hold such rows.
pub fn together<R: DeserializeOwned>((list,): (String,)) -> Result<Vec<R>, StoreError> {
    serde_json::from_str(&list).map_err(|error| StoreError::Corrupt(error.to_string()))
}
