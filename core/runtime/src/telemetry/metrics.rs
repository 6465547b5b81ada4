//! Prometheus metrics.

use std::sync::{Arc, OnceLock};

use axum::{Router, routing::get};
use http::header;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;
use crate::{edge::Connections, lifecycle::Stop};

/// Bounds of every histogram in seconds, from a cached answer to a hung one.
const SECONDS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How often what histograms collected is put into their buckets; until then it takes memory.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// This process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    connections: Arc<[(&'static str, Connections)]>,
}

impl Metrics {
    /// Collects what is recorded by the `metrics` crate from now on. The recorder is the process's: every call after
    /// the first gives the same metrics.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .expect("the bounds are not empty")
                .build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!(
                    "another part collects this process's metrics; /metrics shows only the process itself"
                );
            }
            describe();
            handle
        });
        Self {
            handle: handle.clone(),
            connections: Arc::new([]),
        }
    }

    /// Also shows how many connections an edge has open, as `carillon_connections_open{listener=name}`.
    #[must_use]
    pub fn with_connections(mut self, name: &'static str, connections: Connections) -> Self {
        let mut all = self.connections.to_vec();
        all.push((name, connections));
        self.connections = all.into();
        self
    }

    /// All metrics as Prometheus text.
    pub fn render(&self) -> String {
        process::record();
        for (listener, connections) in self.connections.iter() {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a gauge is a float; counts stay far below 2^52"
            )]
            metrics::gauge!("carillon_connections_open", "listener" => *listener)
                .set(connections.open() as f64);
        }
        self.handle.render()
    }

    /// `GET /metrics`, for the internal listener.
    pub fn routes(&self) -> Router {
        let metrics = self.clone();
        Router::new().route(
            "/metrics",
            get(move || async move {
                (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                    metrics.render(),
                )
            }),
        )
    }

    /// Keeps histograms small while nobody asks for them. Run it once per process, by a supervisor.
    pub async fn keep(self, stop: Stop) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                _ = tick.tick() => self.handle.run_upkeep(),
                () = stop.finishing() => return,
            }
        }
    }
}

/// What the edge and the process report.
fn describe() {
    describe_counter!(
        "carillon_http_requests_total",
        "HTTP requests by method, route and status"
    );
    describe_histogram!(
        "carillon_http_request_duration_seconds",
        "Time from a request's head to its answer's head"
    );
    describe_counter!(
        "carillon_http_taken_over_total",
        "Streams that left HTTP for the hub"
    );
    describe_counter!("carillon_http_panics_total", "Requests whose handler panicked");
    describe_counter!(
        "carillon_connections_refused_total",
        "Connections closed at once because of a limit"
    );
    describe_counter!(
        "carillon_accept_failures_total",
        "Times that no connection could be accepted"
    );
    describe_counter!(
        "carillon_tls_reload_failures_total",
        "Changed certificates that could not be used"
    );
    describe_counter!(
        "carillon_worker_failures_total",
        "Times that a worker ended unasked"
    );
    describe_gauge!("carillon_connections_open", "Open connections by listener");
    describe_gauge!("carillon_tasks", "Tasks of the runtime that have not ended");
    describe_gauge!("process_resident_memory_bytes", "Resident memory");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_gauge!("process_max_fds", "File descriptors that may be open");
    describe_gauge!("process_threads", "Threads");
    describe_gauge!("process_cpu_seconds_total", "CPU time, user and system");
}
