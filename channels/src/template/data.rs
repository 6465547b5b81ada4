//! The caller's data as templates see it. Its lists and objects know a digest of what they hold, so that comparing two of
//! them, which costs a template one step, costs us one as well.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use minijinja::{
    Value,
    value::{DynObject, Enumerator, Object, ObjectRepr},
};

/// A list.
#[derive(Debug)]
pub(super) struct List {
    items: Vec<Value>,
    digest: u64,
}

/// An object.
#[derive(Debug)]
pub(super) struct Map {
    /// In the order in which a loop sees them.
    keys: Vec<Value>,
    values: BTreeMap<String, Value>,
    digest: u64,
}

/// One rendering's data.
pub(super) fn data(json: &serde_json::Value) -> Value {
    convert(json, &RandomState::new()).0
}

/// A list that a filter made. Another one is equal only where it holds the same values, not equal ones.
pub(super) fn list(items: Vec<Value>) -> Value {
    let hasher = RandomState::new();
    let digest = hasher.hash_one(items.len());
    Value::from_object(List { items, digest })
}

fn convert(json: &serde_json::Value, hasher: &RandomState) -> (Value, u64) {
    match json {
        serde_json::Value::Null => (Value::from(()), hasher.hash_one(0_u8)),
        serde_json::Value::Bool(value) => (Value::from(*value), hasher.hash_one(value)),
        serde_json::Value::String(text) => (Value::from(text.as_str()), hasher.hash_one(text)),
        serde_json::Value::Number(number) => {
            let value = match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::from(number),
                (None, Some(number)) => Value::from(number),
                (None, None) => Value::from(number.as_f64().unwrap_or_default()),
            };
            (value, hasher.hash_one(number))
        }
        serde_json::Value::Array(items) => {
            let (items, digests): (Vec<_>, Vec<_>) = items.iter().map(|item| convert(item, hasher)).unzip();
            let digest = hasher.hash_one((1_u8, digests));
            (Value::from_object(List { items, digest }), digest)
        }
        serde_json::Value::Object(entries) => {
            let mut digests = BTreeMap::new();
            let (mut keys, mut values) = (Vec::with_capacity(entries.len()), BTreeMap::new());
            for (key, value) in entries {
                let (value, digest) = convert(value, hasher);
                keys.push(Value::from(key.as_str()));
                values.insert(key.clone(), value);
                digests.insert(key, digest);
            }
            let digest = hasher.hash_one((2_u8, digests));
            (Value::from_object(Map { keys, values, digest }), digest)
        }
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(self.digest.cmp(&other.digest))
    }
}

impl Object for Map {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        // One key at a time: asking for the first costs one.
        let map = Arc::clone(self);
        Enumerator::Iter(Box::new((0..self.keys.len()).map(move |at| map.keys[at].clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.keys.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(self.digest.cmp(&other.digest))
    }
}
