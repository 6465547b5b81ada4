use carillon_domain::{Category, ChannelKind, TemplateName, TenantId};

use super::fixture::Fixture;
use crate::store::{
    Sweep, TemplateUse,
    catalog::{CategoryWrite, Put, TemplateWrite},
};

fn category(name: &str, channels: &[&str]) -> CategoryWrite {
    CategoryWrite {
        name: name.parse().expect("a category"),
        title: Some(format!("About {name}")),
        channels: kinds(channels),
        mandatory: false,
        policy: Some(format!(r#"{{"critical":{}}}"#, channels.len() > 1)),
    }
}

fn kinds(names: &[&str]) -> Vec<ChannelKind> {
    names
        .iter()
        .map(|name| name.parse().expect("a channel"))
        .collect()
}

fn template(name: &str, text: &str) -> TemplateWrite {
    TemplateWrite {
        name: name.parse().expect("a name"),
        default_locale: "en".to_owned(),
        locales: format!(r#"{{"en":{{"in_app":{{"title":"{text}"}}}}}}"#),
    }
}

fn stranger() -> TenantId {
    "acme".parse().expect("a tenant")
}

pub(super) async fn categories_are_replaced_listed_and_removed(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, &fixture.tenant);
    for (write, put) in [
        (category("billing", &["email"]), Put::Made),
        (category("alerts", &["in_app", "email"]), Put::Made),
        (category("billing", &["in_app"]), Put::Replaced),
        (category("news", &["email"]), Put::Full),
        (category("alerts", &["in_app", "email"]), Put::Replaced),
    ] {
        let done = store.put_category(fixture.now(), tenant, &write, 2).await;
        assert_eq!(done.expect("writes"), put, "{}", write.name);
    }
    let names = async |after: Option<&Category>| -> Vec<String> {
        let rows = store.categories(tenant, after, 10).await.expect("reads");
        rows.into_iter().map(|row| row.name.to_string()).collect()
    };
    assert_eq!(names(None).await, ["alerts", "billing"]);
    let alerts: Category = "alerts".parse().expect("a category");
    assert_eq!(names(Some(&alerts)).await, ["billing"]);
    let billing = "billing".parse().expect("a category");
    let row = store
        .category(tenant, &billing)
        .await
        .expect("reads")
        .expect("there");
    assert_eq!(row.channels, kinds(&["in_app"]));
    assert_eq!(row.title.as_deref(), Some("About billing"));
    assert_eq!(row.policy.as_deref(), Some(r#"{"critical":false}"#));
    assert_eq!(store.category(&stranger(), &billing).await.expect("reads"), None);
    assert!(
        !store
            .delete_category(&stranger(), &billing)
            .await
            .expect("writes")
    );
    assert!(store.delete_category(tenant, &billing).await.expect("writes"));
    assert!(!store.delete_category(tenant, &billing).await.expect("writes"));
    assert_eq!(names(None).await, ["alerts"]);
}

pub(super) async fn a_template_s_versions_go_on_and_are_bounded(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, &fixture.tenant);
    let name: TemplateName = "welcome".parse().expect("a name");
    for version in 1..=4 {
        let write = template("welcome", &format!("v{version}"));
        let put = store.put_template(fixture.now(), tenant, &write, 1, 2).await;
        assert_eq!(put.expect("writes"), Some(version));
    }
    let other = template("other", "x");
    let full = store.put_template(fixture.now(), tenant, &other, 1, 2).await;
    assert_eq!(full.expect("reads"), None, "the tenant has one already");
    let versions = store.template_versions(tenant, &name, 10).await;
    assert_eq!(
        versions.expect("reads"),
        [4, 3],
        "no notification needs the older ones"
    );
    let newest = store
        .template(tenant, &name, None)
        .await
        .expect("reads")
        .expect("there");
    assert_eq!((newest.version, newest.default_locale.as_str()), (4, "en"));
    assert!(newest.locales.contains("v4"));
    let third = store.template(tenant, &name, Some(3)).await.expect("reads");
    assert!(third.expect("there").locales.contains("v3"));
    assert_eq!(store.template(tenant, &name, Some(1)).await.expect("reads"), None);
    assert_eq!(
        store.template(&stranger(), &name, None).await.expect("reads"),
        None
    );
    let listed = store.templates(tenant, None, 10).await.expect("reads");
    assert_eq!(
        listed
            .iter()
            .map(|row| (row.name.as_str(), row.version))
            .collect::<Vec<_>>(),
        [("welcome", 4)]
    );
}

pub(super) async fn a_deleted_template_stays_for_what_was_accepted(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, &fixture.tenant);
    let name: TemplateName = "welcome".parse().expect("a name");
    let put = async |text: &str| {
        let write = template("welcome", text);
        let version = store.put_template(fixture.now(), tenant, &write, 10, 1).await;
        version.expect("writes").expect("room")
    };
    assert_eq!(put("old").await, 1);
    assert!(
        store
            .delete_template(fixture.now(), tenant, &name)
            .await
            .expect("writes")
    );
    assert!(
        !store
            .delete_template(fixture.now(), tenant, &name)
            .await
            .expect("writes")
    );
    assert_eq!(store.template(tenant, &name, None).await.expect("reads"), None);
    assert!(store.templates(tenant, None, 10).await.expect("reads").is_empty());
    assert!(
        store
            .template(tenant, &name, Some(1))
            .await
            .expect("reads")
            .is_some()
    );
    let sweep = async |sweep| {
        let cutoff = fixture.now().after(std::time::Duration::from_secs(1));
        store.sweep(sweep, cutoff, 10).await.expect("sweeps")
    };
    let mut used = fixture.notification(&["ada"]);
    used.template = Some(TemplateUse {
        name: name.clone(),
        version: 1,
        data: "{}".into(),
    });
    fixture.accept(&[used]).await;
    assert_eq!(sweep(Sweep::TemplateVersions).await, 0, "a notification needs it");
    assert_eq!(sweep(Sweep::Templates).await, 0);
    assert_eq!(put("new").await, 2, "a number is never used again");
    let newest = store.template(tenant, &name, None).await.expect("reads");
    assert_eq!(newest.expect("there").version, 2);
    let gone = template("gone", "x");
    let put = store.put_template(fixture.now(), tenant, &gone, 10, 1).await;
    assert_eq!(put.expect("writes"), Some(1));
    let deleted = store.delete_template(fixture.now(), tenant, &gone.name).await;
    assert!(deleted.expect("writes"));
    assert_eq!(sweep(Sweep::TemplateVersions).await, 1);
    assert_eq!(sweep(Sweep::Templates).await, 1);
}
