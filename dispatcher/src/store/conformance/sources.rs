use std::time::Duration;

use carillon_domain::{SourceName, TenantId};

use super::fixture::Fixture;
use crate::store::*;

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
