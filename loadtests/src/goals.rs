//! What is aimed at, by the figures' names. The report shows it beside what was measured.

const GOALS: [(&str, &str); 20] = [
    ("durable accepts, batches of 100", "ratio >= 0.5"),
    ("idle WebSocket, memory slope, user space", "<= 4 KiB"),
    ("idle SSE, memory slope, user space", "<= 4 KiB"),
    ("idle WebSocket, held 10 s after all left", "<= 10 % of the peak"),
    ("idle SSE, held 10 s after all left", "<= 10 % of the peak"),
    ("idle WebSocket, CPU of 10,000 with heartbeat", "<= 1 % of a core"),
    ("idle SSE, CPU of 10,000 with heartbeat", "<= 0.5 % of a core"),
    ("1 to 1,000, CPU per delivery", "ratio <= 1.5"),
    ("1 to 10,000, CPU per delivery", "ratio <= 1.3"),
    ("burst of 32 to 8,000, CPU per frame", "<= 0.7 us"),
    ("1 to 1, p99", "<= 1 ms"),
    ("1 to 1,000, p99", "<= 6 ms"),
    ("1 to 10,000, p99", "<= 80 ms"),
    ("authenticated handshake, CPU", "<= 100 us"),
    ("reconnect storm with resume, until all are back", "ratio <= 3"),
    ("reconnect storm, p99 of others", "ratio <= 2"),
    ("5 % stalled, memory of each, kernel included", "<= 256 KiB"),
    ("5 % stalled, p99 of the others", "ratio <= 1.2"),
    ("publish to nobody, 32 connections, CPU", "<= 18 us"),
    ("publish to nobody, batches of 100, CPU each", "<= 2 us"),
];

/// The goal of a figure.
pub(crate) fn of(name: &str) -> Option<&'static str> {
    GOALS
        .iter()
        .find(|(figure, _)| *figure == name)
        .map(|(_, goal)| *goal)
}
