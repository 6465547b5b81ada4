//! Documentation that is generated stays what its source says.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::executable;

#[test]
fn the_configuration_reference_is_what_the_types_say() {
    let output = Command::new(executable())
        .args(["config", "document"])
        .output()
        .expect("the executable runs");
    assert!(output.status.success());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = fs::read_to_string(path).expect("docs/configuration.md");
    let (_, tables) = written.split_once("\n## ").expect("a table per section");
    let generated = String::from_utf8(output.stdout).expect("UTF-8");
    let written = format!("## {tables}");
    let differing = written
        .trim_end()
        .lines()
        .zip(generated.trim_end().lines())
        .find(|(old, new)| old != new);
    assert_eq!(differing, None, "write it anew: `make reference`");
    assert_eq!(
        written.trim_end().lines().count(),
        generated.trim_end().lines().count(),
        "write it anew: `make reference`"
    );
}

/// The API's description, as `carillon openapi` prints it.
fn description() -> Value {
    let output = Command::new(executable())
        .arg("openapi")
        .output()
        .expect("the executable runs");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every operation with its method and path.
fn operations(api: &Value) -> Vec<(String, &Value)> {
    let paths = api["paths"].as_object().expect("paths");
    let of_path = |(path, item)| {
        let item: &Value = item;
        let methods = item.as_object().expect("a path's methods");
        methods
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_api_s_description_defines_what_it_names() {
    let api = description();
    let mut found = BTreeSet::new();
    references(&api, &mut found);
    let undefined: Vec<_> = found
        .iter()
        .filter(|reference| {
            reference
                .strip_prefix('#')
                .is_none_or(|pointer| api.pointer(pointer).is_none())
        })
        .collect();
    assert!(undefined.is_empty(), "{undefined:?}");

    let described: BTreeSet<_> = api["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .map(|tag| &tag["name"])
        .map(Value::to_string)
        .collect();
    let mut names = BTreeSet::new();
    for (place, operation) in operations(&api) {
        assert!(described.contains(&operation["tags"][0].to_string()), "{place}");
        assert!(names.insert(operation["operationId"].to_string()), "{place}");
        let declared = operation["parameters"].as_array().map_or(0, |parameters| {
            parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .count()
        });
        assert_eq!(declared, place.matches('{').count(), "{place}");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            assert!(
                response["description"].is_string(),
                "{place}: {status} says nothing"
            );
        }
    }
}

#[test]
fn the_api_s_description_has_every_route_beyond_the_inbox() {
    let api = description();
    let there: BTreeSet<_> = operations(&api).into_iter().map(|(place, _)| place).collect();
    for place in [
        "put /v1/users/{id}",
        "get /v1/users/{id}/devices",
        "post /v1/users/{id}/devices",
        "patch /v1/users/{id}/devices/{device}",
        "delete /v1/users/{id}/devices/{device}",
        "post /v1/users/{id}/devices/{device}/verification",
        "get /v1/users/{id}/subscriptions",
        "post /v1/activity",
        "post /v1/stream/activity",
        "get /v1/topics/{name}/subscriptions",
        "post /v1/topics/{name}/subscriptions",
        "put /v1/topics/{name}/subscriptions/{user}",
        "delete /v1/topics/{name}/subscriptions/{user}",
        "get /v1/segments",
        "put /v1/segments/{name}",
        "get /v1/segments/{name}/count",
        "get /v1/segments/{name}/preview",
        "put /v1/categories/{name}",
        "get /v1/users/{id}/preferences",
        "put /v1/users/{id}/preferences/{category}/{channel}",
        "delete /v1/users/{id}/preferences/{category}/{channel}",
        "put /v1/users/{id}/quiet-hours",
        "put /v1/policy",
        "post /v1/preferences/{token}",
        "put /v1/templates/{name}",
        "post /v1/templates/{name}/preview",
        "get /v1/channels",
        "put /v1/channels/{kind}",
        "delete /v1/channels/{kind}",
        "post /v1/channels/{kind}/pull",
        "get /v1/channels/{kind}/stream",
        "post /v1/channels/{kind}/outcomes",
        "post /v1/channels/{kind}/extend",
        "post /v1/channels/{kind}/receipts",
        "post /v1/channels/{kind}/events",
        "post /v1/webhooks/endpoints",
        "patch /v1/webhooks/endpoints/{id}",
        "post /v1/webhooks/endpoints/{id}/enable",
        "post /v1/webhooks/endpoints/{id}/secrets",
        "post /v1/webhooks/endpoints/{id}/test",
        "get /v1/webhooks/endpoints/{id}/attempts",
        "get /v1/webhooks/key",
        "get /v1/deliveries/{id}",
        "post /v1/deliveries/{id}/resend",
        "get /v1/dead-letters",
        "post /v1/dead-letters/redrive",
        "get /v1/redrives/{id}",
        "get /v1/suppressions",
        "delete /v1/suppressions/{channel}/{address}",
        "get /v1/breakers",
        "put /v1/sources/{name}",
        "post /v1/in/{source}",
        "post /v1/in/dsn",
        "post /v1/unsubscribe/{token}",
    ] {
        assert!(there.contains(place), "{place}");
    }
}
