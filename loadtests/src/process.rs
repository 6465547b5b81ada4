//! A server as a child process on a core of its own, and what it costs.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::http;

/// The core that servers run on, by default the first; the Makefile keeps the client on another.
static SERVER_CORE: OnceLock<usize> = OnceLock::new();

/// A server process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens on 127.0.0.1.
    pub(crate) port: u16,
    /// Where its metrics are; 0 for others than Carillon.
    metrics: u16,
    /// An API key with every ordinary scope; empty for others than Carillon.
    pub(crate) key: String,
    /// From `exec` until it answered.
    pub(crate) started_in: Duration,
    folder: tempfile::TempDir,
}

/// Chooses the core that servers run on, before any is started: one core of a machine may be slower than another, which shows
/// when they are swapped.
///
/// # Errors
/// When the machine has no such core.
pub(crate) fn choose_server_core(core: usize) -> Result<()> {
    ensure!(core < cores()?, "there is no core {core}");
    SERVER_CORE.get_or_init(|| core);
    Ok(())
}

/// The core that servers run on.
pub(crate) fn server_core() -> usize {
    SERVER_CORE.get().copied().unwrap_or(0)
}

/// The core that workers run on, where there is another than the servers'.
fn client_core() -> usize {
    usize::from(server_core() == 0)
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Where files are in memory, so that a disk that others write to as well does not tell in a latency.
const MEMORY: &str = "/dev/shm";

/// A new folder in memory, where the machine has such a place; else on disk. Says which.
pub(crate) fn folder_in_memory() -> Result<(tempfile::TempDir, &'static str)> {
    match tempfile::tempdir_in(MEMORY) {
        Ok(folder) => Ok((folder, "store in memory")),
        Err(_) => Ok((tempfile::tempdir()?, "store on disk")),
    }
}

/// A command that runs on the servers' core and ends with the thread that starts it, however that ends.
pub(crate) fn pinned(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "taskset", "-c"])
        .arg(server_core().to_string())
        .arg(program);
    command
}

/// This program as a command that runs on the clients' core and ends with the thread that starts it.
pub(crate) fn beside() -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if cores()? > 1 {
        command.args(["taskset", "-c", &client_core().to_string()]);
    }
    command.arg(std::env::current_exe()?);
    Ok(command)
}

/// Cores of the machine, whatever this process may use of them.
pub(crate) fn cores() -> Result<usize> {
    Ok(fs::read_to_string("/proc/cpuinfo")?
        .matches("processor\t")
        .count())
}

/// CPU time of all threads of this process so far.
pub(crate) fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

/// From the scheduler's own accounts (nanoseconds, not sampled).
pub(crate) fn cpu_of(process: &str) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanos += text
            .split(' ')
            .next()
            .and_then(|field| field.parse().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Runs a command of the command line on a data folder that no server has open; answers what it printed.
pub(crate) fn prepare(program: &Path, data: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(command)
        .arg("--data")
        .arg(data)
        .output()
        .with_context(|| format!("carillon {command:?}"))?;
    ensure!(
        output.status.success(),
        "carillon {command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

impl Server {
    /// Starts Carillon on embedded storage in a new folder, with its defaults, and makes a key.
    pub(crate) fn carillon(program: &Path) -> Result<Self> {
        Self::carillon_with(program, &[])
    }

    /// The same with settings: environment variables without `CARILLON_`.
    pub(crate) fn carillon_with(program: &Path, settings: &[(&str, String)]) -> Result<Self> {
        Self::carillon_in(program, settings, tempfile::tempdir()?)
    }

    /// The same in a folder that is given.
    pub(crate) fn carillon_in(
        program: &Path,
        settings: &[(&str, String)],
        folder: tempfile::TempDir,
    ) -> Result<Self> {
        let (port, metrics) = (free_port()?, free_port()?);
        let data = folder.path().join("data");
        prepare(program, &data, &["migrate"])?;
        let key = prepare(program, &data, &["keys", "create", "--name", "bench"])?;
        let begin = Instant::now();
        let child = pinned(program)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(&data)
            .env("CARILLON_LOG__FILTER", "warn")
            .env("CARILLON_DISPATCHER__TOPICS__LIVE_ONLY_PREFIXES", "live.")
            .env("CARILLON_INTERNAL__LISTEN", format!("127.0.0.1:{metrics}"))
            .envs(
                settings
                    .iter()
                    .map(|(key, value)| (format!("CARILLON_{key}"), value)),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::from(fs::File::create(folder.path().join("log"))?))
            .spawn()
            .context("carillon serve")?;
        let mut server = Self {
            child,
            port,
            metrics,
            key: key.trim().to_owned(),
            started_in: Duration::ZERO,
            folder,
        };
        server.wait(begin, |port| {
            http::get(port, "/health/ready").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(server)
    }

    /// Starts this program with another subcommand, which gets a port to listen on.
    pub(crate) fn own(subcommand: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let begin = Instant::now();
        let child = pinned(&std::env::current_exe()?)
            .args([subcommand, "--port", &port.to_string()])
            .spawn()
            .with_context(|| subcommand.to_owned())?;
        let mut server = Self {
            child,
            port,
            metrics: 0,
            key: String::new(),
            started_in: Duration::ZERO,
            folder,
        };
        server.wait(begin, |port| {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(server)
    }

    fn wait(&mut self, begin: Instant, ready: impl Fn(u16) -> bool) -> Result<()> {
        while !ready(self.port) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}: {}", self.log());
            }
            if begin.elapsed() > Duration::from_secs(30) {
                bail!("the server did not get ready within 30 s");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.started_in = begin.elapsed();
        Ok(())
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far, kernel included.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// The sum of a counter's samples whose labels hold all of `labels`.
    pub(crate) fn counter(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (status, body) = http::get(self.metrics, "/metrics")?;
        ensure!(status == 200, "/metrics: {status}");
        let text = String::from_utf8(body)?;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        Ok(samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// What it said on standard error so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its anonymous memory in bytes, shared pages counted by share (`Pss_Anon`).
    pub(crate) fn anonymous_memory(&self) -> Result<u64> {
        self.rollup("Pss_Anon:")
    }

    /// Its resident memory in bytes (`Rss`), the executable's pages included.
    pub(crate) fn resident_memory(&self) -> Result<u64> {
        self.rollup("Rss:")
    }

    fn rollup(&self, field: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        text.lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .with_context(|| format!("{field} in smaps_rollup"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
