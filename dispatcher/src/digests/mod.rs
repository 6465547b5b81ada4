//! Digests: alerts that waited together go out as one notification when their window closes.

mod content;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use carillon_domain::{Clock, ExternalUserId, NotificationId, Priority, Target, Timestamp};
use carillon_sql::StoreError;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::content::{Gathered, Member};
use crate::{
    Dispatcher,
    audience::{Audience, Reached},
    config::DigestsConfig,
    planner::PlanError,
    store::{
        NewNotification, Store, TemplateUse,
        digests::{Closing, DigestLease, DueDigest},
        outside::{NotificationSource, Sources},
    },
    templates::OwnValues,
    wake::Wake,
};

/// A tenant's template of this name says its digests. Its data are `category`, `name` (the period's), `key`, `count`, `more` and
/// `members`, each with `notification_id`, `title`, `body` and `url`.
pub(crate) const TEMPLATE: &str = "carillon.digest";
/// What names its recipient is gone.
const NOBODY: &str = "a digest's recipient is gone; what waits in it ends";

/// How long a digest is tried and held at the least, however little time its members have left.
const LIVES: Duration = Duration::from_secs(24 * 60 * 60);

/// How long one that was handed out is left to its node.
const LEASE: Duration = Duration::from_secs(60);

/// Closes digests.
pub(crate) struct Digester {
    store: Arc<dyn Store>,
    audience: Audience,
    clock: Arc<dyn Clock>,
    /// Nobody wakes it: a digest is open for a second at least, and looking costs nothing.
    wake: Wake,
    /// Wakes who hands the new notification to the planner.
    relay: Arc<Wake>,
    config: DigestsConfig,
}

impl Digester {
    pub(crate) fn new(dispatcher: &Dispatcher) -> Self {
        Self {
            store: dispatcher.store.clone(),
            audience: dispatcher.audience(),
            clock: dispatcher.ports.clock.clone(),
            wake: Wake::default(),
            relay: dispatcher.relay.clone(),
            config: dispatcher.config.digests.clone(),
        }
    }

