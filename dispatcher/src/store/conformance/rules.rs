use std::time::Duration;

use carillon_domain::{RuleName, TenantId};

use super::fixture::Fixture;
use crate::store::{domain_events::DomainEventSweep, rules::*};

fn name(text: &str) -> RuleName {
    text.parse().expect("a name")
}

async fn put(f: &Fixture, tenant: &TenantId, text: &str, body: &str, most: u64) -> PutRule {
    let write = RuleWrite {
        name: name(text),
        body: body.to_owned(),
    };
    f.store
        .put_rule(f.now(), tenant, &write, most, 2)
        .await
        .expect("commits")
}

async fn names(f: &Fixture, after: Option<&str>, limit: u32) -> Vec<String> {
    let after = after.map(name);
    let rows = f
        .store
        .rules(&f.tenant, after.as_ref(), limit)
        .await
        .expect("reads");
    rows.into_iter().map(|row| row.name.to_string()).collect()
}

pub(super) async fn a_change_makes_a_version_and_the_newest_are_kept(f: Fixture) {
    let made = f.now();
    assert_eq!(put(&f, &f.tenant, "a", "1", 5).await, PutRule::Made(1));
    let before = f.store.rules_revision(&f.tenant).await.expect("reads");
    assert_eq!(put(&f, &f.tenant, "a", "1", 5).await, PutRule::Same(1));
    assert_eq!(f.store.rules_revision(&f.tenant).await.expect("reads"), before);
    f.advance(Duration::from_secs(1));
    assert_eq!(put(&f, &f.tenant, "a", "2", 5).await, PutRule::Changed(2));
    assert_ne!(f.store.rules_revision(&f.tenant).await.expect("reads"), before);
    assert_eq!(put(&f, &f.tenant, "a", "1", 5).await, PutRule::Changed(3));
    let row = f.store.rule(&f.tenant, &name("a"), None).await.expect("reads");
    let expected = RuleRow {
        name: name("a"),
        version: 3,
        body: "1".to_owned(),
        created_at: made,
        updated_at: f.now(),
    };
    assert_eq!(row, Some(expected));
    let versions = async |before, limit| {
        let rows = f.store.rule_versions(&f.tenant, &name("a"), before, limit).await;
        let rows = rows.expect("reads").into_iter();
        rows.map(|row| (row.version, row.body)).collect::<Vec<_>>()
    };
    assert_eq!(
        versions(None, 9).await,
        [(3, "1".to_owned()), (2, "2".to_owned())],
        "the first one is not kept any more"
    );
    assert_eq!(versions(Some(3), 1).await, [(2, "2".to_owned())]);
    let gone = f.store.rule(&f.tenant, &name("a"), Some(1)).await.expect("reads");
    assert_eq!(gone, None);
}

pub(super) async fn a_tenant_has_so_many_rules_and_no_other_tenants(f: Fixture) {
    let other: TenantId = "other".parse().expect("a tenant");
    assert_eq!(put(&f, &other, "b", "1", 2).await, PutRule::Made(1));
    for (text, body, answered) in [
        ("b", "1", PutRule::Made(1)),
        ("a", "1", PutRule::Made(1)),
        ("c", "1", PutRule::Full),
        ("a", "2", PutRule::Changed(2)),
    ] {
        assert_eq!(put(&f, &f.tenant, text, body, 2).await, answered, "{text}");
    }
    assert_eq!(names(&f, None, 9).await, ["a", "b"]);
    assert_eq!(names(&f, None, 1).await, ["a"]);
    assert_eq!(names(&f, Some("a"), 9).await, ["b"]);
}

pub(super) async fn a_deleted_rule_counts_no_more_and_its_numbers_go_on(f: Fixture) {
    put(&f, &f.tenant, "a", "1", 5).await;
    let before = f.store.rules_revision(&f.tenant).await.expect("reads");
    let delete = async || {
        let deleted = f.store.delete_rule(f.now(), &f.tenant, &name("a")).await;
        deleted.expect("commits")
    };
    assert!(delete().await && !delete().await);
    assert_ne!(f.store.rules_revision(&f.tenant).await.expect("reads"), before);
    assert!(names(&f, None, 9).await.is_empty());
    for version in [None, Some(1)] {
        let row = f.store.rule(&f.tenant, &name("a"), version).await.expect("reads");
        assert_eq!(row, None);
    }
    assert_eq!(put(&f, &f.tenant, "a", "1", 5).await, PutRule::Made(2));
    assert!(delete().await);
    f.advance(Duration::from_secs(10));
    let sweep = async || {
        let sweep = f.store.sweep_events(DomainEventSweep::Rules, f.now(), 100);
        sweep.await.expect("commits")
    };
    assert!(sweep().await > 0);
    assert_eq!(sweep().await, 0);
    assert_eq!(put(&f, &f.tenant, "a", "1", 5).await, PutRule::Made(1));
}
