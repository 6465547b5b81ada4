//! The durable life of a notification.
//!
//! The cast, in the order of their appearance:
//!
//! - **Intake** takes notifications in. What arrives while one commit is under way shares the next one; 202 leaves only
//!   after the notification and its outbox row are committed and synced. An idempotency key is a row of that same
//!   commit, unique by `(tenant, route, key)`, so that a request sent twice is accepted once.
//! - **Outbox**: a row per accepted notification that is not planned yet. It is the source of truth: queue and bus may
//!   lose everything they hold.
//! - **Relay** leases due outbox rows and hands them to the queue. It wakes by a hint, by the next due time and by a
//!   period, and looks for itself each time; a lease that is not answered ends, and the row is due again.
//! - **Planner** takes jobs from the queue, asks the directory who the users are, and writes recipients, inbox entries,
//!   mailbox log, deliveries and topic histories in one transaction that also removes the outbox row and checks the
//!   lease's token. So planning is at least once tried and exactly once written: a job that comes twice, late, or to
//!   two planners finds the row gone or the token old. What is too much for one transaction is planned in parts, each
//!   of which finds what the earlier ones wrote; the last one removes the outbox row. What goes to topics' subscribers and
//!   segments is planned page by page, each of which makes the next one due behind what waits. A notification that cannot be planned is tried again alone, ever
//!   more slowly, until its time to live ends.
//! - **Mailboxes** carry what users and their devices do: acknowledgements, snoozes, deletions. Each change gets the
//!   next number of its mailbox, under that mailbox's lock, in the transaction that makes it: numbers have no holes and
//!   their order is the order of commits. The first acknowledgement of a notification by a user wins.
//! - **Topics** keep bounded histories, numbered the same way; live-only topics keep nothing.
//! - **Ladder** moves recipients on: when a step's time is over, nothing of it arrived, or nobody is there any more, the
//!   next one starts, with everything read anew; it also ends those whose time to live is over.
//! - **Deliverer** tries what goes outside, lane by lane: fixed widths, tenants in turn, a breaker per lane, retries
//!   until the time to live ends.
//! - **Remote** hands the work of channels that workers bring to those who pull it, under the same leases, and hears what
//!   became of it.
//! - **Sources** are tools whose events become notifications, each by a mapping that is data; what a tool sends twice is
//!   accepted once, by the tool's own keys.
//! - **Rules** make notifications of domain events, which are committed first and shown to the rules afterwards.
//! - **Schedules** are accepted anew at each of their times, in the transaction that moves them on to the next one.
//! - **Announcer** hands committed changes to the bus, at most once. A hub that misses one finds it in the log by its
//!   number.
//! - **Janitor** takes away what is older than its retention, in small bites. A log that is cut raises its floor, so
//!   that whoever stood below is told of the gap.
//! - **Eraser** forgets a person; an internal id that names nobody stays a while, so that late work cannot bring him
//!   back.
//!
//! What rests on which unique key: acceptance on `(tenant, route, key)` and the notification's id; planning on
//! `(tenant, notification, user)` and `(tenant, notification, user, step, channel, address)`; replacement on the one
//! open entry per `(tenant, user, category, collapse key)`; order on `(tenant, user, seq)` and `(tenant, topic, seq)`;
//! receipts on `(tenant, notification, user, kind, channel, device)`; domain events on `(tenant, source, id)`, and what rules make of them
//! on `(event, rule)`.

mod analytics;
mod announcer;
mod audience;
mod batcher;
mod broadcasts;
mod categories;
mod channels;
mod config;
mod deliverer;
mod digest;
mod digests;
mod dispatcher;
mod domain_events;
mod endpoints;
mod erasure;
mod events;
mod fresh;
mod handover;
mod idempotency;
mod intake;
mod janitor;
mod ladder;
mod links;
mod live_only;
mod mailboxes;
mod offer;
mod pace;
mod parts;
mod planner;
#[cfg(feature = "planted-bugs")]
mod planted;
mod policy;
mod reach;
mod relay;
mod remote;
mod routes;
mod rpc;
mod rules;
mod schedules;
mod sources;
mod store;
mod suppressed;
mod tally;
mod templates;
#[cfg(test)]
mod tests;
mod topics;
mod validation;
mod verification;
mod wake;
mod why;
mod wire;
mod withdrawals;
mod workshop;

pub use config::{
    DispatcherConfig, EventsConfig, IntakeConfig, PlannerConfig, RetentionConfig, TopicsConfig,
    WebhooksConfig,
};
pub use deliverer::config::{BreakerConfig, DeliveryConfig, RetryConfig};
pub use dispatcher::{Dispatcher, DispatcherPorts};
pub use reach::ReachabilityConfig;
pub use remote::RemoteConfig;
pub use schedules::SchedulesConfig;
pub use withdrawals::WithdrawalsConfig;
