//! The dispatcher as the composition root sees it.

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use carillon_domain::{
    Clock,
    ports::{
        ApiKeys, Bounces, Bus, Channel, Directory, Erase, Inbox, Queue, Rpc, Seal, SigningKeys, Templates,
        Topics, Verifier,
    },
};
use carillon_runtime::lifecycle::{Stop, Worker};
use carillon_sql::{Database, StoreError};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    announcer::Announcer,
    audience::Audience,
    categories::Categories,
    channels::Channels,
    config::DispatcherConfig,
    deliverer::{
        compose::{Composer, RENDERING},
        engine::Deliverer,
        redrives::Redriver,
        schedule::Schedule,
    },
    digests::Digester,
    domain_events::EventIntake,
    endpoints::{Closer, Endpoints},
    erasure::Eraser,
    handover::Handover,
    intake::{Intake, batch_limits},
    janitor::Janitor,
    ladder::{Ladder, OneClock, keep_time},
    links::SignedLinks,
    live_only::LiveOnly,
    mailboxes::Mailboxes,
    pace::Pace,
    planner::Planner,
    policy::TenantPolicies,
    reach::Reachability,
    relay::Relay,
    remote::{Remote, RemoteParts},
    routes,
    rpc::AckRpc,
    rules::{RuleBook, RuleWorker},
    store::{self, Fingerprints, Store},
    tally,
    templates::TemplateBook,
    topics::TopicHistories,
    verification::CodeSender,
    wake::Wake,
    withdrawals::Withdrawer,
    workshop::Workshop,
};

/// Clicks on signed links that are written at once.
const CLICKS: usize = 8;
/// Payloads of sources that are worked out at once. Each may take tens of megabytes.
const MAPPINGS: usize = 4;
/// Events that are shown to rules at once.
const JUDGING: usize = 2;
/// Templates that are checked, or shown with sample data, at once.
const PREVIEWS: usize = 2;

/// Requests with templates that are worked out at once.
const RENDERINGS: usize = 4;

/// What the dispatcher needs from the other rooms.
#[derive(Clone)]
pub struct DispatcherPorts {
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// Between relay and planner.
    pub queue: Arc<dyn Queue>,
    /// Where committed changes are announced.
    pub bus: Arc<dyn Bus>,
    /// The channels of this process, beside the mailbox.
    pub channels: Vec<Arc<dyn Channel>>,
    /// Checks and renders templates; without it there are none.
    pub templates: Option<Arc<dyn Templates>>,
    /// Seals and opens secrets and signs links; without it what has a signing key is not sent, a source has no secret, and
    /// nothing unsubscribes.
    pub seal: Option<Arc<dyn Seal>>,
    /// Where this server is reached from outside; without it messages carry no links to it.
    pub links: Option<url::Url>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whose keys were revoked since they let somebody in.
    pub api_keys: Arc<dyn ApiKeys>,
    /// Makes signing keys; without it no webhook endpoint can be registered.
    pub keys: Option<Arc<dyn SigningKeys>>,
    /// Reads bounces; without it none is taken in.
    pub bounces: Option<Arc<dyn Bounces>>,
}

