//! What starts of digests once their members are over.

use carillon_domain::NotificationId;

use super::{
    digests::{Look, MINUTE, close_one, every_minute, plan, tick},
    fixture::Fixture,
    planning_outside::lease,
};
use crate::store::*;

/// Why the one delivery of a digest ended.
async fn reason(f: &Fixture, digest: NotificationId) -> (String, Option<String>) {
    let delivery = f.recipient(digest, "ada").await.deliveries.remove(0);
    (delivery.state, delivery.reason)
}

pub(super) async fn a_digest_whose_members_were_overtaken_ends_at_its_start(f: Fixture) {
    let look = Look {
        channels: vec!["in_app", "push"],
        ..every_minute()
    };
    let overtaken = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&overtaken)).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    f.accept(&[f.collapsing(&["ada"], "job")]).await;
    plan(&f, &look).await;
    assert_eq!(
        f.recipient(overtaken.id, "ada").await.state,
        RecipientState::Superseded
    );
    assert_eq!(reason(&f, digest).await.0, "pending");
    assert!(lease(&f).await.is_empty(), "nothing of it is left");
    let why = "all that was in it was answered or taken back".to_owned();
    assert_eq!(reason(&f, digest).await, ("cancelled".to_owned(), Some(why)));
    tick(&f, &look).await;
    assert_eq!(
        f.recipient(digest, "ada").await.state,
        RecipientState::Skipped,
        "nobody waits for it any longer"
    );
}
