//! The hub as the composition root sees it, and the life of a connection within it.

use std::sync::{Arc, Weak};

use carillon_domain::{
    Clock, Envelope, EnvelopeKind, Principal, UserCaller,
    ports::{Authenticate, Bus, Inbox, Incoming, Rpc, Topics},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    HubConfig,
    connection::{Connection, Role, Table},
    feed::{FeedKey, Message, Readings, Registry, Subscription},
    protocol::Encoding,
    revoke::Revocations,
    session::{Session, Token},
    shared::Shared,
    sse,
    wheel::Wheel,
    ws,
};

/// What the hub needs from the other rooms.
#[derive(Clone)]
pub struct HubPorts {
    /// Who is calling.
    pub authenticate: Arc<dyn Authenticate>,
    /// The mailbox log.
    pub inbox: Arc<dyn Inbox>,
    /// Topics' histories, and publishing.
    pub topics: Arc<dyn Topics>,
    /// Where envelopes come from.
    pub bus: Arc<dyn Bus>,
    /// What clients may call by name.
    pub rpc: Arc<dyn Rpc>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The node that holds sockets.
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ports: HubPorts,
    pub(crate) table: Table,
    pub(crate) registry: Registry,
    pub(crate) readings: Readings,
    pub(crate) revocations: Revocations,
    /// Envelopes set tasks off that hold the hub.
    me: Weak<Self>,
}

impl Hub {
    /// A hub without connections. Call it on the tokio runtime that shall drive its sockets, after the metrics
    /// recorder is installed; then give it to [`Bus::incoming`] and spawn [`Self::run`].
    pub fn new(config: HubConfig, ports: HubPorts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            shared: Arc::new(Shared::new(config)),
            ports,
            table: Table::new(),
            registry: Registry::new(),
            readings: Readings::default(),
            revocations: Revocations::default(),
            me: Weak::clone(me),
        })
    }

    /// `GET /v1/stream`, `POST /v1/stream/activity` and `GET /connection/websocket`. The edge strips a path's `/t/{tenant}` and puts the
    /// `TenantId` into the request's extensions; without one it is `default`.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(sse::stream))
            .routes(routes!(sse::activity::beat))
            .routes(routes!(ws::websocket))
            .with_state(Arc::clone(self))
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Counts a new connection and puts it on the wheel.
    pub(crate) fn opened(&self, connection: &Connection) {
        match connection.encoding {
            Encoding::WebSocketJson => self.shared.metrics.websockets.increment(1),
            Encoding::EventStream => self.shared.metrics.streams.increment(1),
        }
        connection.wake_after(Wheel::STEP);
    }

    /// Notes whose a connection is; false when the credential was revoked while it was being looked at.
    pub(crate) fn admit(&self, connection: &Connection, principal: &Principal) -> bool {
        if let Some(user) = user(principal)
            && connection.person.set(principal.clone()).is_ok()
        {
            self.table.join(&principal.tenant, user.id, connection.id);
        }
        // Only now: what is revoked from here on finds the connection.
        !self.revocations.covers(principal, self.shared.elapsed())
    }

    /// Notes a subscription, so that it goes when the connection goes.
    pub(crate) fn keep(&self, connection: &Connection, token: Token, subscription: &Subscription) {
        let kept = {
            let mut subscriptions = connection.subscriptions.lock();
            if !subscriptions.closed {
                subscriptions.list.push((token, subscription.handle()));
            }
            !subscriptions.closed
        };
        if !kept {
            self.leave(subscription);
        }
    }

    /// Gives up one subscription.
    pub(crate) fn drop_subscription(&self, connection: &Connection, token: Token) {
        let dropped = {
            let mut subscriptions = connection.subscriptions.lock();
            let at = subscriptions.list.iter().position(|(other, _)| *other == token);
            at.map(|at| subscriptions.list.swap_remove(at))
        };
        if let Some((_, subscription)) = dropped {
            self.leave(&subscription);
        }
    }

    /// Gives up all subscriptions, also those that are still being opened.
    pub(crate) fn release_subscriptions(&self, connection: &Connection) {
        let list = {
            let mut subscriptions = connection.subscriptions.lock();
            subscriptions.closed = true;
            std::mem::take(&mut subscriptions.list)
        };
        list.iter().for_each(|(_, subscription)| self.leave(subscription));
    }

    fn leave(&self, subscription: &Subscription) {
        let now = self.shared.millis();
        if subscription.leave(now) {
            self.registry.emptied(subscription.feed(), now);
        }
    }

    /// The session has nothing more to say.
    pub(crate) fn hush(&self, connection: &Connection) {
        if let Role::Session(session) = &mut *connection.role.lock() {
            *session = Session::Over;
        }
        self.release_subscriptions(connection);
    }

    /// Something that the client needs is away: it is to come back later, with its position.
    pub(crate) fn interrupt(&self, connection: &Arc<Connection>) {
        match connection.encoding {
            Encoding::WebSocketJson => self.close(connection, crate::protocol::codes::Close::SERVER_ERROR),
            Encoding::EventStream => {
                let retry = rand::random_range(5_000..=30_000);
                connection.end(sse::event::retry(retry).into());
                self.hush(connection);
            }
        }
    }

    /// Closes a WebSocket.
    pub(crate) fn close(&self, connection: &Arc<Connection>, close: crate::protocol::codes::Close) {
        connection.end(ws::frame::close(Some(close.code), close.reason));
        self.hush(connection);
    }

    /// Says goodbye to a stream.
    pub(crate) fn bye(&self, connection: &Arc<Connection>, reason: &str) {
        connection.end(sse::event::bye(reason, self.shared.retry_ms()));
        self.hush(connection);
    }

    /// A connection is gone: so is everything that was kept for it.
    pub(crate) fn forget(&self, connection: &Arc<Connection>) {
        if !self.table.remove(connection.id) {
            return;
        }
        match connection.encoding {
            Encoding::WebSocketJson => self.shared.metrics.websockets.decrement(1),
            Encoding::EventStream => self.shared.metrics.streams.decrement(1),
        }
        if let Some(principal) = connection.person.get()
            && let Some(user) = user(principal)
        {
            self.table.leave(&principal.tenant, user.id, connection.id);
        }
        self.hush(connection);
        connection.abort();
    }

    fn deliver(self: &Arc<Self>, key: &FeedKey, messages: Vec<Arc<Message>>) {
        if let Some(feed) = self.registry.get(key) {
            let todo = feed.accept(messages);
            self.act(&feed, todo);
        }
    }
}

