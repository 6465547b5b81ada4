use std::{path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::wait::within;

/// The executable under test: the one that cargo built with the tests, or `CARILLON_BIN`.
pub(crate) fn executable() -> PathBuf {
    std::env::var_os("CARILLON_BIN").map_or_else(|| env!("CARGO_BIN_EXE_carillon").into(), PathBuf::from)
}

/// What a command of the executable left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output of a command that must have succeeded, without the line's end.
    pub(crate) fn line(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.trim_end()
    }
}

/// Runs `carillon ARGUMENTS` to its end, with `environment` and nothing else of ours in the environment.
pub(crate) async fn carillon(arguments: &[&str], environment: &[(String, String)]) -> Finished {
    let mut command = clean(arguments);
    let run = command
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(&format!("carillon {}", arguments.join(" ")), run)
        .await
        .expect("the executable starts");
    let finished = Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    };
    match arguments {
        ["keys", "create", ..] | ["token", ..] if finished.code == Some(0) => {
            super::secrets::made_in(&finished.stdout);
        }
        _ => super::secrets::printed(&finished.stdout),
    }
    super::secrets::printed(&finished.stderr);
    finished
}

/// The executable with `arguments`, free of variables that would configure it from outside.
pub(crate) fn clean(arguments: &[&str]) -> Command {
    let mut command = Command::new(executable());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARILLON_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}
