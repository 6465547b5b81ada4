use std::{sync::Arc, time::Duration};

use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_policy::Cap;
use tokio::task::JoinSet;

use super::fixture::Fixture;
use crate::store::{
    Erasure, Sweep,
    catalog::OptOut,
    policy::{AlertRow, Chosen, PreferenceChange, PreferenceChanges, PreferenceRow, PreferencesWritten},
};

fn change(category: &str, channel: &str, to: Option<(Option<bool>, Option<&str>)>) -> PreferenceChange {
    PreferenceChange {
        category: (!category.is_empty()).then(|| category.parse().expect("a category")),
        channel: (!channel.is_empty()).then(|| channel.parse().expect("a channel")),
        to: to.map(|(enabled, digest)| Chosen {
            enabled,
            digest: digest.map(str::to_owned),
        }),
    }
}

fn row(
    category: &str,
    channel: &str,
    enabled: Option<bool>,
    digest: Option<&str>,
    at: Timestamp,
) -> PreferenceRow {
    let change = change(category, channel, None);
    PreferenceRow {
        category: change.category,
        channel: change.channel,
        enabled,
        digest: digest.map(str::to_owned),
        at,
    }
}

async fn write(f: &Fixture, user: UserId, changes: &[PreferenceChange]) -> PreferencesWritten {
    changed(f, user, false, changes).await
}

async fn changed(f: &Fixture, user: UserId, whole: bool, changes: &[PreferenceChange]) -> PreferencesWritten {
    let changes = PreferenceChanges {
        whole,
        changes: changes.to_vec(),
    };
    f.store
        .change_preferences(f.now(), &f.tenant, user, &changes, 3)
        .await
        .expect("writes")
}

fn alert(f: &Fixture, user: &str, at: Timestamp) -> AlertRow {
    AlertRow {
        tenant: f.tenant.clone(),
        user: f.user(user),
        at,
        notification: NotificationId::at(at),
        category: "news".parse().expect("a category"),
    }
}

pub(super) async fn preferences_are_changed_together_and_bounded(f: Fixture) {
    let ada = f.user("ada");
    let read = async || f.store.preferences(&f.tenant, ada).await.expect("reads");
    let first = [
        change("news", "email", Some((Some(false), None))),
        change("news", "", Some((None, Some("daily")))),
        change("", "email", Some((Some(true), None))),
    ];
    assert_eq!(write(&f, ada, &first).await, PreferencesWritten::Done);
    let expected = [
        row("", "email", Some(true), None, f.now()),
        row("news", "", None, Some("daily"), f.now()),
        row("news", "email", Some(false), None, f.now()),
    ];
    assert_eq!(read().await, expected);
    let too_many = [
        change("news", "email", Some((Some(true), None))),
        change("chat", "", Some((Some(false), None))),
    ];
    assert_eq!(write(&f, ada, &too_many).await, PreferencesWritten::TooMany);
    assert_eq!(read().await, expected);
    let instead = [
        change("news", "email", None),
        change("chat", "", Some((Some(false), None))),
        change("chat", "sms", None),
    ];
    assert_eq!(write(&f, ada, &instead).await, PreferencesWritten::Done);
    assert_eq!(
        read().await,
        [
            row("", "email", Some(true), None, f.now()),
            row("chat", "", Some(false), None, f.now()),
            row("news", "", None, Some("daily"), f.now()),
        ]
    );
    let acme: TenantId = "acme".parse().expect("a tenant");
    assert_eq!(f.store.preferences(&acme, ada).await.expect("reads"), []);
    assert_eq!(
        f.store
            .preferences(&f.tenant, f.user("bob"))
            .await
            .expect("reads"),
        []
    );
}

pub(super) async fn choices_of_many_are_read_together(f: Fixture) {
    let (ada, bob, eve) = (f.user("ada"), f.user("bob"), f.user("eve"));
    write(&f, ada, &[change("news", "", Some((Some(false), None)))]).await;
    for (user, body) in [(bob, Some("{\"windows\":[]}")), (eve, Some("{}")), (eve, None)] {
        let put = f.store.put_user_policy(f.now(), &f.tenant, user, body);
        put.await.expect("writes");
    }
    assert_eq!(
        f.store
            .user_policy(&f.tenant, bob)
            .await
            .expect("reads")
            .as_deref(),
        Some("{\"windows\":[]}")
    );
    let choices = f
        .store
        .choices(&f.tenant, &[eve, ada, bob], f.now())
        .await
        .expect("reads");
    let [eve, ada, bob] = choices.as_slice() else {
        panic!("one of each: {choices:?}")
    };
    assert_eq!((eve.preferences.len(), eve.body.as_deref()), (0, None));
    assert_eq!((ada.preferences.len(), ada.body.as_deref()), (1, None));
    assert_eq!(
        (bob.preferences.len(), bob.body.as_deref()),
        (0, Some("{\"windows\":[]}"))
    );
    let acme: TenantId = "acme".parse().expect("a tenant");
    let put = f.store.put_tenant_policy(f.now(), &f.tenant, "{\"caps\":[]}");
    put.await.expect("writes");
    let read = async |tenant: &TenantId| f.store.tenant_policy(tenant).await.expect("reads");
    assert_eq!(read(&f.tenant).await.as_deref(), Some("{\"caps\":[]}"));
    assert_eq!(read(&acme).await, None);
}

