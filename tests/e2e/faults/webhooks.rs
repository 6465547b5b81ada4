use super::{Neighbours, all_in, attempts, breaker, now, plain, send};
use crate::{
    e2e::outside::{Outside, settled, text},
    harness::{Hooks, Reply, eventually, report},
};

/// More than a lane has slots.
const BAD: usize = 40;
/// What hangs, hangs for so long.
const PATIENCE: &str = "2s";
/// As long as deliveries to the bad one live, in seconds.
const LIFE: u32 = 8;

struct Fault {
    outside: Outside,
    neighbours: Neighbours,
    /// The receiver that misbehaves, under `/bad`.
    bad: Hooks,
    ids: Vec<String>,
}

/// A server whose deliveries to the bad receiver are under way.
async fn begun(reply: Reply, ttl: u32) -> Fault {
    let outside = Outside::start_with(|start| start.env("CARILLON_OUTBOUND__TOTAL", PATIENCE)).await;
    let neighbours = Neighbours::of(&outside.server).await;
    let bad = Hooks::start().await;
    bad.script("/bad", [reply]);
    let ids = send(&outside.api, &plain("webhook", &bad.url("/bad")), BAD, ttl).await;
    bad.wait("/bad", 1).await;
    Fault {
        outside,
        neighbours,
        bad,
        ids,
    }
}

/// The outcome of one that keeps failing: the neighbours finish while its deliveries wait, which end dead with the last
/// reason when their time is over.
async fn fails(what: &str, reply: Reply, reason: &str) -> Fault {
    let fault = begun(reply, LIFE).await;
    let meanwhile = fault.neighbours.finish().await;
    let api = &fault.outside.api;
    let bad = now(api, &fault.ids, "webhook").await;
    assert!(
        bad.iter().any(|delivery| delivery["state"] == "pending"),
        "the neighbours waited for the bad ones: {meanwhile}"
    );
    let dead = all_in(api, &fault.ids, "webhook", "dead").await;
    assert!(attempts(&dead, "retry", reason) > 0);
    // A notification shows a delivery's last attempts; the delivery counts all.
    let mut tried = 0;
    for one in &dead {
        let shown = settled(api, &text(&one["id"]), "dead").await;
        tried += shown["attempt_count"].as_u64().expect("a count");
    }
    assert_eq!(usize::try_from(tried), Ok(fault.bad.seen("/bad").len()));
    let last: Vec<_> = dead.iter().map(|one| text(&one["reason"])).collect();
    assert!(
        last.iter().any(|last| last.ends_with(reason)),
        "the last reason is kept: {last:?}"
    );
    report(&format!(
        "fault: a webhook receiver that {what}: {tried} attempts end `retry` ({reason}), {BAD} deliveries dead when \
         their time is over; {meanwhile}"
    ));
    fault
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_nobody_else() {
    fails("never answers", Reply::Silence, "no answer in time").await;
}

#[tokio::test]
async fn a_receiver_that_answers_byte_by_byte_holds_up_nobody_else() {
    fails("answers one byte at a time", Reply::Drip, "no answer in time").await;
}

#[tokio::test]
async fn a_receiver_that_resets_holds_up_nobody_else() {
    fails("resets", Reply::Reset, "the connection ended before an answer").await;
}

#[tokio::test]
async fn a_redirect_into_a_private_network_is_not_followed() {
    let inside = Hooks::start().await;
    let to = format!("location: {}\r\n", inside.url("/inside"));
    let reply = Reply::Status(302, to);
    fails("redirects to a private address", reply, "answered 302").await;
    assert!(inside.seen("/inside").is_empty());
}

#[tokio::test]
async fn a_content_length_that_promises_too_much_or_too_little_hides_nothing() {
    for (what, reply, excerpt) in [
        ("announces more than it sends", Reply::TooShort, "few"),
        ("sends more than it announces", Reply::TooLong, "ok"),
    ] {
        let fault = begun(reply, LIFE).await;
        let meanwhile = fault.neighbours.finish().await;
        let api = &fault.outside.api;
        let delivered = all_in(api, &fault.ids, "webhook", "delivered").await;
        for delivery in &delivered {
            let last = delivery["attempts"]
                .as_array()
                .and_then(|attempts| attempts.last())
                .expect("an attempt");
            assert_eq!(
                (&last["status"], &last["excerpt"]),
                (&200.into(), &excerpt.into())
            );
        }
        // The answer that nobody asked for said 410.
        let gone = api.get("/v1/suppressions").await.expect(200);
        assert_eq!(gone["data"].as_array().map(Vec::len), Some(0), "{gone}");
        report(&format!(
            "fault: a webhook receiver that {what}: {BAD} deliveries `delivered` with what came; {meanwhile}"
        ));
    }
}

/// The most memory that the process ever had resident, in KiB.
fn most_resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux says so");
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number")
}

#[tokio::test]
async fn an_answer_of_200_megabytes_is_not_read() {
    let outside = Outside::start_with(|start| start.env("CARILLON_OUTBOUND__TOTAL", PATIENCE)).await;
    let neighbours = Neighbours::of(&outside.server).await;
    neighbours.finish().await;
    let before = most_resident(outside.server.pid());
    let bad = Hooks::start().await;
    bad.script("/bad", [Reply::Flood(200 * 1_024 * 1_024)]);
    let ids = send(&outside.api, &plain("webhook", &bad.url("/bad")), BAD, 60).await;
    let delivered = all_in(&outside.api, &ids, "webhook", "delivered").await;
    for delivery in &delivered {
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["status"], 200);
        assert_eq!(attempt["excerpt"].as_str().map(str::len), Some(1_024));
    }
    let grown = most_resident(outside.server.pid()).saturating_sub(before) / 1_024;
    assert!(grown < 64, "the process grew by {grown} MiB");
    let taken = bad.flooded() / (BAD as u64 * 1_024 * 1_024);
    assert!(taken < 20, "{taken} MiB per answer left the receiver");
    report(&format!(
        "fault: a webhook receiver that sends 200 MB: {BAD} deliveries `delivered`, of each answer less than {} MiB left \
         the receiver, the server's memory grew by {grown} MiB at most",
        taken + 1
    ));
}

#[tokio::test]
async fn a_receiver_that_fails_for_an_hour_gets_everything_when_it_recovers() {
    let fault = begun(Reply::status(503), 60).await;
    let api = &fault.outside.api;
    eventually("the breaker to open", || async {
        let states = breaker(api, "webhook").await;
        states.iter().any(|state| state != "closed").then_some(())
    })
    .await;
    let meanwhile = fault.neighbours.finish().await;
    // Some rounds of the breaker: with the schedule of production these are hours.
    let asked = fault.bad.seen("/bad").len();
    fault.bad.wait("/bad", asked + 5).await;
    for delivery in now(api, &fault.ids, "webhook").await {
        assert_eq!(delivery["state"], "pending", "{delivery}");
    }
    fault.bad.script("/bad", [Reply::status(204)]);
    let failed = fault.bad.seen("/bad").len();
    let delivered = all_in(api, &fault.ids, "webhook", "delivered").await;
    eventually("the breaker to close", || async {
        let states = breaker(api, "webhook").await;
        states.iter().all(|state| state == "closed").then_some(())
    })
    .await;
    for delivery in &delivered {
        settled(api, &text(&delivery["id"]), "delivered").await;
    }
    report(&format!(
        "fault: a webhook receiver that fails for an hour (its schedule shortened): {failed} attempts for {BAD} \
         deliveries while its breaker let one through at a time, all `delivered` when it recovered; {meanwhile}"
    ));
}
