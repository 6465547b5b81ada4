use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, ConfigError, Flag, Loaded, Origin, Secret, Sources, Span, load};
use crate::edge::EdgeConfig;

/// As the composition root puts it together.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Root {
    edge: EdgeConfig,
    pub(super) store: Store,
}

/// Where everything is kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    /// Where it is.
    pub(super) url: String,
    /// Who may.
    pub(super) password: Option<Secret>,
    mode: Mode,
    keep: Span,
    cache: ByteSize,
    connections: u32,
    names: Vec<String>,
    limits: BTreeMap<String, u32>,
    fast: bool,
    ratio: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Quick.
    Fast,
    /// Sure.
    Safe,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite:data".to_owned(),
            password: None,
            mode: Mode::Safe,
            keep: Span::from_days(3),
            cache: ByteSize::mib(4),
            connections: 8,
            names: vec!["a".to_owned()],
            limits: BTreeMap::new(),
            fast: false,
            ratio: None,
        }
    }
}

struct Case {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Case {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            sources: Sources::default(),
        }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.folder.path().join("carillon.toml");
        std::fs::write(&path, text).expect("written");
        self.sources.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, name: &str, key: &str, value: &str) -> Self {
        self.sources.flags.push(Flag {
            name: name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    fn load(&self) -> Result<Loaded<Root>, ConfigError> {
        load(&self.sources, |root: &Root| {
            root.edge
                .validate()
                .map_err(|(key, reason)| (format!("edge.{key}"), reason))
        })
    }

    fn fault(&self) -> String {
        let folder = self.folder.path().display().to_string();
        self.load()
            .expect_err("refused")
            .to_string()
            .replace(&folder, "FOLDER")
    }
}

#[test]
fn later_sources_win() {
    let case = Case::new()
        .file("[store]\nurl = 'sqlite:file'\nconnections = 1\nkeep = '1h'\n[store.limits]\na = 1\n[edge.limits]\nbody = '1MiB'")
        .env("CARILLON_STORE__CONNECTIONS", "2")
        .env("CARILLON_STORE__KEEP", "2h")
        .env("CARILLON_STORE__LIMITS__B", "7")
        .env("CARILLON_STORE__RATIO", "0.5")
        .env("CARILLON_STORE__FAST", "true")
        .env("HOME", "/home/ada")
        .flag("--keep", "store.keep", "3h");
    let loaded = case.load().expect("good");
    let store = &loaded.config.store;
    assert_eq!(
        (store.url.as_str(), store.connections, store.keep),
        ("sqlite:file", 2, "3h".parse().expect("a span"))
    );
    assert_eq!(
        store.limits,
        BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 7)])
    );
    assert_eq!(
        (store.fast, store.ratio, store.mode),
        (true, Some(0.5), Mode::Safe)
    );
    assert_eq!(loaded.config.edge.limits.body, ByteSize::mib(1));
    assert_eq!(
        loaded.config.edge.limits.uri,
        ByteSize::kib(8),
        "a neighbour keeps its default"
    );
    assert_eq!(loaded.origins["store.keep"], Origin::Flag("--keep".to_owned()));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn lists_are_commas_or_toml() {
    let names = |text: &str| {
        Case::new()
            .env("CARILLON_STORE__NAMES", text)
            .load()
            .expect("good")
            .config
            .store
            .names
    };
    assert_eq!(names("x, y"), ["x", "y"]);
    assert_eq!(names("['x,1', 'y']"), ["x,1", "y"]);
    assert!(names("").is_empty());
    let edge = Case::new()
        .env("CARILLON_EDGE__LISTEN", "127.0.0.1:1,unix:/run/x")
        .load()
        .expect("good")
        .config
        .edge;
    assert_eq!(edge.listen.len(), 2);
}

#[test]
fn a_secret_comes_from_a_file_without_its_last_line_end() {
    let case = Case::new();
    let path = case.folder.path().join("password");
    std::fs::write(&path, "hunter2\n").expect("written");
    let case = case.env("CARILLON_STORE__PASSWORD_FILE", path.to_str().expect("UTF-8"));
    let loaded = case.load().expect("good");
    assert_eq!(
        loaded.config.store.password.as_ref().map(Secret::expose),
        Some("hunter2")
    );
    let missing = Case::new()
        .env("CARILLON_STORE__PASSWORD_FILE", "/nowhere/password")
        .fault();
    assert!(
        missing.contains("store.password") && missing.contains("CARILLON_STORE__PASSWORD_FILE"),
        "{missing}"
    );
}

