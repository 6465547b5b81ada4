//! What a tenant says of a user: a JSON object within bounds.

use carillon_runtime::http::FieldError;
use serde_json::{Map, Value};

/// The most bytes, encoded.
const MAX_BYTES: usize = 16 * 1024;

/// The most keys, over all levels.
const MAX_KEYS: usize = 64;

/// How deep objects and lists stand in each other, the object itself included.
const MAX_DEPTH: usize = 4;

/// The attributes as they are stored.
///
/// # Errors
/// Where they exceed a bound, below `/attributes`.
pub(crate) fn encode(attributes: &Map<String, Value>) -> Result<String, FieldError> {
    let mut keys = 0;
    measure_object(attributes, "/attributes", 1, &mut keys)?;
    if keys > MAX_KEYS {
        return Err(FieldError::new("/attributes", "attributes have at most 64 keys"));
    }
    match serde_json::to_string(attributes) {
        Ok(text) if text.len() <= MAX_BYTES => Ok(text),
        _ => Err(FieldError::new("/attributes", "attributes are at most 16 KiB")),
    }
}

fn measure_object(
    object: &Map<String, Value>,
    at: &str,
    depth: usize,
    keys: &mut usize,
) -> Result<(), FieldError> {
    *keys += object.len();
    for (key, value) in object {
        let key = key.replace('~', "~0").replace('/', "~1");
        measure(value, &format!("{at}/{key}"), depth + 1, keys)?;
    }
    Ok(())
}

fn measure(value: &Value, at: &str, depth: usize, keys: &mut usize) -> Result<(), FieldError> {
    if (value.is_array() || value.is_object()) && depth > MAX_DEPTH {
        return Err(FieldError::new(at, "attributes are at most 4 deep"));
    }
    match value {
        Value::Object(object) => measure_object(object, at, depth, keys),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                measure(item, &format!("{at}/{index}"), depth + 1, keys)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointer(attributes: &Value) -> Option<String> {
        let object = attributes.as_object().expect("an object");
        encode(object).err().map(|fault| fault.pointer)
    }

    #[test]
    fn attributes_stay_within_their_bounds() {
        let wide = |keys: usize| {
            (0..keys)
                .map(|n| (n.to_string(), json!(1)))
                .collect::<Map<_, _>>()
        };
        assert_eq!(pointer(&json!({"a": {"b": [{"c": 1}]}})), None);
        assert_eq!(
            pointer(&json!({"a/": {"b": [{"c": []}]}})).as_deref(),
            Some("/attributes/a~1/b/0/c")
        );
        assert_eq!(pointer(&wide(64).into()), None);
        assert_eq!(pointer(&wide(65).into()).as_deref(), Some("/attributes"));
        assert_eq!(
            pointer(&json!({"a": wide(63), "b": {"c": 1}})).as_deref(),
            Some("/attributes")
        );
        assert_eq!(pointer(&json!({"a": "x".repeat(MAX_BYTES - 8)})), None);
        assert_eq!(
            pointer(&json!({"a": "x".repeat(MAX_BYTES - 7)})).as_deref(),
            Some("/attributes")
        );
    }
}