    /// Closes them until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let due = match self.turn(&stop).await {
                Ok(due) => due,
                Err(error) => {
                    failed(&error);
                    None
                }
            };
            let poll = self.config.poll.duration();
            if !self.wake.wait(&stop, &*self.clock, due, poll).await {
                return;
            }
        }
    }

    /// Closes everything that is due, tenant by tenant in turn; answers when the next will be.
    pub(crate) async fn turn(&self, stop: &CancellationToken) -> Result<Option<Timestamp>, PlanError> {
        let mut after = None;
        loop {
            let now = self.clock.now();
            let due = self.store.next_digest().await?;
            if stop.is_cancelled() || due.is_none_or(|due| due > now) {
                return Ok(due);
            }
            let batch = self.config.batch;
            let leased = self
                .store
                .lease_digests(now, batch, now.after(LEASE), after.as_ref())
                .await?;
            if leased.leases.is_empty() && after.is_none() {
                // Another node has them.
                return Ok(None);
            }
            after = leased.after;
            let leases = Mutex::new(leased.leases);
            let (one, two) = (self.each(&leases, stop), self.each(&leases, stop));
            tokio::try_join!(one, two, self.each(&leases, stop), self.each(&leases, stop))?;
        }
    }

    /// Closes one after the other, as long as there are any.
    async fn each(
        &self,
        leases: &Mutex<Vec<DigestLease>>,
        stop: &CancellationToken,
    ) -> Result<(), PlanError> {
        while let Some(lease) = next(leases) {
            if stop.is_cancelled() {
                // Somebody else goes on at once.
                self.store.postpone_digest(&lease, self.clock.now()).await?;
                continue;
            }
            match self.close(&lease).await {
                Ok(()) => {}
                Err(error) if error.is_away() => return Err(error),
                // It comes again later: the others have their turn.
                Err(error) => {
                    failed(&error);
                    let until = self.clock.now().after(self.config.retry.duration());
                    self.store.postpone_digest(&lease, until).await?;
                }
            }
        }
        Ok(())
    }

    /// Closes one, unless it is not any more as it was read: then it is read anew.
    async fn close(&self, lease: &DigestLease) -> Result<(), PlanError> {
        let digest = self.store.due_digest(self.clock.now(), lease).await?;
        let notification = if digest.members.is_empty() {
            None
        } else {
            self.notification(&digest).await?
        };
        let sent = notification.is_some();
        let closing = Closing {
            lease: digest.lease,
            members: digest.members,
            notification,
        };
        let now = self.clock.now();
        if self.store.close_digest(now, &closing).await? {
            let came = if sent { "sent" } else { "empty" };
            metrics::counter!("carillon_digests_closed_total", "came" => came).increment(1);
            if sent {
                self.relay.wake();
            }
        } else {
            self.store.postpone_digest(&closing.lease, now).await?;
        }
        Ok(())
    }

    /// What goes out in the place of its members; none where nobody is left to get it.
    async fn notification(&self, digest: &DueDigest) -> Result<Option<NewNotification>, PlanError> {
        let corrupt = |error: serde_json::Error| {
            PlanError::from(StoreError::Corrupt(format!(
                "a digest cannot be written: {error}"
            )))
        };
        let key = &digest.lease.key;
        let target = match &digest.plain {
            Some(plain) => Target::Address(plain.clone()),
            None => match self.name(digest).await? {
                Some(name) => Target::User(name),
                None => {
                    tracing::warn!(tenant = %key.tenant, NOBODY);
                    return Ok(None);
                }
            },
        };
        let gathered = Gathered::new(key, digest.members.len(), self.first(digest).await?);
        let data = gathered.data();
        let (content, template) = match self.rendered(digest, &data).await {
            Some((content, template)) => (content, Some(template)),
            None => (serde_json::to_string(&gathered.content()).map_err(corrupt)?, None),
        };
        let now = self.clock.now();
        Ok(Some(NewNotification {
            id: NotificationId::at(now),
            category: key.category.clone(),
            priority: priority(digest),
            collapse_key: None,
            digest_key: key.key.parse().ok(),
            content: Arc::from(content),
            targets: Arc::from(serde_json::to_string(&[target]).map_err(corrupt)?),
            channels: Some(Arc::from(
                serde_json::to_string(&[&key.channel]).map_err(corrupt)?,
            )),
            template,
            plan: None,
            critical: false,
            created_at: now,
            send_at: now,
            expires_at: digest.expires_at.max(now.after(LIVES)),
        }))
    }

    async fn name(&self, digest: &DueDigest) -> Result<Option<ExternalUserId>, PlanError> {
        let key = &digest.lease.key;
        let names = self.audience.directory.names(&key.tenant, &[key.user]).await?;
        Ok(names.into_iter().next().flatten())
    }

    /// What the first members say, in the recipient's language.
    async fn first(&self, digest: &DueDigest) -> Result<Vec<Member>, PlanError> {
        let users = if digest.plain.is_some() {
            Vec::new()
        } else {
            vec![digest.lease.key.user]
        };
        let reached: Vec<Reached<'_>> = digest.first.iter().map(|row| (&**row, users.clone())).collect();
        let around = self.audience.around(&reached).await?;
        let mut said = HashMap::new();
        for row in &digest.first {
            let addressees = around.addressees(row, &users, digest.plain.as_slice());
            let own = addressees.into_iter().find_map(|addressee| addressee.content);
            said.insert(row.id, own.unwrap_or_else(|| Arc::clone(&row.content)));
        }
        let members = digest.first.iter().filter_map(|row| {
            let content = serde_json::from_str(said.get(&row.id)?).ok()?;
            Some(Member::new(row.id, content))
        });
        Ok(members.collect())
    }

    /// By the tenant's own template, where there is one and it renders.
    async fn rendered(&self, digest: &DueDigest, data: &Value) -> Option<(String, TemplateUse)> {
        let name = TEMPLATE.parse().ok()?;
        let book = &self.audience.templates;
        let template = match book.get(&digest.lease.key.tenant, &name, None).await {
            Ok(template) => template?,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "a digest's template cannot be read");
                return None;
            }
        };
        let (book, shown, data_of) = (Arc::clone(book), Arc::clone(&template), data.clone());
        let rendered = tokio::task::spawn_blocking(move || {
            // The links are made when it is sent.
            book.render(&shown, None, &data_of, OwnValues::default())
        });
        let rendered = rendered.await;
        let content = match rendered {
            Ok(Ok(rendered)) => serde_json::to_string(&*rendered.content).ok()?,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "a digest's template does not render"
                );
                return None;
            }
            Err(_) => return None,
        };
        let used = TemplateUse {
            name,
            version: template.version,
            data: Arc::from(data.to_string()),
        };
        Some((content, used))
    }
}

/// Leaves out of digests what was answered or taken back since they closed: what they say is made anew.
pub(crate) fn leave_out_over(sources: &mut Sources) {
    for (key, over) in &sources.over {
        if let Some(source) = sources.notifications.get_mut(key) {
            leave_out(Arc::make_mut(source), over);
        }
    }
}

fn leave_out(source: &mut NotificationSource, over: &HashSet<NotificationId>) {
    let of_template = source.template.is_some();
    let data = if of_template {
        source
            .data
            .as_deref()
            .and_then(|data| serde_json::from_str(data).ok())
    } else {
        let content = source.content.as_ref();
        content.and_then(|content| content.data.as_ref()?.get("digest").cloned())
    };
    let Some(left) = data.as_ref().and_then(Gathered::read) else {
        return;
    };
    let left = left.without(over);
    if of_template {
        source.data = Some(left.data().to_string());
    } else {
        source.content = Some(Arc::new(left.content()));
    }
}

fn next(leases: &Mutex<Vec<DigestLease>>) -> Option<DigestLease> {
    leases.lock().pop()
}

/// As much as the first of its members hurries.
fn priority(digest: &DueDigest) -> Priority {
    let has = |priority| digest.first.iter().any(|row| row.priority == priority);
    [Priority::High, Priority::Normal]
        .into_iter()
        .find(|priority| has(*priority))
        .unwrap_or(Priority::Low)
}

fn failed(error: &PlanError) {
    metrics::counter!("carillon_digest_failures_total").increment(1);
    tracing::error!(
        error = error as &dyn Error,
        "a digest could not be closed; it is tried again"
    );
}
