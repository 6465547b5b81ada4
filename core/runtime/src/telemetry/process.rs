//! The process's own figures, from `/proc` (proc(5)).

use std::fs;

/// `sysconf(_SC_CLK_TCK)`, which Linux fixes for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sets the gauges. What cannot be read is left out.
pub(super) fn record() {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            metrics::gauge!("process_resident_memory_bytes").set(kib * 1_024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            metrics::gauge!("process_threads").set(threads);
        }
    }
    if let Some(tasks) = tasks() {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; counts stay far below 2^52"
        )]
        metrics::gauge!("carillon_tasks").set(tasks as f64);
    }
    if let Ok(folder) = fs::read_dir("/proc/self/fd") {
        // The folder itself is open while it is counted.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; counts stay far below 2^52"
        )]
        metrics::gauge!("process_open_fds").set(folder.count().saturating_sub(1) as f64);
    }
    if let Some(most) = fs::read_to_string("/proc/self/limits")
        .ok()
        .as_deref()
        .and_then(|limits| field(limits, "Max open files"))
    {
        metrics::gauge!("process_max_fds").set(most);
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(cpu_seconds)
    {
        metrics::gauge!("process_cpu_seconds_total").set(seconds);
    }
}

/// Tasks of the runtime that have not ended; none outside a runtime.
fn tasks() -> Option<usize> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(runtime.metrics().num_alive_tasks())
}

/// The first number behind a line's name.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// `utime` and `stime`, the 14th and 15th field; the second may hold spaces and ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::{super::Metrics, tasks};

    #[tokio::test]
    async fn tasks_are_counted_as_long_as_they_live() {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(ended);
        assert_eq!(tasks(), Some(1));
        drop(end);
        assert!(task.await.expect("ends").is_err());
        assert_eq!(tasks(), Some(0));
    }

    #[test]
    fn two_servers_in_one_process_share_their_metrics() {
        let (first, second) = (Metrics::install(), Metrics::install());
        metrics::counter!("carillon_test_total").increment(2);
        for page in [first.render(), second.render()] {
            for name in [
                "carillon_test_total 2",
                "process_resident_memory_bytes ",
                "process_open_fds ",
                "process_max_fds ",
                "process_threads ",
                "process_cpu_seconds_total ",
            ] {
                assert!(page.contains(&format!("\n{name}")), "{name}\n{page}");
            }
        }
    }
}