pub(super) async fn a_click_is_a_preference(f: Fixture) {
    let ada = f.user("ada");
    let link = OptOut {
        tenant: f.tenant.clone(),
        user: ada,
        category: "news".parse().expect("a category"),
        channel: "email".parse().expect("a channel"),
    };
    for (off, expected) in [(true, Some(false)), (true, Some(false)), (false, Some(true))] {
        f.store.opt_out(f.now(), &link, off).await.expect("writes");
        let rows = f.store.preferences(&f.tenant, ada).await.expect("reads");
        assert_eq!(rows, [row("news", "email", expected, None, f.now())]);
        assert_eq!(f.store.opted_out(&link).await.expect("reads"), off);
    }
}

pub(super) async fn the_whole_of_the_preferences_is_replaced(f: Fixture) {
    let ada = f.user("ada");
    let first = [
        change("news", "email", Some((Some(false), None))),
        change("chat", "", Some((Some(false), None))),
    ];
    write(&f, ada, &first).await;
    write(&f, f.user("bob"), &first).await;
    let instead = [change("", "sms", Some((Some(true), None)))];
    assert_eq!(changed(&f, ada, true, &instead).await, PreferencesWritten::Done);
    let rows = f.store.preferences(&f.tenant, ada).await.expect("reads");
    assert_eq!(rows, [row("", "sms", Some(true), None, f.now())]);
    let too_many = ["a", "b", "c", "d"].map(|name| change(name, "", Some((Some(true), None))));
    assert_eq!(
        changed(&f, ada, true, &too_many).await,
        PreferencesWritten::TooMany
    );
    let rows = f.store.preferences(&f.tenant, ada).await.expect("reads");
    assert_eq!(rows.len(), 1, "what was refused changed nothing");
    let bobs = f
        .store
        .preferences(&f.tenant, f.user("bob"))
        .await
        .expect("reads");
    assert_eq!(bobs.len(), 2);
}

pub(super) async fn an_erased_user_wants_nothing_any_more(f: Fixture) {
    let ada = f.user("ada");
    let wish = [change("news", "email", Some((Some(false), None)))];
    write(&f, ada, &wish).await;
    let quiet = async || f.store.put_user_policy(f.now(), &f.tenant, ada, Some("{}")).await;
    assert!(quiet().await.expect("writes"));
    let counted = f
        .store
        .count_alert(&alert(&f, "ada", f.now()), &[], f.now())
        .await;
    assert!(counted.expect("writes"));
    let erasure = Erasure {
        tenant: f.tenant.clone(),
        user: ada,
        name: None,
    };
    f.store.erase(f.now(), &erasure).await.expect("erases");
    assert_eq!(write(&f, ada, &wish).await, PreferencesWritten::Erased);
    assert!(!quiet().await.expect("reads"));
    let choices = f.store.choices(&f.tenant, &[ada], Timestamp::default()).await;
    assert_eq!(
        choices.expect("reads"),
        [crate::store::policy::Choices::default()]
    );
}

pub(super) async fn a_cap_holds_however_many_alerts_start_at_once(f: Fixture) {
    let (start, hour) = (f.now(), Duration::from_secs(3_600));
    let caps = [Cap { max: 5, per: 3_600 }];
    let mut racing = JoinSet::new();
    for number in 0..40 {
        let at = start.after(Duration::from_secs(number));
        let user = if number % 4 == 0 { "bob" } else { "ada" };
        let (store, row) = (Arc::clone(&f.store), alert(&f, user, at));
        racing.spawn(async move {
            let counted = store.count_alert(&row, &caps, at.before(hour)).await;
            (row.user, counted.expect("writes"))
        });
    }
    let ended = racing.join_all().await;
    for user in ["ada", "bob"] {
        let user = f.user(user);
        let counted = ended
            .iter()
            .filter(|(of, counted)| *of == user && *counted)
            .count();
        assert_eq!(counted, 5);
        let choices = f.store.choices(&f.tenant, &[user], start.before(hour)).await;
        assert_eq!(choices.expect("reads")[0].alerts.len(), 5);
    }
    // Elsewhere the same person is somebody else.
    let acme = AlertRow {
        tenant: "acme".parse().expect("a tenant"),
        ..alert(&f, "ada", start)
    };
    let counted = f.store.count_alert(&acme, &caps, start.before(hour)).await;
    assert!(counted.expect("writes"));
}

pub(super) async fn alerts_that_no_cap_counts_go(f: Fixture) {
    let start = f.now();
    for number in 0..5 {
        let row = alert(&f, "ada", start.after(Duration::from_secs(number)));
        assert!(f.store.count_alert(&row, &[], start).await.expect("writes"));
    }
    let cutoff = start.after(Duration::from_secs(3));
    let sweep = async || f.store.sweep(Sweep::Alerts, cutoff, 2).await.expect("sweeps");
    assert_eq!((sweep().await, sweep().await, sweep().await), (2, 1, 0));
    let choices = f
        .store
        .choices(&f.tenant, &[f.user("ada")], Timestamp::default())
        .await;
    assert_eq!(choices.expect("reads")[0].alerts.len(), 2);
}
