//! Mailboxes: what users, their devices and the clock do to inboxes, and the log that everybody resumes from.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{
    Clock, DeviceName, LoggedChange, Position, TenantId, UserId,
    ports::{Inbox, Since, Unavailable},
};
use carillon_runtime::http::Problem;
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{
    announcer::Announcer,
    batcher::{BatchError, BatchLimits, Batcher, Weigh},
    channels::Channels,
    intake::{busy, is_away},
    store::{MailboxCommand, MailboxReply, Store},
    wake::Wake,
};

/// How often snoozed entries are looked for without a wake-up, at least.
const SNOOZE_POLL: Duration = Duration::from_secs(30);

/// How many snoozed entries wake in one transaction.
const SNOOZE_BATCH: usize = 500;

/// Changes mailboxes, and reads them.
pub(crate) struct Mailboxes {
    pub(crate) store: Arc<dyn Store>,
    announcer: Arc<Announcer>,
    clock: Arc<dyn Clock>,
    batcher: Batcher<MailboxCommand, MailboxReply, MailboxError>,
    snoozes: Wake,
    /// Wakes who tries deliveries.
    deliverer: Arc<Wake>,
    /// Wakes who ends it for the others.
    withdrawer: Arc<Wake>,
    channels: Arc<Channels>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum MailboxError {
    /// Too much waits for commits.
    #[error("too many changes wait for a commit")]
    Overloaded,
    /// The process ends.
    #[error("the process is shutting down")]
    Stopping,
    /// The store is away; several commands share the cause.
    #[error("the store did not commit")]
    Store(#[source] Arc<StoreError>),
}

impl Weigh for MailboxCommand {
    fn items(&self) -> usize {
        self.operations.len()
    }

    fn bytes(&self) -> usize {
        128 + self.operations.len() * 96
    }
}

impl Mailboxes {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        announcer: Arc<Announcer>,
        clock: Arc<dyn Clock>,
        limits: BatchLimits,
        deliverer: Arc<Wake>,
        withdrawer: Arc<Wake>,
        channels: Arc<Channels>,
    ) -> Self {
        Self {
            store,
            announcer,
            clock,
            batcher: Batcher::new(limits),
            snoozes: Wake::default(),
            deliverer,
            withdrawer,
            channels,
        }
    }

    /// Carries out a command, together with what else arrives.
    pub(crate) async fn submit(&self, command: MailboxCommand) -> Result<MailboxReply, MailboxError> {
        self.batcher.submit(command).await.map_err(|error| match error {
            BatchError::Overloaded => MailboxError::Overloaded,
            BatchError::Stopping => MailboxError::Stopping,
            BatchError::Failed(error) => error,
        })
    }

    /// The clock has a new appointment.
    pub(crate) fn snoozed(&self) {
        self.snoozes.wake();
    }

    /// Commits batches until `stop`, and then what still waits.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.batcher.run(stop, |commands| self.commit(commands)).await;
    }

    async fn commit(&self, commands: Vec<MailboxCommand>) -> Vec<Result<MailboxReply, MailboxError>> {
        match self.mutate(&commands).await {
            Ok(replies) => replies.into_iter().map(Ok).collect(),
            // One command that cannot be stored must not take its neighbours with it.
            Err(error) if commands.len() > 1 && !is_away(&error) => {
                let mut replies = Vec::with_capacity(commands.len());
                for command in &commands {
                    let reply = self.mutate(std::slice::from_ref(command)).await;
                    replies.push(reply.map_err(failed).map(|mut replies| replies.remove(0)));
                }
                replies
            }
            Err(error) => {
                let error = failed(error);
                commands.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    /// Carries out commands in one transaction and announces what changed.
    pub(crate) async fn mutate(&self, commands: &[MailboxCommand]) -> Result<Vec<MailboxReply>, StoreError> {
        let recallable = self.channels.recallable(commands).await?;
        let turn = self.announcer.turn().await;
        let committed = self.store.mutate(self.clock.now(), commands, &recallable).await?;
        if committed.told {
            self.deliverer.wake();
            self.withdrawer.wake();
        }
        turn.announce(committed.envelopes).await;
        Ok(committed.value)
    }

    /// What recipients answered to deliveries. What cannot be stored is logged: their deliveries are settled all the same.
    pub(crate) async fn heard(&self, commands: &[MailboxCommand]) -> Result<(), StoreError> {
        match self.mutate(commands).await {
            Err(error) if !is_away(&error) => {}
            done => return done.map(|_| ()),
        }
        // One that cannot be stored must not take its neighbours with it.
        for command in commands {
            match self.mutate(std::slice::from_ref(command)).await {
                Err(error) if is_away(&error) => return Err(error),
                Err(error) => drop(failed(error)),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Wakes snoozed entries until `stop`.
    pub(crate) async fn run_snoozes(&self, stop: CancellationToken) {
        loop {
            let next = match self.wake_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "snoozed entries could not be woken");
                    None
                }
            };
            if !self.snoozes.wait(&stop, &*self.clock, next, SNOOZE_POLL).await {
                return;
            }
        }
    }

    /// Wakes everything that is due; answers when the next will be.
    pub(crate) async fn wake_due(&self) -> Result<Option<carillon_domain::Timestamp>, StoreError> {
        loop {
            let commands = self.store.due_snoozes(self.clock.now(), SNOOZE_BATCH).await?;
            if commands.is_empty() {
                return self.store.next_snooze().await;
            }
            self.mutate(&commands).await?;
        }
    }
}

#[async_trait]
impl Inbox for Mailboxes {
    async fn head(&self, tenant: &TenantId, user: UserId) -> Result<Position, Unavailable> {
        Ok(self.store.mailbox(tenant, user).await?.0)
    }

    async fn since(
        &self,
        tenant: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, Unavailable> {
        Ok(self.store.since(tenant, user, from, limit).await?)
    }

    async fn confirmed(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, Unavailable> {
        Ok(self.store.confirmed(tenant, user, device).await?)
    }
}

fn failed(error: StoreError) -> MailboxError {
    tracing::error!(error = &error as &dyn Error, "mailboxes were not changed");
    MailboxError::Store(Arc::new(error))
}

impl From<MailboxError> for Problem {
    fn from(error: MailboxError) -> Self {
        match error {
            MailboxError::Overloaded => busy("Too many changes wait to be stored. Try again."),
            MailboxError::Stopping => busy("This part of the service is restarting. Try again."),
            // Logged where it happened, once for the batch.
            MailboxError::Store(_) => busy("The store is away. Try again."),
        }
    }
}
