//! How notifications live, and how long.

use carillon_runtime::config::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliverer::config::DeliveryConfig, reach::ReachabilityConfig, remote::RemoteConfig,
    schedules::SchedulesConfig, store::StoreLimits, withdrawals::WithdrawalsConfig,
};

/// How often a transaction begins anew that the database broke off for the sake of another.
const ANEW: u32 = 5;

/// Section `dispatcher`: intake, planning, inboxes, topics and retention.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DispatcherConfig {
    /// How notifications are taken in.
    pub intake: IntakeConfig,
    /// How accepted notifications are planned.
    pub planner: PlannerConfig,
    /// How notifications climb their plans.
    pub ladder: LadderConfig,
    /// How well devices have proved to be within reach.
    pub reachability: ReachabilityConfig,
    /// How deliveries outside the inbox are tried.
    pub delivery: DeliveryConfig,
    /// Webhook endpoints and what they are told.
    pub webhooks: WebhooksConfig,
    /// How workers get the work of the channels that they bring.
    pub remote: RemoteConfig,
    /// How domain events are shown to rules.
    pub events: EventsConfig,
    /// Notifications that are sent at a time, or again and again.
    pub schedules: SchedulesConfig,
    /// How withdrawn notifications end for many recipients.
    pub withdrawals: WithdrawalsConfig,
    /// Alerts that waited together go out as one notification.
    pub digests: DigestsConfig,
    /// Topics.
    pub topics: TopicsConfig,
    /// What is kept, and how long.
    pub retention: RetentionConfig,
}

/// Section `dispatcher.intake`: requests that arrive while a commit is under way share the next one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    /// Requests that may wait for a commit; above, new ones are answered 503 at once.
    pub queue: usize,
    /// Bytes that waiting requests may hold; above, new ones are answered 503 at once.
    pub queue_bytes: ByteSize,
    /// Notifications, publications or commands that one commit takes at the most; a single larger request still
    /// passes.
    pub batch: usize,
    /// Bytes that one commit takes at the most; a single larger request still passes.
    pub batch_bytes: ByteSize,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self {
            queue: 4_096,
            queue_bytes: ByteSize::mib(64),
            batch: 1_000,
            batch_bytes: ByteSize::mib(4),
        }
    }
}

/// Section `dispatcher.planner`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlannerConfig {
    /// Notifications that one transaction plans at the most.
    pub batch: usize,
    /// Recipients that one transaction plans at the most; a larger notification is planned in several.
    pub batch_recipients: usize,
    /// Bytes that one planning transaction writes at the most, about; a larger notification is planned in several, and
    /// a single recipient always passes.
    pub batch_bytes: ByteSize,
    /// How long a notification is handed out before it is handed out again, should nobody have planned it.
    pub lease: Span,
    /// How often the relay looks without being woken, at least.
    pub poll: Span,
    /// The first wait after a notification could not be planned; it doubles each time.
    pub retry_first: Span,
    /// The longest wait after a notification could not be planned. Its time to live ends the attempts.
    pub retry_longest: Span,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            batch: 1_000,
            batch_recipients: 2_000,
            batch_bytes: ByteSize::mib(16),
            lease: Span::from_secs(30),
            poll: Span::from_secs(5),
            retry_first: Span::from_secs(1),
            retry_longest: Span::from_secs(300),
        }
    }
}

/// Section `dispatcher.ladder`: recipients climb the steps of their plans, each as long as it lasts or until they answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LadderConfig {
    /// How long an answer in the app is waited for while a device of the user is active, where no plan says otherwise.
    pub hold: Span,
    /// How long an answer to a push is waited for before other channels have their turn, where no plan says otherwise.
    pub push_deadline: Span,
    /// Recipients that one transaction looks at, at the most.
    pub batch: usize,
    /// How long a recipient is handed out before it is handed out again, should nobody have looked at it.
    pub lease: Span,
    /// How often the ladder looks without being woken, at least.
    pub poll: Span,
    /// The first wait after a recipient could not be looked at; it doubles each time.
    pub retry_first: Span,
    /// The longest wait after a recipient could not be looked at. The time to live of its notification ends the attempts.
    pub retry_longest: Span,
}

impl Default for LadderConfig {
    fn default() -> Self {
        Self {
            hold: Span::from_secs(30),
            push_deadline: Span::from_secs(300),
            batch: 500,
            lease: Span::from_secs(30),
            poll: Span::from_millis(500),
            retry_first: Span::from_secs(1),
            retry_longest: Span::from_secs(300),
        }
    }
}

