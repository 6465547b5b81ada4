//! Documentation that is generated stays what its source says.

use std::{fs, path::Path, process::Command};

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
