use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use carillon_domain::{Clock as _, SystemClock};
use carillon_testkit::StoreChecker;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{
    api::Api,
    command::{carillon, clean},
    ports::free_port,
    wait::{DEADLINE, within},
};

/// The store under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    /// What `CARILLON_TEST_STORE` says; SQLite without it.
    pub(crate) fn under_test() -> Self {
        match std::env::var("CARILLON_TEST_STORE").as_deref() {
            Ok("sqlite") | Err(_) => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("CARILLON_TEST_STORE is `sqlite` or `postgres`, not `{other}`"),
        }
    }
}

/// How a server is started.
#[derive(Debug, Default, Clone)]
pub(crate) struct Start {
    environment: Vec<(String, String)>,
    config: Option<String>,
    dev: bool,
}

impl Start {
    /// Sets a variable; config keys are `CARILLON_SECTION__KEY`.
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// A config file's text.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// With the quickstart page and its webhook receiver.
    pub(crate) fn dev(mut self) -> Self {
        self.dev = true;
        self
    }

    /// Everything that `more` says too; it counts where both say something.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.environment.extend(more.environment);
        self.config = more.config.or(self.config);
        self.dev |= more.dev;
        self
    }

    pub(crate) async fn serve(self) -> Server {
        Server::start(self).await
    }
}