/// Section `dispatcher.digests`: alerts that waited together go out as one notification.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DigestsConfig {
    /// Digests that are handed out at once, at the most.
    pub batch: usize,
    /// How often it is looked for digests that close, at least.
    pub poll: Span,
    /// How long one that could not be closed waits.
    pub retry: Span,
}

impl Default for DigestsConfig {
    fn default() -> Self {
        Self {
            batch: 100,
            poll: Span::from_millis(500),
            retry: Span::from_secs(10),
        }
    }
}

/// Section `dispatcher.webhooks`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// How long it is tried to tell an endpoint of an event.
    pub event_ttl: Span,
    /// How long an earlier secret goes on signing beside a new one, unless the request says it.
    pub secret_grace: Span,
    /// An endpoint from which nothing but failures came for so long is disabled.
    pub disable_after: Span,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            event_ttl: Span::from_days(3),
            secret_grace: Span::from_days(1),
            disable_after: Span::from_days(5),
        }
    }
}

/// Section `dispatcher.events`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events that are handed out to the rules at once, at the most.
    pub batch: usize,
    /// How long an event is handed out before it is handed out again, should nobody have shown it to the rules.
    pub lease: Span,
    /// How often is looked without being woken, at least.
    pub poll: Span,
    /// The first wait after an event could not be shown to all rules; it doubles each time.
    pub retry_first: Span,
    /// The longest wait after an event could not be shown to all rules.
    pub retry_longest: Span,
    /// How long it is tried; afterwards the rules that are left have failed.
    pub retry_for: Span,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            batch: 256,
            lease: Span::from_secs(30),
            poll: Span::from_secs(5),
            retry_first: Span::from_secs(1),
            retry_longest: Span::from_secs(300),
            retry_for: Span::from_days(3),
        }
    }
}

/// Section `dispatcher.topics`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Topics whose names begin so are live-only: they have no history and no numbers, and are never stored.
    pub live_only_prefixes: Vec<String>,
}

/// Section `dispatcher.retention`: nothing is kept for ever. The janitor takes away what is older.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Notifications with their recipients, deliveries and receipts, after they ended and their time to live too.
    pub notifications: Span,
    /// Entries in inboxes, since they arrived.
    pub entries: Span,
    /// Changes in mailbox logs.
    pub log: Span,
    /// Changes that a mailbox log keeps at the most (an eighth more for a moment, 16 at the most).
    pub log_count: u64,
    /// Idempotency keys. At least 24 hours.
    pub idempotency: Span,
    /// Domain events with what rules made of them, after all rules saw them: for so long a source and id are taken once. At
    /// least 24 hours.
    pub events: Span,
    /// Publications in topics' histories.
    pub topic_history: Span,
    /// Publications that a topic's history keeps at the most (an eighth more for a moment, 16 at the most).
    pub topic_history_count: u64,
    /// Topics that nobody publishes to, once their history is empty. A topic that comes back has a new epoch.
    pub idle_topics: Span,
    /// How far a device confirmed receipt, since it last did.
    pub devices: Span,
    /// Devices per user whose confirmations are kept.
    pub devices_per_user: usize,
    /// How often the janitor comes.
    pub sweep_every: Span,
    /// Rows that the janitor takes away in one transaction, about.
    pub sweep_chunk: usize,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            notifications: Span::from_days(30),
            entries: Span::from_days(90),
            log: Span::from_days(14),
            log_count: 10_000,
            idempotency: Span::from_days(1),
            events: Span::from_days(7),
            topic_history: Span::from_days(3),
            topic_history_count: 1_000,
            idle_topics: Span::from_days(30),
            devices: Span::from_days(90),
            devices_per_user: 64,
            sweep_every: Span::from_secs(60),
            sweep_chunk: 1_000,
        }
    }
}

