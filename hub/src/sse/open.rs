//! A stream's beginning, once its socket is ours.

use std::sync::Arc;

use carillon_domain::{DeviceName, Subject, TenantId, TopicName, UserCaller, ports::Unavailable};
use carillon_runtime::edge::Taken;

use super::{Stream, event};
use crate::{
    connection::{Connection, Role},
    feed::{FeedKey, Opening, Resume},
    hub::Hub,
};

/// What a stream consists of.
pub(crate) struct Plan {
    pub(crate) tenant: TenantId,
    pub(crate) user: Arc<UserCaller>,
    pub(crate) device: Option<DeviceName>,
    pub(crate) inbox: Option<Resume>,
    pub(crate) topics: Vec<(TopicName, Resume)>,
}

impl Hub {
    /// Takes a socket whose response head is out.
    pub(crate) fn adopt_stream(self: Arc<Self>, taken: Taken, stream: Stream, plan: Plan) {
        let principal = stream.principal.clone();
        let shared = Arc::clone(&self.shared);
        let connection = self
            .table
            .insert(|id| Connection::on_socket(id, shared, taken.socket, taken.guard, Role::Stream(stream)));
        self.opened(&connection);
        if !self.admit(&connection, &principal) {
            self.end_revoked(&connection);
        }
        self.shared
            .runtime
            .spawn(Arc::clone(&self).watch(Arc::clone(&connection)));
        self.shared
            .runtime
            .spawn(Arc::clone(&self).begin(connection, plan));
    }

    /// Opens a connection that hyper asks for its bytes.
    pub(crate) fn adopt_body(self: &Arc<Self>, stream: Stream) -> Arc<Connection> {
        let principal = stream.principal.clone();
        let shared = Arc::clone(&self.shared);
        let connection = self
            .table
            .insert(|id| Connection::on_body(id, shared, Role::Stream(stream)));
        self.opened(&connection);
        if !self.admit(&connection, &principal) {
            self.end_revoked(&connection);
        }
        connection
    }

    /// Waits for the client to go. Whatever it sends is none of our business.
    async fn watch(self: Arc<Self>, connection: Arc<Connection>) {
        while discard(&connection) && connection.readable().await.is_ok() {}
        self.forget(&connection);
    }

    /// Opens the mailbox and the topics, says where the stream starts, and brings it up to date.
    pub(crate) async fn begin(self: Arc<Self>, connection: Arc<Connection>, plan: Plan) {
        let Ok(openings) = self.open_all(&connection, &plan).await else {
            return self.interrupt(&connection);
        };
        let with_inbox = plan.inbox.is_some();
        let inbox = openings.first().filter(|_| with_inbox);
        let start = inbox.and_then(|opening| opening.start.as_ref());
        let position = event::position(start, &plan.user.external, plan.device.as_ref());
        if !connection.send_paced(&position).await {
            return;
        }
        for opening in &openings {
            if let Some(gap) = opening.gap {
                self.shared.metrics.gaps.increment(1);
                let topic = opening.subscription.feed().topic();
                let event = event::gap(topic, gap, opening.start.as_ref());
                if !connection.send_paced(&event).await {
                    return;
                }
            }
        }
        for (token, opening) in (0..).zip(openings) {
            let at = opening.start.clone();
            let catch_up = Arc::clone(&self).catch_up(
                Arc::clone(&connection),
                token,
                opening.subscription,
                opening.messages,
                at,
                opening.more,
            );
            catch_up.await;
        }
    }

    async fn open_all(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        plan: &Plan,
    ) -> Result<Vec<Opening>, Unavailable> {
        let key = |subject| FeedKey {
            tenant: plan.tenant.clone(),
            subject,
        };
        let inbox = plan
            .inbox
            .iter()
            .map(|resume| (key(Subject::Mailbox(plan.user.id)), resume.clone()));
        let topics = plan
            .topics
            .iter()
            .map(|(topic, resume)| (key(Subject::Topic(topic.clone())), resume.clone()));
        let mut openings = Vec::new();
        for (token, (key, resume)) in (0..).zip(inbox.chain(topics)) {
            let opening = self
                .open(connection, token, key, resume, plan.device.as_ref())
                .await?;
            openings.push(opening);
        }
        Ok(openings)
    }
}

/// False at the connection's end.
fn discard(connection: &Connection) -> bool {
    let mut scratch = [0; 1_024];
    // A client that floods is read only so fast.
    for _ in 0..16 {
        match connection.read(&mut scratch) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}
