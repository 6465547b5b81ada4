use std::{borrow::Cow, fmt};

use carillon_runtime::http::FieldError;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The most items of a batch.
pub(super) const MAX_BATCH: usize = 1_000;

/// What is said of a batch with fewer or more.
pub(super) const COUNT: &str = "must have 1 to 1000 items";

/// The most faults that an answer names.
const MAX_FAULTS: usize = 100;

/// 1-1,000 items as they came: each is read by itself, so that the faults of all can be told. A longer list is refused
/// while it is read.
pub(super) struct BatchItems(pub(super) Vec<Box<RawValue>>);

impl<'de> Deserialize<'de> for BatchItems {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = BatchItems;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of 1 to 1000 items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BatchItems, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MAX_BATCH {
                        return Err(A::Error::custom(COUNT));
                    }
                    items.push(item);
                }
                if items.is_empty() {
                    return Err(A::Error::custom(COUNT));
                }
                Ok(BatchItems(items))
            }
        }

        deserializer.deserialize_seq(Items)
    }
}

/// What is wrong with a batch. Of too many faults the first one of each item is told before the second one of any.
#[derive(Default)]
pub(super) struct Faults(Vec<(usize, FieldError)>);

impl Faults {
    /// Adds what is wrong with one item.
    pub(super) fn of_item(&mut self, faults: Vec<FieldError>) {
        self.0.extend(faults.into_iter().take(MAX_FAULTS).enumerate());
    }

    /// All of them, or the hundred that tell most.
    pub(super) fn told(mut self) -> Vec<FieldError> {
        let left_out = self.0.len().saturating_sub(MAX_FAULTS);
        if left_out > 0 {
            self.0.sort_by_key(|(rank, _)| *rank);
            self.0.truncate(MAX_FAULTS - 1);
        }
        let mut told: Vec<FieldError> = self.0.into_iter().map(|(_, fault)| fault).collect();
        if left_out > 0 {
            let rest: Cow<'static, str> = format!("and {} more faults", left_out + 1).into();
            told.push(FieldError::new("", rest));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_faults_every_item_s_first_is_told() {
        let mut faults = Faults::default();
        faults.of_item(
            (0..500)
                .map(|n| FieldError::new(format!("/0/{n}"), "bad"))
                .collect(),
        );
        for item in 1..90 {
            faults.of_item(vec![FieldError::new(format!("/{item}"), "bad")]);
        }
        let told = faults.told();
        assert_eq!(told.len(), MAX_FAULTS);
        for item in 1..90 {
            assert!(told.iter().any(|fault| fault.pointer == format!("/{item}")));
        }
        assert_eq!(told[0].pointer, "/0/0");
        assert_eq!(told[MAX_FAULTS - 1].detail, "and 90 more faults");
    }
}