pub(crate) fn user(principal: &Principal) -> Option<&Arc<UserCaller>> {
    match &principal.caller {
        carillon_domain::Caller::User(user) => Some(user),
        carillon_domain::Caller::Key(_)
        | carillon_domain::Caller::Worker(_)
        | carillon_domain::Caller::Operator => None,
    }
}

impl Incoming for Hub {
    fn receive(&self, envelope: Envelope) {
        self.receive_all(vec![envelope]);
    }

    fn receive_all(&self, envelopes: Vec<Envelope>) {
        let Some(hub) = self.me.upgrade() else { return };
        hub.shared.metrics.envelopes.increment(envelopes.len() as u64);
        let mut run: Option<(FeedKey, Vec<Arc<Message>>)> = None;
        for envelope in envelopes {
            if let EnvelopeKind::Revoked(revocation) = &envelope.kind {
                hub.revoke(&envelope, revocation);
                continue;
            }
            let key = FeedKey {
                tenant: envelope.tenant.clone(),
                subject: envelope.subject.clone(),
            };
            // Few of those whom a broadcast goes to are connected: nothing is worked out for the others.
            let goes_on = run.as_ref().is_some_and(|(same, _)| *same == key);
            if !goes_on && hub.registry.get(&key).is_none() {
                continue;
            }
            let Some(message) = Message::from_envelope(envelope) else {
                continue;
            };
            match &mut run {
                // Neighbours for the same mailbox or topic go out together.
                Some((same, messages)) if *same == key => messages.push(message),
                _ => {
                    if let Some((key, messages)) = run.replace((key, vec![message])) {
                        hub.deliver(&key, messages);
                    }
                }
            }
        }
        if let Some((key, messages)) = run {
            hub.deliver(&key, messages);
        }
    }
}