/// The durable life of notifications.
pub struct Dispatcher {
    pub(crate) config: DispatcherConfig,
    pub(crate) ports: DispatcherPorts,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) topics: Arc<TopicHistories>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) endpoints: Arc<Endpoints>,
    /// Slots, turns and breakers of this node's deliverer.
    pub(crate) schedule: Arc<Mutex<Schedule>>,
    /// Wakes who carries redrives on.
    pub(crate) redriver: Arc<Wake>,
    /// Wakes who ends withdrawn notifications for many recipients.
    pub(crate) withdrawer: Arc<Wake>,
    /// Work for channels that workers bring.
    pub(crate) remote: Arc<Remote>,
    /// Wakes who tries deliveries.
    pub(crate) deliverer: Arc<Wake>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) categories: Arc<Categories>,
    pub(crate) policies: Arc<TenantPolicies>,
    pub(crate) templates: Arc<TemplateBook>,
    /// Present where something signs.
    pub(crate) links: Option<SignedLinks>,
    /// How many who are not logged in may write at once.
    pub(crate) clicks: Semaphore,
    /// Where what sources say is worked out.
    pub(crate) workshop: Workshop,
    /// Where requests with templates are worked out.
    pub(crate) rendering: Workshop,
    /// Where templates are checked and shown: whoever tries things out holds up nobody who sends.
    pub(crate) previews: Workshop,
    /// Takes domain events in.
    pub(crate) event_intake: Arc<EventIntake>,
    /// Wakes who shows events to rules.
    pub(crate) rules: Arc<Wake>,
    pub(crate) rule_book: RuleBook,
    /// Where rules make of events what they make of them.
    pub(crate) judging: Workshop,
    pub(crate) relay: Arc<Wake>,
    pub(crate) handover: Arc<Handover>,
    /// Wakes who runs schedules.
    pub(crate) scheduler: Wake,
    /// Wakes who moves recipients on.
    pub(crate) ladder: Arc<Wake>,
    /// Where nodes share a database, and the time of the world is told.
    one_clock: Option<Arc<OneClock>>,
}

impl Dispatcher {
    /// Brings the schema up to date and opens the store. Nothing moves before [`Self::workers`] run; where the store
    /// is a file of this process alone, what a dead predecessor was doing becomes due at once.
    ///
    /// # Errors
    /// When the database is away or its schema is not ours.
    pub async fn open(
        mut config: DispatcherConfig,
        database: Database,
        mut ports: DispatcherPorts,
    ) -> Result<Arc<Self>, StoreError> {
        for channel in &ports.channels {
            if let Some(most) = channel.width() {
                config.delivery.limit_width(&channel.kind(), most);
            }
        }
        let store = store::open(database, config.limits(), Fingerprints::new(ports.seal.clone())).await?;
        let mut one_clock = None;
        if ports.clock.is_wall() && !store.is_serial() {
            let clock = Arc::new(OneClock::new(Arc::clone(&ports.clock)));
            clock.set(&*store).await?;
            ports.clock = clock.clone();
            one_clock = Some(clock);
        }
        if store.is_serial() {
            let now = ports.clock.now();
            let own: Vec<_> = ports.channels.iter().map(|channel| channel.kind()).collect();
            let released = store.release_leases(now).await?
                + store.release_deliveries(now, &own).await?
                + store.release_events(now).await?;
            if released > 0 {
                tracing::info!(released, "took over what the last process had not ended");
            }
        }
        let relay = Arc::new(Wake::default());
        let announcer = Arc::new(Announcer::new(ports.bus.clone(), store.is_serial()));
        let limits = batch_limits(&config);
        let clock = &ports.clock;
        // Two batches: while one is planned the next one comes.
        let pace = Arc::new(Pace::new(&config.planner, relay.clone()));
        let handover = Arc::new(Handover::new(config.planner.batch.saturating_mul(2), pace));
        let intake = Arc::new(Intake::new(
            &config,
            store.clone(),
            clock.clone(),
            relay.clone(),
            handover.clone(),
        ));
        #[cfg(feature = "planted-bugs")]
        let _ = intake.this.set(Arc::downgrade(&intake));
        let deliverer = Arc::<Wake>::default();
        let withdrawer = Arc::<Wake>::default();
        let channels = Arc::new(Channels::new(&ports.channels, store.clone()));
        let mailboxes = Arc::new(Mailboxes::new(
            store.clone(),
            announcer.clone(),
            clock.clone(),
            limits,
            deliverer.clone(),
            withdrawer.clone(),
            channels.clone(),
        ));
        let topics = Arc::new(TopicHistories::new(
            store.clone(),
            announcer.clone(),
            clock.clone(),
            LiveOnly::new(&config.topics.live_only_prefixes),
            limits,
        ));
        let parts = RemoteParts {
            store: store.clone(),
            directory: ports.directory.clone(),
            mailboxes: mailboxes.clone(),
            composer: composer(&ports),
            clock: clock.clone(),
            wake: deliverer.clone(),
            api_keys: ports.api_keys.clone(),
            probed: config.reachability.channels.clone(),
        };
        let remote = Arc::new(Remote::new(parts, config.remote.clone(), &config.delivery));
        let schedule = Arc::new(Mutex::new(Schedule::new(config.delivery.clone())));
        let closer = Arc::<Wake>::default();
        let endpoints = Arc::new(Endpoints {
            store: store.clone(),
            directory: ports.directory.clone(),
            clock: ports.clock.clone(),
            channel: Endpoints::channel_of(&ports.channels),
            seal: ports.seal.clone(),
            keys: ports.keys.clone(),
            config: config.webhooks.clone(),
            deliverer: deliverer.clone(),
            relay: relay.clone(),
            closer,
        });
        let categories = Arc::new(Categories::new(store.clone(), clock.clone()));
        let policies = Arc::new(TenantPolicies::new(store.clone(), clock.clone()));
        let links = SignedLinks::new(ports.seal.as_ref(), ports.links.as_ref());
        let rules = Arc::<Wake>::default();
        let event_intake = Arc::new(EventIntake::new(
            limits,
            store.clone(),
            clock.clone(),
            rules.clone(),
        ));
        let rule_book = RuleBook::new(store.clone());
        let templates = ports.templates.clone();
        let templates = Arc::new(TemplateBook::new(templates, store.clone(), clock.clone()));
        Ok(Arc::new(Self {
            endpoints,
            schedule,
            redriver: Arc::default(),
            withdrawer,
            remote,
            deliverer,
            config,
            ports,
            store,
            intake,
            mailboxes,
            topics,
            announcer,
            channels,
            categories,
            templates,
            policies,
            links,
            workshop: Workshop::new(MAPPINGS),
            rendering: Workshop::new(RENDERINGS),
            previews: Workshop::new(PREVIEWS),
            clicks: Semaphore::new(CLICKS),
            event_intake,
            rules,
            rule_book,
            judging: Workshop::new(JUDGING),
            relay,
            handover,
            scheduler: Wake::default(),
            ladder: Arc::default(),
            one_clock,
        }))
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), carillon_domain::ports::Unavailable> {
        self.store.next_due().await?;
        Ok(())
    }

