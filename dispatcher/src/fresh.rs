//! What was accepted a moment ago, as the intake had it, so that the planner need not read it again. A notification that
//! is not here is read from the store: nothing depends on this. What an erasure changes meanwhile is leased anew, and so
//! the lease that came with this row plans nothing any more.

use std::{collections::HashMap, mem, sync::Arc};

use carillon_domain::{NotificationId, NotificationState, TenantId};
use carillon_sql::StoreError;
use parking_lot::Mutex;

use crate::store::{NewNotification, NotificationRow};

/// About how many bytes each of the two halves holds.
const HALF: usize = 2 * 1024 * 1024;

/// Notifications by tenant and id, each taken once. When the younger half is full the older one is forgotten.
#[derive(Default)]
pub(crate) struct Fresh {
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<Key, NewNotification>,
    bytes: usize,
    old: HashMap<Key, NewNotification>,
}

type Key = (TenantId, NotificationId);

impl Fresh {
    /// Keeps notifications that were just committed.
    pub(crate) fn keep(&self, tenant: &TenantId, rows: impl Iterator<Item = NewNotification>) {
        let mut halves = self.halves.lock();
        for row in rows {
            let bytes = row.weight();
            if halves.bytes + bytes > HALF {
                halves.old = mem::take(&mut halves.young);
                halves.bytes = 0;
            }
            halves.bytes += bytes;
            halves.young.insert((tenant.clone(), row.id), row);
        }
    }

    /// Takes those that are here.
    ///
    /// # Errors
    /// As for a stored row that cannot be read.
    pub(crate) fn take<'a>(
        &self,
        keys: impl Iterator<Item = (&'a TenantId, NotificationId)>,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        let mut taken = Vec::new();
        {
            let mut halves = self.halves.lock();
            for (tenant, id) in keys {
                let key = (tenant.clone(), id);
                if let Some(row) = halves.young.remove(&key) {
                    halves.bytes = halves.bytes.saturating_sub(row.weight());
                    taken.push((key.0, row));
                } else if let Some(row) = halves.old.remove(&key) {
                    taken.push((key.0, row));
                }
            }
        }
        taken
            .into_iter()
            .map(|(tenant, row)| accepted(tenant, row))
            .collect()
    }
}

/// The row as the store would give it.
fn accepted(tenant: TenantId, row: NewNotification) -> Result<NotificationRow, StoreError> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(error.to_string());
    Ok(NotificationRow {
        tenant,
        id: row.id,
        state: NotificationState::Accepted,
        category: row.category,
        priority: row.priority,
        collapse_key: row.collapse_key,
        digest_key: row.digest_key,
        content: Arc::clone(&row.content),
        targets: serde_json::from_str(&row.targets).map_err(corrupt)?,
        channels: row
            .channels
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(corrupt)?,
        template: row.template,
        plan: row.plan,
        critical: row.critical,
        created_at: row.created_at,
        send_at: row.send_at,
        expires_at: row.expires_at,
        digest: None,
        topics: None,
    })
}

#[cfg(test)]
mod tests {
    use carillon_domain::{Category, Priority, Timestamp};

    use super::*;

    fn row(content: &str) -> NewNotification {
        let now = Timestamp::from_micros(1_000_000);
        NewNotification {
            id: NotificationId::at(now),
            category: Category::default(),
            priority: Priority::default(),
            collapse_key: None,
            digest_key: None,
            content: Arc::from(content),
            targets: Arc::from(r#"[{"user":"ada"}]"#),
            channels: None,
            template: None,
            plan: None,
            critical: false,
            created_at: now,
            send_at: now,
            expires_at: now,
        }
    }

    #[test]
    fn each_is_there_once_and_only_for_its_tenant() {
        let (fresh, tenant) = (Fresh::default(), TenantId::default());
        let kept = row("{}");
        fresh.keep(&tenant, std::iter::once(kept.clone()));
        let other: TenantId = "other".parse().expect("a tenant");
        assert!(
            fresh
                .take([(&other, kept.id)].into_iter())
                .expect("reads")
                .is_empty()
        );
        let taken = fresh.take([(&tenant, kept.id)].into_iter()).expect("reads");
        assert_eq!((taken[0].id, taken[0].targets.len()), (kept.id, 1));
        assert!(
            fresh
                .take([(&tenant, kept.id)].into_iter())
                .expect("reads")
                .is_empty()
        );
    }

    #[test]
    fn what_nobody_takes_is_forgotten() {
        let (fresh, tenant) = (Fresh::default(), TenantId::default());
        let large = "x".repeat(HALF / 2 + 1);
        let rows = [row(&large), row(&large), row(&large)];
        fresh.keep(&tenant, rows.iter().cloned());
        let left: Vec<_> = rows
            .iter()
            .map(|row| fresh.take([(&tenant, row.id)].into_iter()).expect("reads").len())
            .collect();
        assert_eq!(left, [0, 1, 1]);
    }
}
