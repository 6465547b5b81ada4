use std::{error::Error, panic::AssertUnwindSafe, process::ExitCode, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Stop, Worker};

/// Waits between two runs of a part that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A part that ran this long had recovered: its next failure counts as the first.
const RECOVERED: Duration = Duration::from_secs(60);

/// A critical part that fails this often in a row ends the process: another process may do better.
const PATIENCE: u32 = 8;

/// Time to be dropped after the second stage.
const ABORTING: Duration = Duration::from_secs(2);

/// Starts the parts of a process, keeps them running, and ends them.
pub struct Supervisor {
    stop: Stop,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<&'static str>>>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The critical part that ended unasked, if one did.
    pub failed: Option<&'static str>,
    /// Not all parts came to their end in time.
    pub forced: bool,
}

impl Ending {
    /// Zero when the process was asked to end, one when a critical part had failed. Ending late is no failure: what
    /// was cut off is taken up again by whoever comes next.
    pub fn code(&self) -> ExitCode {
        if self.failed.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl Supervisor {
    /// Nothing runs yet. `stop` is what all parts are given.
    pub fn new(stop: Stop) -> Self {
        Self {
            stop,
            tasks: TaskTracker::new(),
            failure: Arc::new(Mutex::new(None)),
        }
    }

    /// What all parts are given.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs a part that the process can be without for a while: it is run again, with pauses, for ever.
    pub fn start(&self, worker: Arc<dyn Worker>) {
        self.keep(worker, u32::MAX);
    }

    /// Runs a part that the process is nothing without: when it cannot be kept running, the process ends.
    pub fn start_critical(&self, worker: Arc<dyn Worker>) {
        self.keep(worker, PATIENCE);
    }

    /// Runs what cannot be begun anew, such as a bound listener: its unasked end ends the process.
    pub fn spawn_critical(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (stop, failure) = (self.stop.clone(), Arc::clone(&self.failure));
        self.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = AssertUnwindSafe(part).catch_unwind() => ended,
                () = stop.aborted() => return,
            };
            if ended.is_err() || !stop.is_finishing() {
                tracing::error!(
                    part = name,
                    panicked = ended.is_err(),
                    "a critical part ended unasked"
                );
                give_up(&failure, &stop, name);
            }
        });
    }

    fn keep(&self, worker: Arc<dyn Worker>, patience: u32) {
        let (stop, failure) = (self.stop.clone(), Arc::clone(&self.failure));
        self.tasks.spawn(async move {
            let name = worker.name();
            let mut failures = 0;
            let mut pause = FIRST_PAUSE;
            loop {
                let began = Instant::now();
                let run = AssertUnwindSafe(worker.run(stop.clone())).catch_unwind();
                let ended = tokio::select! {
                    ended = run => ended,
                    () = stop.aborted() => return,
                };
                let how = describe(ended);
                if stop.is_finishing() {
                    if how != RETURNED {
                        tracing::error!(worker = name, reason = how, "a worker failed while ending");
                    }
                    return;
                }
                metrics::counter!("carillon_worker_failures_total", "worker" => name).increment(1);
                if began.elapsed() >= RECOVERED {
                    (failures, pause) = (0, FIRST_PAUSE);
                }
                failures += 1;
                if failures >= patience {
                    tracing::error!(
                        worker = name,
                        reason = how,
                        failures,
                        "a critical worker cannot be kept running"
                    );
                    return give_up(&failure, &stop, name);
                }
                tracing::error!(
                    worker = name,
                    reason = how,
                    failures,
                    ?pause,
                    "a worker ended unasked; it is run again"
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.finishing() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Waits for `SIGTERM`, `SIGINT` or the end of a critical part; then all parts have `grace` to end. A second signal
    /// cuts it short.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub async fn run(self, grace: Duration) -> std::io::Result<Ending> {
        let mut signals = Signals::new()?;
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "ending"),
            () = self.stop.finishing() => {}
        }
        self.stop.finish();
        self.tasks.close();
        let forced = tokio::select! {
            () = self.tasks.wait() => false,
            () = tokio::time::sleep(grace) => {
                tracing::warn!(?grace, parts = self.tasks.len(), "not all parts ended in time");
                true
            }
            name = signals.next() => {
                tracing::warn!(signal = name, parts = self.tasks.len(), "ending at once");
                true
            }
        };
        self.stop.abort();
        if timeout(ABORTING, self.tasks.wait()).await.is_err() {
            tracing::error!(parts = self.tasks.len(), "parts do not react any more");
        }
        let failed = *self.failure.lock();
        Ok(Ending { failed, forced })
    }
}

fn give_up(failure: &Mutex<Option<&'static str>>, stop: &Stop, name: &'static str) {
    failure.lock().get_or_insert(name);
    stop.finish();
}

const RETURNED: &str = "returned";

/// In words, for the log.
fn describe(
    ended: Result<Result<(), Box<dyn Error + Send + Sync>>, Box<dyn std::any::Any + Send>>,
) -> String {
    match ended {
        Ok(Ok(())) => RETURNED.to_owned(),
        Ok(Err(error)) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text
        }
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panicked: {}", message.unwrap_or_default())
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// Fails in its own way until the run `good`, then does as it is told.
    struct Clumsy {
        runs: AtomicU32,
        good: u32,
    }

    #[async_trait]
    impl Worker for Clumsy {
        fn name(&self) -> &'static str {
            "clumsy"
        }

        async fn run(&self, stop: Stop) -> Result<(), Box<dyn Error + Send + Sync>> {
            match self.runs.fetch_add(1, Ordering::Relaxed) + 1 {
                run if run >= self.good => {
                    stop.finishing().await;
                    Ok(())
                }
                run if run % 3 == 0 => panic!("run {run}"),
                run if run % 3 == 1 => Err("it slipped".into()),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_is_run_again() {
        let supervisor = Supervisor::new(Stop::new());
        let worker = Arc::new(Clumsy {
            runs: AtomicU32::new(0),
            good: 6,
        });
        supervisor.start_critical(Arc::<Clumsy>::clone(&worker));
        let stop = supervisor.stop().clone();
        let running = tokio::spawn(supervisor.run(Duration::from_secs(5)));
        while worker.runs.load(Ordering::Relaxed) < 6 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.finish();
        let ending = running.await.expect("no panic").expect("signals");
        assert_eq!(
            ending,
            Ending {
                failed: None,
                forced: false
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_worker_that_cannot_be_kept_running_ends_the_process() {
        let supervisor = Supervisor::new(Stop::new());
        supervisor.start_critical(Arc::new(Clumsy {
            runs: AtomicU32::new(0),
            good: u32::MAX,
        }));
        supervisor.spawn_critical("listener", {
            let stop = supervisor.stop().clone();
            async move { stop.finishing().await }
        });
        let ending = supervisor.run(Duration::from_secs(5)).await.expect("signals");
        assert_eq!(
            ending,
            Ending {
                failed: Some("clumsy"),
                forced: false
            }
        );
        assert_eq!(format!("{:?}", ending.code()), format!("{:?}", ExitCode::FAILURE));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_of_what_cannot_begin_anew_ends_the_process_and_a_late_part_is_cut_off() {
        let supervisor = Supervisor::new(Stop::new());
        supervisor.spawn_critical("listener", async {});
        supervisor.spawn_critical("deaf", std::future::pending());
        let ending = supervisor.run(Duration::from_secs(5)).await.expect("signals");
        assert_eq!(
            ending,
            Ending {
                failed: Some("listener"),
                forced: true
            }
        );
    }
}