#[test]
fn an_unknown_key_in_the_file_is_named_and_ours_in_the_environment_only_warns() {
    let fault = Case::new().file("[edge.limits]\nbodies = '1MiB'").fault();
    assert!(
        fault.starts_with("unknown key edge.limits.bodies (file FOLDER/carillon.toml); known here: body, "),
        "{fault}"
    );
    assert!(
        Case::new()
            .file("speed = 3")
            .fault()
            .starts_with("unknown key speed")
    );
    let loaded = Case::new()
        .env("CARILLON_EDGE__LIMITS__BODIES", "1")
        .env("CARILLON_EDGE", "1")
        .env("CARILLON_KEY", "crk_x")
        .env("CARILLON_TEST_POSTGRES", "x")
        .load()
        .expect("only warnings");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[1].contains("CARILLON_EDGE__LIMITS__BODIES"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_bad_value_is_named_with_its_origin() {
    let file = "file FOLDER/carillon.toml";
    for (text, key) in [
        ("[store]\nconnections = -1", "store.connections"),
        ("[store]\nconnections = 'many'", "store.connections"),
        ("[store]\nkeep = '3 fortnights'", "store.keep"),
        ("[store]\nkeep = 3", "store.keep"),
        ("[store]\nmode = 'slow'", "store.mode"),
        ("[store]\nnames = 'x'", "store.names"),
        ("store = 1", "store"),
        ("[edge.limits]\nbody = '1'", "edge.limits.body"),
        ("[edge.limits]\nbody = '1B'", "edge.limits.body"),
        ("[edge.limits]\nheader = '0s'", "edge.limits.header"),
        ("[edge]\nlisten = []", "edge.listen"),
        ("[edge]\nlisten = ['127.0.0.1:1', 'here']", "edge.listen[1]"),
        ("[edge.cors]\norigins = ['null']", "edge.cors.origins"),
        (
            "[edge.cors]\norigins = ['*']\ncredentials = true",
            "edge.cors.origins",
        ),
        ("[edge.tls]\nkey = 'k.pem'", "edge.tls"),
    ] {
        let fault = Case::new().file(text).fault();
        assert!(
            fault.starts_with(&format!("{key}: ")) && fault.ends_with(&format!("({file})")),
            "{text}: {fault}"
        );
    }
    let fault = Case::new().env("CARILLON_STORE__CONNECTIONS", "lots").fault();
    assert_eq!(
        fault,
        "store.connections: expected a whole number from 0 to 4294967295, not \"lots\" \
         (environment variable CARILLON_STORE__CONNECTIONS)"
    );
    let fault = Case::new().flag("--listen", "edge.listen", "nowhere").fault();
    assert!(
        fault.starts_with("edge.listen[0]: ") && fault.ends_with("(flag --listen)"),
        "{fault}"
    );
    let fault = Case::new().file("store = [").fault();
    assert!(
        fault.starts_with("configuration file FOLDER/carillon.toml: ") && fault.contains("line 1"),
        "{fault}"
    );
    let mut missing = Case::new();
    missing.sources.file = Some(missing.folder.path().join("none.toml"));
    assert!(
        missing
            .fault()
            .starts_with("configuration file FOLDER/none.toml: ")
    );
}

#[test]
fn what_is_expected_is_said_in_words_and_never_by_a_types_name() {
    for (text, said) in [
        (
            "[store]\nconnections = -1",
            "store.connections: expected a whole number from 0 to 4294967295, not -1",
        ),
        (
            "[store]\nconnections = 4294967296",
            "store.connections: expected a whole number from 0 to 4294967295, not 4294967296",
        ),
        (
            "[store]\nconnections = 1.5",
            "store.connections: expected a whole number from 0 to 4294967295, not 1.5",
        ),
        (
            "[store.limits]\na = 'many'",
            "store.limits.a: expected a whole number from 0 to 4294967295, not \"many\"",
        ),
        (
            "[edge.limits]\nconnections = 'many'",
            "edge.limits.connections: expected a whole number from 0 to 4294967295, not \"many\"",
        ),
        ("[store]\nfast = 1", "store.fast: expected true or false, not 1"),
        (
            "[store]\nratio = 'half'",
            "store.ratio: expected a number, not \"half\"",
        ),
        (
            "[store]\nkeep = 3",
            "store.keep: expected text in quotes (duration), not 3",
        ),
        (
            "[store]\nnames = ['x', 3]",
            "store.names[1]: expected text in quotes, not 3",
        ),
        (
            "[store]\nnames = 'x'",
            "store.names: expected a list of text in square brackets, not \"x\"",
        ),
        ("store = 1", "store: expected a table of keys, not 1"),
    ] {
        let fault = Case::new().file(text).fault();
        assert!(fault.starts_with(&format!("{said} (")), "{text}: {fault}");
    }
    let fault = Case::new().env("CARILLON_STORE__CONNECTIONS", "-1").fault();
    assert!(
        fault.starts_with("store.connections: expected a whole number from 0 to 4294967295, not -1 ("),
        "{fault}"
    );
}

#[test]
fn a_secret_is_not_quoted_in_an_error() {
    let fault = Case::new().file("[store]\npassword = { hunter2 = 1 }").fault();
    assert!(
        fault.starts_with("store.password: ") && !fault.contains("hunter2"),
        "{fault}"
    );
    let fault = Case::new().file("[store]\npassword = 24680").fault();
    assert!(!fault.contains("24680"), "{fault}");
}
