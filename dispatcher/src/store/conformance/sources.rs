use std::{sync::Arc, time::Duration};

use carillon_domain::{ChannelKind, DeliveryId, NotificationId, SourceName, TenantId};

use super::fixture::Fixture;
use crate::store::{outside::*, *};

fn name(text: &str) -> SourceName {
    text.parse().expect("a name")
}

fn write(f: &Fixture, tenant: &TenantId, text: &str) -> SourceWrite {
    SourceWrite {
        tenant: tenant.clone(),
        name: name(text),
        kind: "json",
        settings: r#"{"targets":[]}"#.to_owned(),
        sealed: Some("sealed".to_owned()),
        at: f.now(),
    }
}

pub(super) async fn a_source_is_what_was_put_last(f: Fixture) {
    let first = write(&f, &f.tenant, "ci");
    assert_eq!(
        f.store.put_source(&first, 5).await.expect("commits"),
        PutSource::Made
    );
    let made = f.now();
    f.advance(Duration::from_secs(1));
    let second = SourceWrite {
        kind: "github",
        settings: "{}".to_owned(),
        sealed: None,
        ..write(&f, &f.tenant, "ci")
    };
    let put = f.store.put_source(&second, 5).await.expect("commits");
    assert_eq!(put, PutSource::Replaced);
    let row = f
        .store
        .source(&f.tenant, &name("ci"))
        .await
        .expect("reads")
        .expect("there");
    let expected = SourceRow {
        name: name("ci"),
        kind: "github".to_owned(),
        settings: "{}".to_owned(),
        sealed: None,
        created_at: made,
        updated_at: f.now(),
    };
    assert_eq!(row, expected);
    assert!(
        f.store
            .delete_source(&f.tenant, &name("ci"))
            .await
            .expect("commits")
    );
    assert!(
        !f.store
            .delete_source(&f.tenant, &name("ci"))
            .await
            .expect("commits")
    );
    assert_eq!(f.store.source(&f.tenant, &name("ci")).await.expect("reads"), None);
}

pub(super) async fn a_tenant_has_so_many_sources_and_no_other_tenants(f: Fixture) {
    let other: TenantId = "other".parse().expect("a tenant");
    f.store
        .put_source(&write(&f, &other, "b"), 2)
        .await
        .expect("commits");
    for (text, put) in [
        ("b", PutSource::Made),
        ("a", PutSource::Made),
        ("c", PutSource::Full),
        ("a", PutSource::Replaced),
    ] {
        let answered = f
            .store
            .put_source(&write(&f, &f.tenant, text), 2)
            .await
            .expect("commits");
        assert_eq!(answered, put, "{text}");
    }
    let names = async |after: Option<&str>, limit| {
        let after = after.map(name);
        let rows = f
            .store
            .sources(&f.tenant, after.as_ref(), limit)
            .await
            .expect("reads");
        rows.into_iter()
            .map(|row| row.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None, 10).await, ["a", "b"]);
    assert_eq!(names(None, 1).await, ["a"]);
    assert_eq!(names(Some("a"), 10).await, ["b"]);
    f.store
        .delete_source(&f.tenant, &name("b"))
        .await
        .expect("commits");
    assert!(f.store.source(&other, &name("b")).await.expect("reads").is_some());
    let full = f
        .store
        .put_source(&write(&f, &other, "b"), 0)
        .await
        .expect("commits");
    assert_eq!(
        full,
        PutSource::Replaced,
        "one that is there can always be changed"
    );
}

/// An email that a server took.
fn email(f: &Fixture, notification: NotificationId, address: &str) -> OutsideRow {
    OutsideRow {
        tenant: f.tenant.clone(),
        id: DeliveryId::at(f.now()),
        brings: Brings::Notification(notification),
        user: Some(f.user("ada")),
        step: 0,
        channel: ChannelKind::EMAIL.parse().expect("a channel"),
        address: address.parse().expect("an address"),
        device: None,
        lane: Arc::from("relay"),
        locale: None,
        state: DeliveryState::Accepted,
        reason: None,
        provider_id: None,
        collapse: None,
        created_at: f.now(),
        expires_at: f.now().after(Duration::from_secs(60)),
    }
}

pub(super) async fn a_bounce_is_told_of_the_delivery_and_suppresses_a_dead_address(f: Fixture) {
    let notification = f.notification(&["ada"]);
    let id = notification.id;
    f.accept(&[notification]).await;
    let rows = [email(&f, id, "full@a.example"), email(&f, id, "dead@a.example")];
    f.store.open_work(&rows, &[]).await.expect("commits");
    let bounce = |delivery, hard| BounceWrite {
        tenant: f.tenant.clone(),
        delivery,
        hard,
        detail: Some("5.1.1 no such user".to_owned()),
        at: f.now(),
    };
    let suppressed = async || {
        let query = SuppressionQuery {
            channel: None,
            after: None,
            limit: 10,
        };
        f.store.suppressions(&f.tenant, &query).await.expect("reads")
    };
    let told = f.store.bounce(&bounce(rows[0].id, false)).await.expect("commits");
    assert_eq!(told.map(|told| told.address).as_ref(), Some(&rows[0].address));
    assert!(
        suppressed().await.is_empty(),
        "a mailbox that is full is not dead"
    );
    for _ in 0..2 {
        let told = f.store.bounce(&bounce(rows[1].id, true)).await.expect("commits");
        assert_eq!(told.map(|told| told.address).as_ref(), Some(&rows[1].address));
    }
    let rows_suppressed = suppressed().await;
    assert_eq!(rows_suppressed.len(), 1);
    assert_eq!(
        (
            &rows_suppressed[0].address,
            &*rows_suppressed[0].reason,
            rows_suppressed[0].delivery
        ),
        (&rows[1].address, "bounced", Some(rows[1].id))
    );
    let (detail, _) = f
        .store
        .delivery(&f.tenant, rows[1].id)
        .await
        .expect("reads")
        .expect("there");
    assert_eq!(
        detail.state,
        DeliveryState::Accepted,
        "it was taken, that stays true"
    );
    assert_eq!(detail.reason.as_deref(), Some("bounced: 5.1.1 no such user"));
    let other: TenantId = "other".parse().expect("a tenant");
    for foreign in [
        BounceWrite {
            tenant: other,
            ..bounce(rows[1].id, true)
        },
        bounce(DeliveryId::at(f.now()), true),
    ] {
        assert_eq!(f.store.bounce(&foreign).await.expect("reads"), None);
    }
}
