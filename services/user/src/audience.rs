//! Pages of audiences: several become one list, by internal id.

use std::collections::BTreeSet;

use carillon_domain::{
    TenantId, Timestamp, UserId,
    ports::{Audience, AudiencePage, Unavailable},
};

use crate::Users;

/// The most users of one page, whatever is asked for.
const MAX_PAGE: usize = 5_000;

/// What was read of one audience.
pub(crate) struct Scanned {
    /// Ascending.
    pub(crate) users: Vec<UserId>,
    /// Up to where everybody was looked at; none: to the end.
    pub(crate) through: Option<UserId>,
}

/// One page of several: only as far as all were looked at, and no longer than `limit`.
pub(crate) fn merge(scans: Vec<Scanned>, limit: usize) -> AudiencePage {
    let through = scans.iter().filter_map(|scan| scan.through).min();
    let mut users: Vec<UserId> = scans
        .into_iter()
        .flat_map(|scan| scan.users)
        .filter(|user| through.is_none_or(|through| *user <= through))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if users.len() <= limit {
        return AudiencePage { users, next: through };
    }
    users.truncate(limit);
    let next = users.last().copied();
    AudiencePage { users, next }
}

impl Users {
    pub(crate) async fn read_audience(
        &self,
        tenant: &TenantId,
        audiences: &[Audience],
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<AudiencePage, Unavailable> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut scans = Vec::with_capacity(audiences.len());
        for audience in audiences {
            scans.push(match audience {
                Audience::Topic(topic) => {
                    let rows = self.store.subscribers(tenant, topic, after, limit).await?;
                    let full = rows.len() == limit;
                    let last = rows.last().map(|(user, _)| *user);
                    Scanned {
                        users: rows
                            .into_iter()
                            .filter(|(_, since)| *since <= born_before)
                            .map(|(user, _)| user)
                            .collect(),
                        through: last.filter(|_| full),
                    }
                }
                Audience::Segment(segment) => {
                    self.scan_segment(tenant, segment, after, born_before, limit)
                        .await?
                }
            });
        }
        Ok(merge(scans, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    fn scan(users: &[u8], through: Option<u8>) -> Scanned {
        Scanned {
            users: users.iter().map(|n| user(*n)).collect(),
            through: through.map(user),
        }
    }

    #[test]
    fn a_page_goes_only_as_far_as_every_audience_was_looked_at() {
        let page = merge(vec![scan(&[1, 4, 9], None), scan(&[2, 4], Some(5))], 10);
        assert_eq!(page.users, [user(1), user(2), user(4)]);
        assert_eq!(page.next, Some(user(5)), "nine comes later");
        let page = merge(vec![scan(&[1, 3], Some(3)), scan(&[2, 4], Some(4))], 2);
        assert_eq!((page.users, page.next), (vec![user(1), user(2)], Some(user(2))));
        let page = merge(vec![scan(&[], Some(7)), scan(&[8], None)], 2);
        assert_eq!((page.users, page.next), (vec![], Some(user(7))));
        let page = merge(vec![scan(&[1], None), scan(&[1], None)], 1);
        assert_eq!((page.users, page.next), (vec![user(1)], None));
        assert_eq!(merge(Vec::new(), 1), AudiencePage::default());
    }
}
