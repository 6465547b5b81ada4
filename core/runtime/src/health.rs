//! Whether this process lives, and whether requests should come to it.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::lifecycle::Stop;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer is good for, so that asking often costs the backends nothing.
const FRESH: Duration = Duration::from_millis(500);

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The health of a process: named checks, and whether it is about to end.
pub struct Health {
    stop: Stop,
    checks: Vec<(&'static str, Check)>,
}

/// What `/health/live` and `/health/ready` answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
struct Report {
    /// `live`; `ready`, `unavailable` or `draining`.
    status: &'static str,
    /// Each check's `ok` or `failed`; the reason is in the log.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    checks: BTreeMap<&'static str, &'static str>,
}

/// The checks' last results.
struct Checked {
    health: Health,
    last: Mutex<Option<(Instant, BTreeMap<&'static str, &'static str>)>>,
}

impl Health {
    /// Without checks: ready until `stop` begins.
    pub fn new(stop: Stop) -> Self {
        Self {
            stop,
            checks: Vec::new(),
        }
    }

    /// Adds a check; its error goes to the log and not to whoever asks.
    #[must_use]
    pub fn check<F, R>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(check()))));
        self
    }

    /// `GET /health/live` and `GET /health/ready`.
    pub fn routes(self) -> OpenApiRouter {
        let state = Arc::new(Checked {
            health: self,
            last: Mutex::new(None),
        });
        OpenApiRouter::new()
            .routes(routes!(live))
            .routes(routes!(ready))
            .with_state(state)
    }
}

impl Checked {
    async fn results(&self) -> BTreeMap<&'static str, &'static str> {
        // Held while checking: those who ask meanwhile get the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, results)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return results.clone();
        }
        let before = last.take().map(|(_, results)| results).unwrap_or_default();
        let checks = self.health.checks.iter().map(|(name, check)| async move {
            let result = timeout(PATIENCE, check())
                .await
                .unwrap_or_else(|_| Err("took too long".to_owned()));
            (*name, result)
        });
        let mut results = BTreeMap::new();
        for (name, result) in futures_util::future::join_all(checks).await {
            let word = if result.is_ok() { "ok" } else { "failed" };
            if before.get(name).is_none_or(|known| *known != word) {
                match result {
                    Ok(()) => tracing::debug!(check = name, "a health check passes"),
                    Err(reason) => tracing::warn!(check = name, reason, "a health check fails"),
                }
            }
            results.insert(name, word);
        }
        *last = Some((Instant::now(), results.clone()));
        results
    }
}

/// Whether the process answers at all. A process that does not should be restarted.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "It answers", body = Report)))]
async fn live() -> Json<Report> {
    Json(Report {
        status: "live",
        checks: BTreeMap::new(),
    })
}

/// Whether requests should come here: every part that it needs answers, and it is not about to end.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "Send requests here", body = Report),
        (status = 503, description = "Send them elsewhere", body = Report),
    ))]
async fn ready(State(checked): State<Arc<Checked>>) -> (StatusCode, Json<Report>) {
    if checked.health.stop.is_finishing() {
        let report = Report {
            status: "draining",
            checks: BTreeMap::new(),
        };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(report));
    }
    let checks = checked.results().await;
    let (code, status) = if checks.values().all(|word| *word == "ok") {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    (code, Json(Report { status, checks }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use axum::{Router, body::Body};
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: &Router, path: &str) -> (u16, serde_json::Value) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_follows_the_checks_and_the_drain() {
        let (stop, good, asked) = (
            Stop::new(),
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicU32::new(0)),
        );
        let (store, count) = (Arc::clone(&good), Arc::clone(&asked));
        let health = Health::new(stop.clone())
            .check("bus", || async { Ok(()) })
            .check("store", move || {
                count.fetch_add(1, Ordering::Relaxed);
                let good = store.load(Ordering::Relaxed);
                async move {
                    if good {
                        Ok(())
                    } else {
                        Err("no route to db.internal".to_owned())
                    }
                }
            });
        let router: Router = health.routes().into();
        let ok = serde_json::json!({"status": "ready", "checks": {"bus": "ok", "store": "ok"}});
        assert_eq!(ask(&router, "/health/ready").await, (200, ok.clone()));
        good.store(false, Ordering::Relaxed);
        assert_eq!(
            ask(&router, "/health/ready").await,
            (200, ok),
            "for half a second"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        let failed = serde_json::json!({"status": "unavailable", "checks": {"bus": "ok", "store": "failed"}});
        assert_eq!(ask(&router, "/health/ready").await, (503, failed));
        stop.finish();
        assert_eq!(ask(&router, "/health/ready").await.1["status"], "draining");
        assert_eq!(ask(&router, "/health/live").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_has_failed() {
        let health = Health::new(Stop::new()).check("store", std::future::pending);
        assert_eq!(ask(&health.routes().into(), "/health/ready").await.0, 503);
    }
}
