use serde_json::json;

use super::*;

fn of<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("valid")
}

fn decided(
    preferences: &serde_json::Value,
    policy: &CategoryPolicy,
    tenant: &TenantPolicy,
) -> (bool, DecidedBy) {
    let (news, email): (Category, ChannelKind) =
        ("news".parse().expect("valid"), "email".parse().expect("valid"));
    let preferences: Vec<Preference> = of(preferences.clone());
    let resolved = resolve(&preferences, &news, &email, policy, tenant);
    (resolved.enabled, resolved.decided_by)
}

#[test]
fn the_most_specific_wins() {
    let mut preferences = vec![
        json!({"category": "news", "channel": "email", "enabled": true}),
        json!({"channel": "email", "enabled": false}),
        json!({"category": "news", "enabled": true}),
    ];
    let category: CategoryPolicy = of(json!({"channels": {"email": false}, "enabled": true}));
    let tenant: TenantPolicy = of(json!({"channels": {"email": true}}));
    let mut found = Vec::new();
    loop {
        found.push(decided(&json!(preferences), &category, &tenant));
        if preferences.is_empty() {
            break;
        }
        preferences.remove(0);
    }
    let none = CategoryPolicy::default();
    found.push(decided(&json!([]), &of(json!({"enabled": false})), &tenant));
    found.push(decided(&json!([]), &none, &tenant));
    found.push(decided(&json!([]), &none, &TenantPolicy::default()));
    assert_eq!(
        found,
        [
            (true, DecidedBy::UserCategoryChannel),
            (false, DecidedBy::UserChannel),
            (true, DecidedBy::UserCategory),
            (false, DecidedBy::Category),
            (false, DecidedBy::Category),
            (true, DecidedBy::Tenant),
            (true, DecidedBy::Default),
        ]
    );
}

#[test]
fn other_categories_and_channels_say_nothing() {
    let preferences = json!([
        {"category": "other", "channel": "email", "enabled": false},
        {"category": "news", "channel": "sms", "enabled": false},
        {"channel": "sms", "enabled": false},
        {"category": "other", "enabled": false},
        {"category": "news", "channel": "email", "digest": "immediate"},
    ]);
    assert_eq!(
        decided(&preferences, &CategoryPolicy::default(), &TenantPolicy::default()),
        (true, DecidedBy::Default)
    );
}

#[test]
fn a_category_that_may_not_be_turned_off_passes_over_the_users_off() {
    let fixed: CategoryPolicy = of(json!({"may_turn_off": false}));
    let tenant = TenantPolicy::default();
    let off = json!([{"category": "news", "channel": "email", "enabled": false}, {"channel": "email", "enabled": false}]);
    assert_eq!(decided(&off, &fixed, &tenant), (true, DecidedBy::Default));
    let on = json!([{"category": "news", "channel": "email", "enabled": false}, {"category": "news", "enabled": true}]);
    assert_eq!(decided(&on, &fixed, &tenant), (true, DecidedBy::UserCategory));
    let off_by_itself: CategoryPolicy = of(json!({"may_turn_off": false, "enabled": false}));
    assert_eq!(
        decided(&json!([]), &off_by_itself, &tenant),
        (false, DecidedBy::Category)
    );
}

#[test]
fn a_digest_is_the_most_specific_one_that_the_category_offers() {
    let policy: CategoryPolicy = of(json!({
        "digests": [
            {"name": "hourly", "window": {"fixed": {"every": 3600}}},
            {"name": "daily", "window": {"cron": "0 9 * * *"}},
        ],
        "digest": "daily",
    }));
    assert!(policy.check().is_empty());
    let (news, email): (Category, ChannelKind) =
        ("news".parse().expect("valid"), "email".parse().expect("valid"));
    for (preferences, expected) in [
        (json!([]), Some("daily")),
        (json!([{"channel": "email", "digest": "hourly"}]), Some("hourly")),
        (
            json!([{"category": "news", "channel": "email", "digest": "immediate"}, {"channel": "email", "digest": "hourly"}]),
            None,
        ),
        (
            json!([{"channel": "email", "digest": "weekly"}, {"category": "news", "digest": "hourly"}]),
            Some("hourly"),
        ),
        (json!([{"channel": "email", "digest": "weekly"}]), Some("daily")),
    ] {
        let all: Vec<Preference> = of(preferences.clone());
        let tenant = TenantPolicy::default();
        let resolved = resolve(&all, &news, &email, &policy, &tenant);
        let digest = resolved.digest.map(|period| period.name.as_str());
        assert_eq!(digest, expected, "{preferences}");
    }
}

#[test]
fn broken_policies_are_told_where() {
    let category: CategoryPolicy = of(json!({
        "digests": [
            {"name": "a", "window": {"fixed": {"every": 0}}},
            {"name": "a", "window": {"cron": "0 9 * * *"}},
        ],
        "digest": "weekly",
    }));
    let pointers: Vec<_> = category.check().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(
        pointers,
        ["/digests/0/window/fixed/every", "/digests/1/name", "/digest"]
    );
    let tenant: TenantPolicy = of(json!({
        "caps": [{"max": 1, "per": 60}, {"max": 0, "per": 60}], "throttle": {"max": 1, "per": 0},
    }));
    let pointers: Vec<_> = tenant.check().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(pointers, ["/caps/1/max", "/throttle/per"]);
    assert!(serde_json::from_value::<TenantPolicy>(json!({"time_zone": "Mars/Base"})).is_err());
}
