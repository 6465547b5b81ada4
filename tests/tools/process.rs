use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::harness::{watchdog, within};

/// A tool that runs until it is dropped, and no longer than this process.
#[derive(Debug)]
pub(crate) struct Tool {
    child: Child,
    _watchdog: Child,
}

impl Tool {
    /// Starts it in a folder, where its output goes too, and waits until `ready` answers with success.
    pub(crate) async fn start(program: &str, folder: &Path, arguments: &[&str], ready: &str) -> Self {
        let output = folder.join(format!("{program}.log"));
        let log = File::create(&output).expect("the log opens");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{program}: {error}; `tests/run.sh install` brings it"));
        let watchdog = watchdog(child.id());
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        within(program, async {
            loop {
                if let Some(status) = child.try_wait().expect("a child") {
                    let log = std::fs::read_to_string(&output).unwrap_or_default();
                    panic!("{program} ended with {status}:\n{log}");
                }
                if http
                    .get(ready)
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status().is_success())
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        Self {
            child,
            _watchdog: watchdog,
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