impl DispatcherConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        let (intake, planner, retention) = (&self.intake, &self.planner, &self.retention);
        for (key, value, least, most) in [
            ("intake.queue", intake.queue, 1, 1 << 20),
            ("intake.batch", intake.batch, 1, 10_000),
            ("planner.batch", planner.batch, 1, 10_000),
            ("events.batch", self.events.batch, 1, 10_000),
            ("planner.batch_recipients", planner.batch_recipients, 1, 100_000),
            ("ladder.batch", self.ladder.batch, 1, 10_000),
            ("digests.batch", self.digests.batch, 1, 10_000),
            (
                "retention.devices_per_user",
                retention.devices_per_user,
                1,
                10_000,
            ),
            ("retention.sweep_chunk", retention.sweep_chunk, 1, 100_000),
        ] {
            if !(least..=most).contains(&value) {
                return fail(key, &format!("must be between {least} and {most}"));
            }
        }
        if intake.queue_bytes < ByteSize::mib(9) || intake.queue_bytes > ByteSize::mib(4_096) {
            return fail(
                "intake.queue_bytes",
                "must be between 9MiB (one batch request) and 4096MiB",
            );
        }
        if planner.batch_bytes < ByteSize::kib(64) {
            return fail("planner.batch_bytes", "must be at least 64KiB");
        }
        if intake.batch_bytes < ByteSize::kib(64) {
            return fail("intake.batch_bytes", "must be at least 64KiB");
        }
        for (key, value) in [
            ("planner.lease", planner.lease),
            ("planner.poll", planner.poll),
            ("planner.retry_first", planner.retry_first),
            ("events.lease", self.events.lease),
            ("events.poll", self.events.poll),
            ("events.retry_first", self.events.retry_first),
            ("schedules.grace", self.schedules.grace),
            ("schedules.poll", self.schedules.poll),
            ("ladder.hold", self.ladder.hold),
            ("ladder.push_deadline", self.ladder.push_deadline),
            ("ladder.lease", self.ladder.lease),
            ("ladder.poll", self.ladder.poll),
            ("digests.poll", self.digests.poll),
            ("digests.retry", self.digests.retry),
            ("ladder.retry_first", self.ladder.retry_first),
            ("reachability.patience", self.reachability.patience),
            ("reachability.poll", self.reachability.poll),
            ("webhooks.event_ttl", self.webhooks.event_ttl),
            ("webhooks.disable_after", self.webhooks.disable_after),
            ("retention.notifications", retention.notifications),
            ("retention.entries", retention.entries),
            ("retention.log", retention.log),
            ("retention.topic_history", retention.topic_history),
            ("retention.idle_topics", retention.idle_topics),
            ("retention.devices", retention.devices),
            ("retention.sweep_every", retention.sweep_every),
        ] {
            if value.is_zero() {
                return fail(key, "must be above zero");
            }
        }
        if self.webhooks.event_ttl > retention.notifications {
            return fail(
                "webhooks.event_ttl",
                "must not be above retention.notifications, after which events are removed",
            );
        }
        if planner.retry_longest < planner.retry_first {
            return fail("planner.retry_longest", "must not be below planner.retry_first");
        }
        if self.events.retry_longest < self.events.retry_first {
            return fail("events.retry_longest", "must not be below events.retry_first");
        }
        if retention.events < Span::from_days(1) {
            return fail(
                "retention.events",
                "must be at least 24h, which senders are promised",
            );
        }
        if self.ladder.retry_longest < self.ladder.retry_first {
            return fail("ladder.retry_longest", "must not be below ladder.retry_first");
        }
        for (key, value) in [
            ("ladder.hold", self.ladder.hold),
            ("ladder.push_deadline", self.ladder.push_deadline),
        ] {
            if value < Span::from_secs(1) || value > Span::from_days(30) {
                return fail(key, "must be from 1s to 30d");
            }
        }
        if retention.idempotency < Span::from_days(1) {
            return fail(
                "retention.idempotency",
                "must be at least 24h, which clients are promised",
            );
        }
        if retention.log_count == 0 || retention.topic_history_count == 0 {
            let key = if retention.log_count == 0 {
                "retention.log_count"
            } else {
                "retention.topic_history_count"
            };
            return fail(key, "must be at least 1");
        }
        if self.topics.live_only_prefixes.iter().any(String::is_empty) {
            return fail(
                "topics.live_only_prefixes",
                "an empty prefix would cover every topic",
            );
        }
        self.withdrawals
            .validate()
            .map_err(|(key, reason)| (format!("withdrawals.{key}"), reason))?;
        self.remote
            .validate()
            .map_err(|(key, reason)| (format!("remote.{key}"), reason))?;
        self.delivery
            .validate()
            .map_err(|(key, reason)| (format!("delivery.{key}"), reason))
    }

    pub(crate) fn limits(&self) -> StoreLimits {
        StoreLimits {
            log_count: self.retention.log_count,
            topic_count: self.retention.topic_history_count,
            devices: self.retention.devices_per_user,
            event_ttl: self.webhooks.event_ttl.duration(),
            disable_after: self.webhooks.disable_after.duration(),
            withdrawal_page: self.withdrawals.page,
            anew: ANEW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(DispatcherConfig::default().validate(), Ok(()));
        let mut config = DispatcherConfig::default();
        config.retention.idempotency = Span::from_secs(3_600);
        assert_eq!(
            config.validate().map_err(|(key, _)| key),
            Err("retention.idempotency".into())
        );
        let mut config = DispatcherConfig::default();
        config.topics.live_only_prefixes.push(String::new());
        assert_eq!(
            config.validate().map_err(|(key, _)| key),
            Err("topics.live_only_prefixes".into())
        );
    }
}
