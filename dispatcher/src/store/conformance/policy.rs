use carillon_domain::{TenantId, Timestamp, UserId};

use super::fixture::Fixture;
use crate::store::{
    catalog::OptOut,
    policy::{Chosen, PreferenceChange, PreferenceRow, PreferencesWritten},
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
    f.store
        .change_preferences(f.now(), &f.tenant, user, changes, 3)
        .await
        .expect("writes")
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
