use std::{borrow::Cow, fmt};

use carillon_runtime::http::{FieldError, Problem};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The most faults that an answer names.
const MAX_FAULTS: usize = 100;

/// 1 to `MOST` items as they came: each is read by itself, so that the faults of all can be told. A longer list is
/// refused while it is read.
#[derive(Debug)]
pub(crate) struct BatchItems<const MOST: usize>(Vec<Box<RawValue>>);

impl<const MOST: usize> BatchItems<MOST> {
    /// What `read` makes of every item and its JSON pointer, which begins with `list`.
    pub(super) fn each<T>(&self, list: &str, mut read: impl FnMut(&RawValue, &str) -> T) -> Vec<T> {
        let items = self.0.iter().enumerate();
        items
            .map(|(index, item)| read(item, &format!("{list}/{index}")))
            .collect()
    }

    /// Reads every item; `read` gets the item, its index and its JSON pointer, which begins with `list`.
    ///
    /// # Errors
    /// 422 with what is wrong with any of them.
    pub(super) fn read_each<T>(
        &self,
        list: &str,
        mut read: impl FnMut(&RawValue, &str) -> Result<T, Vec<FieldError>>,
    ) -> Result<Vec<T>, Problem> {
        let mut accepted = Vec::with_capacity(self.0.len());
        let mut faults = Faults::default();
        for (index, item) in self.0.iter().enumerate() {
            match read(item, &format!("{list}/{index}")) {
                Ok(item) => accepted.push(item),
                Err(errors) => faults.of_item(errors),
            }
        }
        if faults.0.is_empty() {
            Ok(accepted)
        } else {
            Err(Problem::invalid(faults.told()))
        }
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for BatchItems<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<const MOST: usize>;

        impl<'de, const MOST: usize> Visitor<'de> for Items<MOST> {
            type Value = BatchItems<MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of 1 to {MOST} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BatchItems<MOST>, A::Error> {
                let count = || A::Error::custom(format_args!("must have 1 to {MOST} items"));
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST {
                        return Err(count());
                    }
                    items.push(item);
                }
                if items.is_empty() {
                    return Err(count());
                }
                Ok(BatchItems(items))
            }
        }

        deserializer.deserialize_seq(Items)
    }
}

/// What is wrong with a batch. Of too many faults the first one of each item is told before the second one of any.
#[derive(Default)]
struct Faults(Vec<(usize, FieldError)>);

impl Faults {
    /// Adds what is wrong with one item. What is wrong beside the items is told once.
    fn of_item(&mut self, faults: Vec<FieldError>) {
        for (rank, fault) in faults.into_iter().take(MAX_FAULTS).enumerate() {
            if !self.0.iter().rev().take(1).any(|(_, last)| *last == fault) {
                self.0.push((rank, fault));
            }
        }
    }

    /// All of them, or the hundred that tell most.
    fn told(mut self) -> Vec<FieldError> {
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