    /// `/v1/notifications`, `/v1/inbox`, `/v1/acks`, `/v1/topics`, `/v1/categories`, `/v1/policy`, preferences and quiet
    /// hours, `/v1/schedules`, `/v1/templates`, `/v1/sources`, `/v1/in`, `/v1/events` and `/v1/rules`.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        routes::router(Arc::clone(self))
    }

    /// What a process needs that takes requests or holds sockets: group commits, and word to the bus.
    pub fn commit_workers(self: &Arc<Self>) -> Vec<Arc<dyn Worker>> {
        vec![
            self.worker(
                "announcer",
                |this, stop| async move { this.announcer.run(stop).await },
            ),
            self.worker("clock", |this, stop| async move {
                keep_time(this.one_clock.clone(), this.store.clone(), stop).await;
            }),
            self.worker("intake", |this, stop| async move { this.intake.run(stop).await }),
            self.worker("domain events", |this, stop| async move {
                this.event_intake.run(stop).await;
            }),
            self.worker(
                "mailboxes",
                |this, stop| async move { this.mailboxes.run(stop).await },
            ),
            self.worker("topics", |this, stop| async move { this.topics.run(stop).await }),
            self.worker("remote channels", |this, stop| async move {
                this.remote.run(stop).await;
            }),
        ]
    }

    /// What the role `dispatcher` does: relay, planner, ladder, digests, rules, deliverer, redrives, withdrawals, snoozes, janitor,
    /// schedules, tally. Needs [`Self::commit_workers`] too.
    pub fn upkeep_workers(self: &Arc<Self>) -> Vec<Arc<dyn Worker>> {
        vec![
            self.worker(
                "relay",
                |this, stop| async move { this.new_relay().run(stop).await },
            ),
            self.worker("planner", |this, stop| async move {
                this.new_planner().run(stop).await
            }),
            self.worker("rules", |this, stop| async move {
                RuleWorker { dispatcher: this }.run(stop).await;
            }),
            self.worker(
                "ladder",
                |this, stop| async move { this.new_ladder().run(stop).await },
            ),
            self.worker("digests", |this, stop| async move {
                Digester::new(&this).run(stop).await
            }),
            self.worker("snoozes", |this, stop| async move {
                this.mailboxes.run_snoozes(stop).await
            }),
            self.worker("janitor", |this, stop| async move {
                this.new_janitor().run(stop).await
            }),
            self.worker("deliverer", |this, stop| async move {
                this.new_deliverer().run(stop).await
            }),
            self.worker("closed-endpoints", |this, stop| async move {
                this.new_closer().run(stop).await
            }),
            self.worker("redrives", |this, stop| async move {
                this.new_redriver().run(stop).await
            }),
            self.worker("schedules", |this, stop| async move {
                this.run_schedules(stop).await;
            }),
            self.worker("reachability", |this, stop| async move {
                this.new_reachability().run(stop).await;
            }),
            self.worker("withdrawals", |this, stop| async move {
                this.new_withdrawer().run(stop).await
            }),
            self.worker("tally", |this, stop| async move {
                let schedule = this.schedule.clone();
                let (remote, clock) = (this.remote.clone(), this.ports.clock.clone());
                tally::run(this.store.clone(), schedule, remote, clock, stop).await;
            }),
        ]
    }

    /// All of them.
    pub fn workers(self: &Arc<Self>) -> Vec<Arc<dyn Worker>> {
        let mut workers = self.commit_workers();
        workers.extend(self.upkeep_workers());
        workers
    }

    /// The mailbox log as the hub reads it.
    pub fn inbox(&self) -> Arc<dyn Inbox> {
        self.mailboxes.clone()
    }

    /// Topics' histories, and publishing.
    pub fn topics(&self) -> Arc<dyn Topics> {
        self.topics.clone()
    }

    /// `carillon.ack`.
    pub fn rpc(self: &Arc<Self>) -> Arc<dyn Rpc> {
        Arc::new(AckRpc(Arc::clone(self)))
    }

    /// Brings verification codes to the addresses that they confirm.
    pub fn verifier(&self) -> Arc<dyn Verifier> {
        Arc::new(CodeSender {
            intake: self.intake.clone(),
            templates: self.templates.clone(),
            seal: self.ports.seal.clone(),
            clock: self.ports.clock.clone(),
        })
    }

    /// Erasure of this room's data.
    pub fn erase(&self) -> Arc<dyn Erase> {
        Arc::new(Eraser {
            store: self.store.clone(),
            directory: self.ports.directory.clone(),
            clock: self.ports.clock.clone(),
        })
    }

    pub(crate) fn new_relay(&self) -> Relay {
        Relay {
            store: self.store.clone(),
            queue: self.ports.queue.clone(),
            clock: self.ports.clock.clone(),
            wake: self.relay.clone(),
            handover: self.handover.clone(),
            config: self.config.planner.clone(),
        }
    }

    pub(crate) fn new_planner(&self) -> Planner {
        Planner {
            store: self.store.clone(),
            queue: self.ports.queue.clone(),
            audience: self.audience(),
            announcer: self.announcer.clone(),
            clock: self.ports.clock.clone(),
            handover: self.handover.clone(),
            live_only: LiveOnly::new(&self.config.topics.live_only_prefixes),
            deliverer: self.deliverer.clone(),
            relay: self.relay.clone(),
            config: self.config.planner.clone(),
        }
    }

    pub(crate) fn new_ladder(&self) -> Ladder {
        Ladder {
            store: self.store.clone(),
            audience: self.audience(),
            announcer: self.announcer.clone(),
            clock: self.ports.clock.clone(),
            wake: self.ladder.clone(),
            deliverer: self.deliverer.clone(),
            config: self.config.ladder.clone(),
        }
    }

    /// Who gets what, and where.
    pub(crate) fn audience(&self) -> Audience {
        Audience {
            directory: self.ports.directory.clone(),
            categories: self.categories.clone(),
            policies: self.policies.clone(),
            channels: self.channels.clone(),
            templates: self.templates.clone(),
            store: self.store.clone(),
            ladder: self.config.ladder.clone(),
        }
    }

    /// One anew: what was out when the last one ended is not out any more.
    pub(crate) fn new_deliverer(&self) -> Deliverer {
        *self.schedule.lock() = Schedule::new(self.config.delivery.clone());
        Deliverer {
            store: self.store.clone(),
            directory: self.ports.directory.clone(),
            channels: self
                .ports
                .channels
                .iter()
                .map(|channel| (channel.kind(), Arc::clone(channel)))
                .collect(),
            composer: composer(&self.ports),
            clock: self.ports.clock.clone(),
            endpoints: self.endpoints.clone(),
            mailboxes: self.mailboxes.clone(),
            wake: self.deliverer.clone(),
            schedule: self.schedule.clone(),
            config: self.config.delivery.clone(),
        }
    }

    pub(crate) fn new_closer(&self) -> Closer {
        Closer {
            store: self.store.clone(),
            clock: self.ports.clock.clone(),
            wake: self.endpoints.closer.clone(),
            deliverer: self.deliverer.clone(),
            page: self.config.delivery.batch,
        }
    }

    pub(crate) fn new_redriver(&self) -> Redriver {
        Redriver {
            store: self.store.clone(),
            clock: self.ports.clock.clone(),
            wake: self.redriver.clone(),
            deliverer: self.deliverer.clone(),
            page: self.config.delivery.batch,
        }
    }

    pub(crate) fn new_withdrawer(&self) -> Withdrawer {
        Withdrawer {
            store: self.store.clone(),
            announcer: self.announcer.clone(),
            clock: self.ports.clock.clone(),
            wake: self.withdrawer.clone(),
            deliverer: self.deliverer.clone(),
            config: self.config.withdrawals.clone(),
        }
    }

    pub(crate) fn new_reachability(&self) -> Reachability {
        Reachability {
            store: self.store.clone(),
            clock: self.ports.clock.clone(),
            config: self.config.reachability.clone(),
        }
    }

    pub(crate) fn new_janitor(&self) -> Janitor {
        Janitor {
            store: self.store.clone(),
            mailboxes: self.mailboxes.clone(),
            clock: self.ports.clock.clone(),
            config: self.config.retention.clone(),
        }
    }

    fn worker<F>(
        self: &Arc<Self>,
        name: &'static str,
        run: impl Fn(Arc<Self>, CancellationToken) -> F + Send + Sync + 'static,
    ) -> Arc<dyn Worker>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let dispatcher = Arc::clone(self);
        Arc::new(Part {
            name,
            run: Box::new(move |stop| Box::pin(run(Arc::clone(&dispatcher), stop))),
        })
    }
}

