//! Other servers that do the same, behind one trait, each in a file of its own.

pub(crate) mod compare;
mod nchan;
mod pusher;
mod pushpin;
mod socketio;
pub(crate) mod stock_axum;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{process::server_core, subjects::Subject, tree};

/// A server that may be installed.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;

    /// Its version; `None`: it is not installed.
    fn version(&self) -> Option<String>;

    /// How it is installed.
    fn how(&self) -> &'static str {
        "loadtests/peers/install.sh"
    }

    /// Starts it on the servers' core.
    ///
    /// # Errors
    /// When it does not get ready.
    fn start(&self) -> Result<Box<dyn Subject>>;
}

/// All that there are, in the order in which they are measured.
pub(crate) fn all() -> Vec<Box<dyn Peer + Send>> {
    vec![
        Box::new(stock_axum::StockAxum),
        Box::new(nchan::Nchan),
        Box::new(socketio::SocketIo),
        Box::new(pushpin::Pushpin),
        Box::new(pusher::Soketi),
        Box::new(pusher::Sockudo),
    ]
}

/// Where `loadtests/peers/install.sh` puts what is no Debian package.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// What a command prints, on either output; `None` when it cannot run.
fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

/// The version of a Debian package; `None` when it is not installed.
fn package(name: &str) -> Option<String> {
    let version = said("dpkg-query", &["--show", "--showformat", "${Version}", name])?;
    version
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(version)
}

/// Processes that end with this one, and whatever they started.
struct Processes {
    children: Vec<Child>,
    /// Configuration and logs, and what ends with it.
    folder: tempfile::TempDir,
}

impl Processes {
    fn all(&self) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        for child in &self.children {
            all.extend(tree::of(child.id())?);
        }
        Ok(all)
    }

    /// Waits until somebody listens.
    fn wait(&mut self, port: u16) -> Result<()> {
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    anyhow::bail!("it ended with {status}: {log}");
                }
            }
            ensure!(
                begin.elapsed() < Duration::from_secs(20),
                "nobody listens on {port}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // A gentle end first: a master ends its workers then, and knows who they are.
        for child in self.children.iter_mut().rev() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(3) && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// On the servers' core; told to end, not killed, when the thread that starts it ends.
fn pinned(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "taskset", "-c"])
        .arg(server_core().to_string())
        .arg(program);
    command
}
