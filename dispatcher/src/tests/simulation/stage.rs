//! A real store with two real dispatchers on it, whose steps a trace takes one by one.

use std::sync::Arc;

use carillon_backends::embedded::{EmbeddedBus, EmbeddedQueue};
use carillon_domain::{Capabilities, ChannelKind, ports::Channel};
use carillon_runtime::config::Span;
use carillon_sql::Database;
use carillon_testkit::{CountedKeys, OpenSeal, PlainTemplates, RecordingChannel, TestDatabase};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::people::{People, SetClock};
use crate::{
    Dispatcher, DispatcherConfig, DispatcherPorts, ladder::Ladder, live_only::LiveOnly, planner::Planner,
    store::Store, tests::node::Revoked, withdrawals::Withdrawer,
};

/// Channels outside the inbox; the first can take back what it delivered.
pub(super) const CHANNELS: [&str; 3] = ["fcm", "webpush", "email"];

/// What traces are played on, one after the other, each as a tenant of its own.
pub(super) struct Stage {
    pub(super) people: Arc<People>,
    pub(super) nodes: [Actor; 2],
    pub(super) database: Database,
    _keep: TestDatabase,
    _stop: DropGuard,
}

/// A dispatcher with its workers' parts.
pub(super) struct Actor {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) planner: Planner,
    pub(super) ladder: Ladder,
    pub(super) withdrawer: Withdrawer,
    pub(super) live_only: LiveOnly,
    pub(super) clock: Arc<SetClock>,
}

impl Stage {
    pub(super) async fn on(keep: TestDatabase) -> Self {
        let people = Arc::new(People::new());
        let stop = CancellationToken::new();
        let database = keep.database.clone();
        let first = Actor::new(&database, &people, &stop).await;
        let second = Actor::new(&database, &people, &stop).await;
        Self {
            people,
            nodes: [first, second],
            database,
            _keep: keep,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.nodes[0].dispatcher.store
    }

    pub(super) fn kinds() -> Vec<ChannelKind> {
        CHANNELS.map(|kind| kind.parse().expect("a channel")).to_vec()
    }
}

impl Actor {
    async fn new(database: &Database, people: &Arc<People>, stop: &CancellationToken) -> Self {
        let mut config = DispatcherConfig::default();
        // So that notifications are planned in several parts.
        config.planner.batch_recipients = 4;
        assert!(
            config.ladder.poll.duration() <= Span::from_millis(500).duration(),
            "whoever sleeps for longer starts steps too late"
        );
        let clock = Arc::new(SetClock::new());
        let channel = |kind: &&str| -> Arc<dyn Channel> {
            let first = *kind == CHANNELS[0];
            let capabilities = Capabilities {
                replace: first,
                recall: first,
                verified: false,
            };
            Arc::new(RecordingChannel::new(kind, capabilities))
        };
        let ports = DispatcherPorts {
            api_keys: Arc::new(Revoked::default()),
            directory: people.clone(),
            queue: Arc::new(EmbeddedQueue::default()),
            bus: Arc::new(EmbeddedBus::default()),
            channels: CHANNELS.iter().map(channel).collect(),
            templates: Some(Arc::new(PlainTemplates)),
            seal: Some(Arc::new(OpenSeal)),
            keys: Some(Arc::new(CountedKeys::default())),
            bounces: None,
            links: None,
            clock: clock.clone(),
        };
        let live_only = LiveOnly::new(&config.topics.live_only_prefixes);
        let dispatcher = Dispatcher::open(config, database.clone(), ports)
            .await
            .expect("opens");
        // These two carry no decisions: what was committed goes to the bus, and what users do is gathered.
        let (announcer, mailboxes) = (dispatcher.announcer.clone(), dispatcher.mailboxes.clone());
        let (one, other) = (stop.clone(), stop.clone());
        tokio::spawn(async move { announcer.run(one).await });
        tokio::spawn(async move { mailboxes.run(other).await });
        Self {
            planner: dispatcher.new_planner(),
            ladder: dispatcher.new_ladder(),
            withdrawer: dispatcher.new_withdrawer(),
            dispatcher,
            live_only,
            clock,
        }
    }
}