/// A running server with its data folder. Dropped: killed, and its folder removed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    watchdog: Option<Child>,
    data: TempDir,
    log: PathBuf,
    port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    key: OnceCell<String>,
    store: StoreChecker,
    /// Whether a test broke the store on purpose.
    is_spoiled: bool,
    /// From the start of the process to the first ready answer.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// With an empty store.
    pub(crate) async fn start(start: Start) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut environment = start.environment;
        if Store::under_test() == Store::Postgres {
            let url = carillon_testkit::create_postgres_database().await;
            environment.push(("CARILLON_STORE__URL".to_owned(), url));
            // On a shared database a killed server's leases must run out; the default would make tests wait a minute.
            environment.push(("CARILLON_DISPATCHER__PLANNER__LEASE".to_owned(), "5s".to_owned()));
        }
        let store = match environment
            .iter()
            .rfind(|(name, _)| name == "CARILLON_STORE__URL")
        {
            Some((_, url)) if url.starts_with("postgres") => StoreChecker::postgres(url),
            _ => StoreChecker::sqlite(data.path()),
        };
        let mut arguments = Vec::new();
        if let Some(text) = start.config {
            let path = data.path().join("carillon.toml");
            std::fs::write(&path, text).expect("the config file is written");
            arguments.extend(["--config".to_owned(), path.display().to_string()]);
        }
        if start.dev {
            arguments.push("--dev".to_owned());
        }
        let mut server = Self {
            child: None,
            watchdog: None,
            log: super::secrets::server_log().unwrap_or_else(|| data.path().join("server.log")),
            data,
            port: free_port(),
            arguments,
            environment,
            key: OnceCell::new(),
            store,
            is_spoiled: false,
            ready_after: Duration::ZERO,
        };
        server.spawn().await;
        server
    }

    async fn spawn(&mut self) {
        let begun = Instant::now();
        let listen = self.address();
        let data = self.data.path().display().to_string();
        let mut arguments = vec!["serve", "--data", &data, "--listen", &listen];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log opens");
        let child = clean(&arguments)
            .into_std()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the executable starts");
        self.watchdog = Some(watchdog(child.id()));
        self.child = Some(child);
        self.wait_ready(begun).await;
    }

    async fn wait_ready(&mut self, begun: Instant) {
        let tls = self
            .environment
            .iter()
            .any(|(name, _)| name == "CARILLON_SERVER__TLS__CERTIFICATE");
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/health/ready", self.address());
        // Only whether it is ready is asked here; who it is, is asked by the tests of TLS.
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .build();
        let http = http.expect("a client");
        loop {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().expect("a child"))
            {
                panic!("the server ended at its start with {status}:\n{}", self.log());
            }
            if let Ok(answer) = http.get(&url).send().await
                && answer.status().is_success()
            {
                self.ready_after = begun.elapsed();
                return;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "the server is not ready:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// What the server and its commands are configured with.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// What the server has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Runs a command of the executable on this server's data.
    pub(crate) async fn command(&self, arguments: &[&str]) -> super::Finished {
        let data = self.data.path().display().to_string();
        let mut all = arguments.to_vec();
        all.extend(["--data", &data]);
        carillon(&all, &self.environment).await
    }

    /// The tenant `default`, by an API key with every scope that a backend gets.
    pub(crate) async fn api(&self) -> Api {
        let key = self.key.get_or_init(|| self.create_key("default", &[])).await;
        Api::new(&self.url(), "", key)
    }

    /// Another tenant, by a key of its own.
    pub(crate) async fn tenant(&self, tenant: &str) -> Api {
        let key = self.create_key(tenant, &[]).await;
        Api::new(&self.url(), &format!("/t/{tenant}"), &key)
    }

    /// A key by the command line.
    pub(crate) async fn create_key(&self, tenant: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["keys", "create", "--tenant", tenant, "--name", "tests"];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        self.command(&arguments).await.line().to_owned()
    }

    /// What its rows never may be, and are.
    pub(crate) async fn violations(&mut self) -> Vec<String> {
        self.store.violations(SystemClock.now().as_micros()).await
    }

    /// What a query on the dispatcher's rows answers: one text per row.
    pub(crate) async fn texts(&self, query: String) -> Vec<String> {
        self.store.texts(query).await
    }

    /// Breaks the store, so that a test sees that it would be found.
    pub(crate) async fn spoil(&mut self, statement: &'static str) {
        self.is_spoiled = true;
        self.store.spoil(statement).await;
    }

    /// The last look, out of code that cannot wait.
    fn last_violations(&mut self) -> Vec<String> {
        std::thread::scope(|scope| {
            let look = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(self.violations())
            });
            look.join().expect("the store answers")
        })
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
        }
        self.stop_watchdog();
    }

    /// SIGTERM; the server has its drain deadline to end.
    pub(crate) fn terminate(&self) {
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.pid())])
            .status()
            .expect("sh runs");
        assert!(status.success(), "the server is gone");
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let ended = within("the server's end", async {
            loop {
                if let Some(status) = child.try_wait().expect("the child is ours") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        self.stop_watchdog();
        ended
    }

    /// Starts again on the same data and the same address.
    pub(crate) async fn start_again(&mut self) {
        self.kill();
        self.spawn().await;
    }

    fn stop_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The last thing that the server said is often the reason.
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            let _ = writeln!(std::io::stderr(), "-- the server's log ends with:");
            for line in tail.iter().rev() {
                let _ = writeln!(std::io::stderr(), "   {line}");
            }
            return self.kill();
        }
        let broken = if self.is_spoiled {
            Vec::new()
        } else {
            self.last_violations()
        };
        self.kill();
        assert!(
            broken.is_empty(),
            "the store contradicts itself:\n{}",
            broken.join("\n")
        );
    }
}

/// Ends the server (or another process) when the test process ends in a way that runs no `drop`: its end closes the pipe.
pub(crate) fn watchdog(server: u32) -> Child {
    std::process::Command::new("sh")
        .args(["-c", &format!("cat >/dev/null; kill -9 {server} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sh runs")
}

/// One server for all tests that neither stop nor configure theirs: they keep apart by users and topics of their own.
pub(crate) async fn shared() -> &'static Server {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED
        .get_or_init(|| {
            Start::default()
                .env("CARILLON_DISPATCHER__TOPICS__LIVE_ONLY_PREFIXES", "[\"live.\"]")
                .serve()
        })
        .await
}
