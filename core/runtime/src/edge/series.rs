//! What is counted of requests. The series of a route are looked up in the recorder once: making their names and finding
//! them costs more than counting.

use std::{collections::HashMap, time::Duration};

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::RwLock;

/// Series by route. As many as there are routes, methods and statuses: unknown paths share one route.
#[derive(Default)]
pub(super) struct Series(RwLock<HashMap<Box<str>, Vec<One>>>);

struct One {
    method: &'static str,
    status: StatusCode,
    took: Histogram,
    count: Counter,
}

impl Series {
    /// Counts an answer; `route` is the path's template.
    pub(super) fn record(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = label(method);
        let is_it = |one: &&One| one.status == status && one.method == method;
        if let Some(one) = self.0.read().get(route).and_then(|all| all.iter().find(is_it)) {
            return one.record(took);
        }
        let one = One {
            method,
            status,
            took: histogram!("carillon_http_request_duration_seconds", "method" => method, "route" => route.to_owned()),
            count: counter!("carillon_http_requests_total", "method" => method, "route" => route.to_owned(),
                "status" => status.as_str().to_owned()),
        };
        one.record(took);
        let mut series = self.0.write();
        let all = series.entry(route.into()).or_default();
        // Another request may have been faster.
        if !all.iter().any(|other| is_it(&other)) {
            all.push(one);
        }
    }
}

impl One {
    fn record(&self, took: Duration) {
        self.took.record(took);
        self.count.increment(1);
    }
}

fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
