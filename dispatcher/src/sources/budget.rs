//! What one payload may cost. A mapping is small and a payload is bounded, but each place of the one can name all of the
//! other, for each of a thousand items.

use std::cell::Cell;

use serde_json::Value;

/// Bytes that one payload may make and look at, about: some thirty times the largest payload.
const BYTES: usize = 64 * 1024 * 1024;

/// What a value costs beside its text: about what it takes in memory.
const NODE: usize = 32;

/// What is left to spend on one payload. What is spent stays spent.
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(BYTES))
    }

    /// Of so many bytes.
    pub(crate) const fn of(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Pays for `bytes`; answers whether there was as much left.
    pub(crate) fn pay(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some_and(|left| left > 0)
    }

    /// Pays for looking at a value.
    pub(crate) fn visit(&self, values: usize) -> bool {
        self.pay(values.saturating_mul(NODE / 2))
    }

    /// Pays for all of a value, of which a part is about to be written; answers whether there was as much left.
    pub(crate) fn look(&self, value: &Value) -> bool {
        let before = self.0.get();
        let mut left = before;
        let fits = weigh(value, &mut left);
        self.pay(before - left) && fits
    }

    /// Whether there is nothing left.
    pub(crate) const fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// A copy of a value, paid for before it is made, also out of `most`; nothing when it is larger than that or than what
    /// is left.
    pub(crate) fn copy(&self, value: &Value, most: &mut usize) -> Option<Value> {
        let before = self.0.get().min(*most);
        let mut left = before;
        let fits = weigh(value, &mut left);
        let cost = before - left;
        *most -= cost;
        (self.pay(cost) && fits).then(|| value.clone())
    }
}

/// Takes from `left` what a value costs, and stops where nothing is left.
fn weigh(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => NODE + text.len(),
        _ => NODE,
    };
    let Some(rest) = left.checked_sub(own) else {
        *left = 0;
        return false;
    };
    *left = rest;
    match value {
        Value::Array(items) => items.iter().all(|item| weigh(item, left)),
        Value::Object(members) => members.iter().all(|(name, member)| {
            *left = left.saturating_sub(name.len());
            weigh(member, left)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_is_paid_for_before_it_is_made() {
        let budget = Budget::new();
        let value = json!({"a": ["text", 1, null]});
        assert_eq!(budget.copy(&value, &mut 1_000), Some(value.clone()));
        let large = json!(vec![0; 1_000_000]);
        assert_eq!(budget.copy(&large, &mut 1_000), None, "more than it may be");
        assert!(!budget.is_spent(), "only what was looked at is paid for");
        let copies = (0..1_000)
            .map_while(|_| budget.copy(&large, &mut { usize::MAX }))
            .count();
        assert_eq!(copies, 2, "32 MB each");
        assert!(budget.is_spent());
        assert_eq!(budget.copy(&value, &mut 1_000), None);
    }
}