fn composer(ports: &DispatcherPorts) -> Composer {
    Composer {
        directory: ports.directory.clone(),
        templates: ports.templates.clone(),
        seal: ports.seal.clone(),
        links: SignedLinks::new(ports.seal.as_ref(), ports.links.as_ref()),
        rendering: Arc::new(Semaphore::new(RENDERING)),
    }
}

/// One worker. All of them can begin anew: what they share stays in the dispatcher.
struct Part {
    name: &'static str,
    run: Box<Run>,
}

type Run = dyn Fn(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

#[async_trait]
impl Worker for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, stop: Stop) -> Result<(), Box<dyn Error + Send + Sync>> {
        (self.run)(stop.soft().clone()).await;
        Ok(())
    }
}

impl Dispatcher {
    /// Withdraws a notification.
    pub(crate) async fn cancel(
        &self,
        tenant: &carillon_domain::TenantId,
        id: carillon_domain::NotificationId,
    ) -> Result<store::Cancelled, carillon_domain::ports::Unavailable> {
        let recallable = self.channels.of(tenant).await?.that_recall();
        let turn = self.announcer.turn().await;
        let now = self.ports.clock.now();
        let cancelled = self.store.cancel(now, tenant, id, &recallable).await?;
        turn.announce(cancelled.envelopes).await;
        self.deliverer.wake();
        self.withdrawer.wake();
        Ok(cancelled.value)
    }
}
