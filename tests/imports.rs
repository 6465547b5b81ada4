//! Which of our packages may import which: the house of docs/architecture.md, kept over `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Each package with what it may import of ours. A new package gets its line here, and with it a thought.
const ALLOWED: &[(&str, &[&str])] = &[
    ("carillon-domain", &[]),
    ("carillon-policy", &["carillon-domain"]),
    ("carillon-runtime", &["carillon-domain"]),
    ("carillon-sql", &["carillon-domain"]),
    (
        "carillon-backends",
        &["carillon-domain", "carillon-runtime", "carillon-sql"],
    ),
    (
        "carillon-testkit",
        &["carillon-domain", "carillon-runtime", "carillon-sql"],
    ),
    ("carillon-channels", &["carillon-domain", "carillon-runtime"]),
    ("carillon-hub", ROOM),
    ("carillon-dispatcher", POLICY_ROOM),
    ("carillon-auth", ROOM),
    ("carillon-user", POLICY_ROOM),
    // Sees the product only from outside.
    ("carillon-loadtests", &[]),
];

/// What hub, dispatcher and services build on; they meet each other only in the root package, as ports and routers.
const ROOM: &[&str] = &["carillon-domain", "carillon-runtime", "carillon-sql"];

/// A room that decides, or checks what others decide by: the same, and the pure rules.
const POLICY_ROOM: &[&str] = &[
    "carillon-domain",
    "carillon-policy",
    "carillon-runtime",
    "carillon-sql",
];

/// Tests may also use these.
const ALLOWED_IN_TESTS: &[&str] = &["carillon-backends", "carillon-testkit"];

/// The root package sees everything; the load generator sees the product from outside.
const ROOT: &str = "carillon";

/// What would give the words a runtime or a wire: `domain` has neither.
const FORBIDDEN_IN_DOMAIN: &[&str] = &["axum", "hyper", "reqwest", "sqlx", "tokio", "tracing"];

struct Package {
    name: String,
    /// Name and whether only tests see it.
    dependencies: BTreeMap<String, bool>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--locked",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let mut dependencies = BTreeMap::new();
            for dependency in package["dependencies"]
                .as_array()
                .expect("a list of dependencies")
            {
                let name = dependency["name"].as_str().expect("a name").to_owned();
                let only_tests = dependency["kind"] == "dev";
                // Named twice, the stronger use counts.
                dependencies
                    .entry(name)
                    .and_modify(|seen| *seen &= only_tests)
                    .or_insert(only_tests);
            }
            Package {
                name: package["name"].as_str().expect("a name").to_owned(),
                dependencies,
            }
        })
        .collect()
}

#[test]
fn packages_import_only_what_the_architecture_allows() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in packages.iter().filter(|package| package.name != ROOT) {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            broken.push(format!("{} has no line in ALLOWED", package.name));
            continue;
        };
        for (dependency, only_tests) in &package.dependencies {
            let in_tests = *only_tests && ALLOWED_IN_TESTS.contains(&dependency.as_str());
            if ours.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) && !in_tests {
                broken.push(format!("{} must not import {dependency}", package.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_words_know_no_runtime_and_no_wire() {
    let packages = packages();
    let domain = packages
        .iter()
        .find(|package| package.name == "carillon-domain")
        .expect("carillon-domain exists");
    let found: Vec<_> = FORBIDDEN_IN_DOMAIN
        .iter()
        .filter(|name| domain.dependencies.get(**name) == Some(&false))
        .collect();
    assert!(found.is_empty(), "carillon-domain imports {found:?}");
}

#[test]
fn only_the_root_package_and_tests_import_the_backends() {
    for package in packages() {
        if package.name != ROOT {
            assert_ne!(
                package.dependencies.get("carillon-backends"),
                Some(&false),
                "{} imports carillon-backends outside of its tests",
                package.name
            );
        }
    }
}
