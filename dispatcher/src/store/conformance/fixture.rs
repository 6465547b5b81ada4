use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carillon_domain::{
    Change, Counts, EntryId, NotificationId, Position, StateChange, Target, TenantId, Timestamp, UserId,
    ports::Since,
};
use carillon_sql::Database;
use carillon_testkit::TestDatabase;
use parking_lot::Mutex;

use crate::store::{withdrawals::Recallable, *};

/// A store, a clock that stands still, and everybody's ids.
pub(super) struct Fixture {
    pub(super) store: Arc<dyn Store>,
    pub(super) database: Database,
    pub(super) tenant: TenantId,
    now: AtomicI64,
    users: Mutex<HashMap<(TenantId, String), UserId>>,
    _keep: TestDatabase,
}

pub(super) const LIMITS: StoreLimits = StoreLimits {
    log_count: 40,
    topic_count: 40,
    devices: 3,
    event_ttl: Duration::from_secs(3 * 86_400),
    disable_after: Duration::from_secs(5 * 86_400),
    withdrawal_page: 1_000,
    // Whoever locks in another order than the others fails here.
    anew: 0,
};

fn prints() -> Fingerprints {
    Fingerprints::new(Some(Arc::new(carillon_testkit::OpenSeal)))
}

impl Fixture {
    pub(super) async fn sqlite() -> Self {
        Self::open(TestDatabase::sqlite().await).await
    }

    pub(super) async fn postgres() -> Self {
        Self::open(TestDatabase::postgres("dispatcher").await).await
    }

    async fn open(keep: TestDatabase) -> Self {
        let database = keep.database.clone();
        Self {
            store: open(database.clone(), LIMITS, prints()).await.expect("opens"),
            database,
            tenant: TenantId::default(),
            now: AtomicI64::new(1_767_323_045_000_000),
            users: Mutex::default(),
            _keep: keep,
        }
    }

