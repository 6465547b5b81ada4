//! Subscriptions to topics that are kept: who gets what is said to a topic, connected or not. Pure: what a list of changes
//! does is worked out from the rows that are there.

use std::collections::{HashMap, HashSet};

use carillon_domain::{ExternalUserId, UserId};

/// How many topics a user is subscribed to at the most.
pub(crate) const MAX_SUBSCRIPTIONS: i64 = 10_000;

/// One change of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) user: ExternalUserId,
    /// Whether he is to be subscribed; else he is not to be.
    pub(crate) subscribe: bool,
}

/// What an item led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemOutcome {
    /// Is subscribed now.
    Subscribed,
    /// Was subscribed before, and still is.
    AlreadySubscribed,
    /// Is not subscribed any more.
    Unsubscribed,
    /// Was not subscribed.
    NotSubscribed,
    /// Has 10,000 subscriptions already.
    Full,
}

/// What is known of those whom a list names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) ids: HashMap<ExternalUserId, UserId>,
    /// Who is subscribed to the topic.
    pub(crate) subscribed: HashSet<UserId>,
    /// How many subscriptions they have, over all topics.
    pub(crate) counts: HashMap<UserId, i64>,
}

/// What a list does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// One per item, in their order.
    pub(crate) outcomes: Vec<ItemOutcome>,
    pub(crate) added: Vec<UserId>,
    pub(crate) removed: Vec<UserId>,
}

/// Applies items one after the other.
pub(crate) fn apply(items: &[Item], known: Known, most: i64) -> Applied {
    let Known {
        ids,
        subscribed: before,
        mut counts,
    } = known;
    let mut now = before.clone();
    let outcomes = items
        .iter()
        .map(|item| {
            let Some(user) = ids.get(&item.user) else {
                // Subscribing makes users: only one who was to be unsubscribed is unknown.
                return ItemOutcome::NotSubscribed;
            };
            let count = counts.entry(*user).or_default();
            match (item.subscribe, now.contains(user)) {
                (true, true) => ItemOutcome::AlreadySubscribed,
                (true, false) if *count >= most => ItemOutcome::Full,
                (true, false) => {
                    *count += 1;
                    now.insert(*user);
                    ItemOutcome::Subscribed
                }
                (false, true) => {
                    *count -= 1;
                    now.remove(user);
                    ItemOutcome::Unsubscribed
                }
                (false, false) => ItemOutcome::NotSubscribed,
            }
        })
        .collect();
    let mut added: Vec<UserId> = now.difference(&before).copied().collect();
    let mut removed: Vec<UserId> = before.difference(&now).copied().collect();
    added.sort_unstable();
    removed.sort_unstable();
    Applied {
        outcomes,
        added,
        removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(user: &str, subscribe: bool) -> Item {
        Item {
            user: user.parse().expect("a user"),
            subscribe,
        }
    }

    #[test]
    fn items_follow_each_other_and_quotas_count_each_user() {
        let (ada, bob) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let known = Known {
            ids: [("ada", ada), ("bob", bob)]
                .into_iter()
                .map(|(name, id)| (name.parse().expect("a user"), id))
                .collect(),
            subscribed: HashSet::from([bob]),
            counts: HashMap::from([(ada, 1), (bob, 2)]),
        };
        let items = [
            item("ada", true),
            item("ada", true),
            item("ada", false),
            item("ada", true),
            item("bob", true),
            item("bob", false),
            item("eve", false),
        ];
        let applied = apply(&items, known.clone(), 2);
        assert_eq!(
            applied.outcomes,
            [
                ItemOutcome::Subscribed,
                ItemOutcome::AlreadySubscribed,
                ItemOutcome::Unsubscribed,
                ItemOutcome::Subscribed,
                ItemOutcome::AlreadySubscribed,
                ItemOutcome::Unsubscribed,
                ItemOutcome::NotSubscribed,
            ]
        );
        assert_eq!((applied.added, applied.removed), (vec![ada], vec![bob]));
        let full = apply(&items[..1], known, 1);
        assert_eq!((full.outcomes, full.added), (vec![ItemOutcome::Full], vec![]));
    }
}