    /// The same store with other limits, as another process would open it.
    pub(super) async fn reopen(&self, limits: StoreLimits) -> Arc<dyn Store> {
        open(self.database.clone(), limits, prints())
            .await
            .expect("opens")
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    pub(super) fn advance(&self, by: Duration) {
        self.now
            .fetch_add(i64::try_from(by.as_micros()).expect("short"), Ordering::SeqCst);
    }

    /// Somebody sets the clock back.
    pub(super) fn set_back(&self, by: Duration) {
        self.now
            .fetch_sub(i64::try_from(by.as_micros()).expect("short"), Ordering::SeqCst);
    }

    pub(super) fn user(&self, name: &str) -> UserId {
        self.user_of(&self.tenant, name)
    }

    pub(super) fn user_of(&self, tenant: &TenantId, name: &str) -> UserId {
        let now = self.now();
        *self
            .users
            .lock()
            .entry((tenant.clone(), name.to_owned()))
            .or_insert_with(|| UserId::at(now))
    }

    /// A notification for users and, with a leading `#`, topics.
    pub(super) fn notification(&self, targets: &[&str]) -> NewNotification {
        let now = self.now();
        let targets: Vec<Target> = targets
            .iter()
            .map(|target| match target.strip_prefix('#') {
                Some(topic) => Target::Topic(topic.parse().expect("a topic")),
                None => Target::User(target.parse().expect("a user")),
            })
            .collect();
        NewNotification {
            id: NotificationId::at(now),
            category: Default::default(),
            priority: Default::default(),
            collapse_key: None,
            digest_key: None,
            content: Arc::from(r#"{"title":"hello"}"#),
            targets: Arc::from(serde_json::to_string(&targets).expect("encodes")),
            channels: None,
            template: None,
            plan: None,
            critical: false,
            created_at: now,
            send_at: now,
            expires_at: now.after(Duration::from_secs(3_600)),
        }
    }

    pub(super) fn collapsing(&self, targets: &[&str], key: &str) -> NewNotification {
        NewNotification {
            collapse_key: Some(key.parse().expect("a key")),
            ..self.notification(targets)
        }
    }

    pub(super) async fn accept(&self, notifications: &[NewNotification]) {
        self.accept_for(&self.tenant, notifications).await;
    }

    pub(super) async fn accept_for(&self, tenant: &TenantId, notifications: &[NewNotification]) {
        let request = AcceptRequest {
            tenant: tenant.clone(),
            notifications: notifications.to_vec(),
            claim: None,
        };
        let replies = self
            .store
            .accept(self.now(), &[request], None)
            .await
            .expect("commits");
        assert_eq!(replies, [AcceptReply::Accepted]);
    }

    /// Everything that is due.
    pub(super) async fn lease(&self) -> Vec<Lease> {
        let until = self.now().after(Duration::from_secs(30));
        self.store
            .lease_outbox(self.now(), 10_000, until)
            .await
            .expect("leases")
    }

    /// Jobs for leases, resolved by the fixture.
    pub(super) async fn jobs(&self, leases: &[Lease]) -> Vec<PlanJob> {
        let ids: Vec<_> = leases
            .iter()
            .map(|lease| (lease.tenant.clone(), lease.notification))
            .collect();
        let rows: HashMap<_, _> = self
            .store
            .load(&ids, usize::MAX)
            .await
            .expect("loads")
            .rows
            .into_iter()
            .map(|row| ((row.tenant.clone(), row.id), Arc::new(row)))
            .collect();
        leases
            .iter()
            .map(|lease| {
                let row = &rows[&(lease.tenant.clone(), lease.notification)];
                let mut job = PlanJob {
                    lease: lease.clone(),
                    notification: Arc::clone(row),
                    plan: Arc::new(match &row.plan {
                        Some(text) => FixedPlan::parse(text).expect("a plan"),
                        None => plan_of(&["in_app"]),
                    }),
                    critical: row.critical,
                    policies: Default::default(),
                    users: Vec::new(),
                    topics: Vec::new(),
                    part: PlanPart::Whole,
                    broadcast: None,
                };
                for target in &row.targets {
                    match target {
                        StoredTarget::Known(Target::User(user)) => {
                            let user = self.user_of(&lease.tenant, user.as_str());
                            job.users.push(Addressee::in_app(user));
                        }
                        StoredTarget::Known(Target::Topic(topic)) => {
                            job.topics
                                .push((topic.clone(), !topic.as_str().starts_with("live.")));
                        }
                        StoredTarget::Known(Target::Address(_) | Target::Segment(_))
                        | StoredTarget::Erased { .. } => {}
                    }
                }
                job
            })
            .collect()
    }

    /// Leases and plans everything that is due.
    pub(super) async fn plan(&self) -> Committed<Vec<PlanOutcome>> {
        let jobs = self.jobs(&self.lease().await).await;
        self.store.plan(self.now(), &jobs).await.expect("plans")
    }

    /// Accepts and plans; answers the ids.
    pub(super) async fn send(&self, notifications: &[NewNotification]) -> Vec<NotificationId> {
        self.accept(notifications).await;
        self.plan().await;
        notifications.iter().map(|notification| notification.id).collect()
    }

    /// One command by one user.
    pub(super) async fn act(&self, user: &str, operations: Vec<Operation>) -> MailboxReply {
        self.act_on(user, None, operations).await
    }

    pub(super) async fn act_on(
        &self,
        user: &str,
        device: Option<&str>,
        operations: Vec<Operation>,
    ) -> MailboxReply {
        let command = MailboxCommand {
            tenant: self.tenant.clone(),
            user: self.user(user),
            name: Some(user.parse().expect("a name")),
            device: device.map(|device| device.parse().expect("a device")),
            answering: Vec::new(),
            channel: None,
            operations,
        };
        let mut committed = self
            .store
            .mutate(self.now(), &[command], &Recallable::default())
            .await
            .expect("commits");
        committed.value.remove(0)
    }

    /// One thing done to one entry.
    pub(super) async fn entry(&self, user: &str, entry: EntryId, action: EntryAction) -> OperationResult {
        self.act(user, vec![Operation::Entry(Which::Entry(entry), action)])
            .await
            .results[0]
    }

    pub(super) async fn inbox(&self, user: &str) -> Vec<EntryRow> {
        self.view(user, View::Inbox).await
    }

    pub(super) async fn view(&self, user: &str, view: View) -> Vec<EntryRow> {
        let query = EntryQuery {
            view,
            limit: 10_000,
            ..EntryQuery::default()
        };
        self.store
            .entries(&self.tenant, self.user(user), &query)
            .await
            .expect("reads")
    }

    pub(super) async fn counts(&self, user: &str) -> (u64, u64, u64) {
        let Counts {
            total,
            unread,
            unseen,
        } = self.mailbox(user).await.1;
        (total, unread, unseen)
    }

    pub(super) async fn mailbox(&self, user: &str) -> (Position, Counts) {
        self.store
            .mailbox(&self.tenant, self.user(user))
            .await
            .expect("reads")
    }

    pub(super) async fn since(&self, user: &str, seq: u64) -> Since<LoggedChange> {
        let epoch = self.mailbox(user).await.0.epoch;
        self.store
            .since(&self.tenant, self.user(user), &Position { epoch, seq }, 10_000)
            .await
            .expect("reads")
    }

    /// All changes of a log, which must have no holes and tell the truth about the counts.
    pub(super) async fn log(&self, user: &str) -> Vec<Change> {
        let since = self.since(user, 0).await;
        assert_eq!(since.gap, None);
        let changes: Vec<Change> = since
            .items
            .iter()
            .zip(1..)
            .map(|(item, seq)| {
                assert_eq!(item.position.seq, seq, "no holes");
                let change: Change = serde_json::from_slice(&item.body).expect("a change");
                assert_eq!(change.kind(), item.kind);
                change
            })
            .collect();
        let (position, counts) = self.mailbox(user).await;
        assert_eq!(position.seq, changes.len() as u64);
        if let Some(last) = changes.last() {
            assert_eq!(counts_of(last), counts, "the last change tells the counts");
        }
        let shown = self.inbox(user).await;
        let recounted = Counts {
            total: shown.len() as u64,
            unread: shown.iter().filter(|entry| entry.read_at.is_none()).count() as u64,
            unseen: shown.iter().filter(|entry| entry.seen_at.is_none()).count() as u64,
        };
        assert_eq!(counts, recounted, "the counts are those of the entries");
        changes
    }

    pub(super) async fn recipient(&self, id: NotificationId, user: &str) -> RecipientDetail {
        let user = self.user(user);
        self.store
            .recipients(&self.tenant, id, None, 10_000)
            .await
            .expect("reads")
            .into_iter()
            .find(|detail| detail.user == user)
            .expect("a recipient")
    }

    pub(super) async fn state(&self, id: NotificationId) -> NotificationState {
        self.store
            .notification(&self.tenant, id)
            .await
            .expect("reads")
            .expect("is there")
            .state
    }
}

/// The default plan of a list of channels.
pub(super) fn plan_of(channels: &[&str]) -> FixedPlan {
    let kinds: Vec<_> = channels
        .iter()
        .map(|channel| channel.parse().expect("a channel"))
        .collect();
    let (hold, push) = (Duration::from_secs(30), Duration::from_secs(300));
    FixedPlan::new(carillon_policy::Plan::of_channels(&kinds, hold, push)).expect("encodes")
}

pub(super) fn counts_of(change: &Change) -> Counts {
    match change {
        Change::Added { counts, .. }
        | Change::Replaced { counts, .. }
        | Change::StateChanged { counts, .. }
        | Change::Recalled { counts, .. }
        | Change::Deleted { counts, .. } => *counts,
    }
}

/// A word for each change.
pub(super) fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::StateChanged {
            change,
            entries,
            acknowledgement,
            ..
        } => {
            let word = match change {
                StateChange::Seen => "seen",
                StateChange::Read => "read",
                StateChange::Unread => "unread",
                StateChange::Archived => "archived",
                StateChange::Snoozed => "snoozed",
                StateChange::Unsnoozed => "unsnoozed",
                StateChange::Acted => "acted",
            };
            let first = if acknowledgement.is_some() { "!" } else { "" };
            format!("{word}{first} {}", entries.len())
        }
        Change::Deleted {
            entries,
            acknowledgement,
            ..
        } => {
            format!(
                "deleted{} {}",
                if acknowledgement.is_some() { "!" } else { "" },
                entries.len()
            )
        }
        other => other.kind().as_str().to_owned(),
    };
    changes.iter().map(word).collect()
}

/// One action on one entry.
pub(super) fn entry(id: EntryId, action: EntryAction) -> Operation {
    Operation::Entry(Which::Entry(id), action)
}
