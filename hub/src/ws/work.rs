//! What a session asked for: its effects on the connection, and the work behind them.

use std::sync::Arc;

use carillon_domain::{
    Principal, Subject, TenantId, UserId,
    ports::{AuthError, NewPublication, PublishError, RpcError, Unavailable},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::frame;
use crate::{
    connection::{Connection, Role},
    feed::{FeedKey, Opening, Released, Resume},
    hub::Hub,
    session::{
        Answer, Channel, Effect, Input, Moment, OpenRequest, Opened, PublishFailed, Refusal, Token, Work,
    },
    wheel::Wheel,
};

/// How much of what was missed comes within the reply; the rest follows as it would live, as fast as the client reads.
const REPLY_BYTES: usize = 48 * 1024;

type Openings = Vec<(Token, Opening)>;

impl Hub {
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            elapsed: self.shared.elapsed(),
            wall: self.ports.clock.now(),
        }
    }

    /// Gives something to a session and does what follows at once; answers what takes longer.
    pub(crate) fn input(self: &Arc<Self>, connection: &Arc<Connection>, input: Input<'_>) -> Option<Work> {
        self.input_with(connection, input, &mut Openings::new())
    }

    fn input_with(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        input: Input<'_>,
        openings: &mut Openings,
    ) -> Option<Work> {
        // Held until the effects are out, so that what was decided first is also said first.
        let mut role = connection.role.lock();
        let Role::Session(session) = &mut *role else {
            return None;
        };
        let effects = session.handle(input, self.moment(), &self.shared.config);
        self.apply(connection, effects, openings)
    }

    /// Does what a session wants. Its lock is held.
    pub(crate) fn apply(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        effects: Vec<Effect>,
        openings: &mut Openings,
    ) -> Option<Work> {
        for effect in effects {
            match effect {
                Effect::Send(line) => connection.send(&frame::text(line.as_bytes())),
                Effect::Start(token) => self.start(connection, token, openings),
                Effect::Wake => connection.wake_after(Wheel::STEP),
                Effect::Leave(token) => {
                    openings.retain(|(other, _)| *other != token);
                    self.drop_subscription(connection, token);
                }
                Effect::Close(close) => {
                    connection.end(frame::close(Some(close.code), close.reason));
                    self.release_subscriptions(connection);
                    return None;
                }
                Effect::Work(work) => return Some(work),
            }
        }
        None
    }

    /// Works until the session asks for no more.
    pub(crate) async fn work_through(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        tenant: &TenantId,
        work: Work,
    ) {
        let mut openings = Openings::new();
        let mut next = Some(work);
        while let Some(work) = next {
            let answer = self.work(connection, tenant, work, &mut openings).await;
            next = self.input_with(connection, Input::Answer(answer), &mut openings);
        }
    }

    async fn work(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        tenant: &TenantId,
        work: Work,
        openings: &mut Openings,
    ) -> Answer {
        let patience = self.shared.config.call_timeout.duration();
        match work {
            Work::Authenticate { token } => Answer::Authenticate(match self.bearer(tenant, &token).await {
                Ok(principal) => self.let_in(connection, principal),
                Err(error) => Err(Refusal::Credential(error)),
            }),
            Work::Refresh { token } => Answer::Refresh(self.bearer(tenant, &token).await),
            Work::Subscription { token } => {
                let checked = timeout(patience, self.ports.authenticate.subscription(tenant, &token)).await;
                Answer::Subscription(
                    checked.unwrap_or_else(|_| Err(late("checking a subscription token").into())),
                )
            }
            Work::Open {
                user,
                device,
                requests,
            } => {
                let mut opened = Vec::with_capacity(requests.len());
                let mut room = REPLY_BYTES;
                for request in requests {
                    let opening = self.open_one(connection, tenant, user, device.as_ref(), &request);
                    opened.push(match timeout(patience, opening).await {
                        Ok(Ok(mut opening)) => {
                            let reply = self.reply(&mut opening, &request.resume, &mut room).await;
                            openings.push((request.token, opening));
                            reply
                        }
                        Ok(Err(error)) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "a subscription was not opened"
                            );
                            None
                        }
                        Err(_) => {
                            self.drop_subscription(connection, request.token);
                            None
                        }
                    });
                }
                Answer::Open(opened)
            }
            Work::Publish {
                topic,
                data,
                publisher,
            } => {
                let publication = NewPublication {
                    topic,
                    data,
                    publisher: Some(publisher),
                };
                let publish = self.ports.topics.publish(tenant, vec![publication]);
                Answer::Publish(match timeout(patience, publish).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(PublishError::TooLarge { .. })) => Err(PublishFailed::TooLarge),
                    Ok(Err(PublishError::Unavailable(error))) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a publication was not taken"
                        );
                        Err(PublishFailed::Unavailable)
                    }
                    Err(_) => Err(PublishFailed::Unavailable),
                })
            }
            Work::Call {
                principal,
                method,
                data,
            } => {
                let called = timeout(patience, self.ports.rpc.call(&principal, &method, data)).await;
                Answer::Call(called.unwrap_or_else(|_| {
                    Some(Err(RpcError {
                        code: 100,
                        message: "internal server error".to_owned(),
                        temporary: true,
                    }))
                }))
            }
        }
    }

    async fn bearer(&self, tenant: &TenantId, token: &str) -> Result<Principal, AuthError> {
        let patience = self.shared.config.call_timeout.duration();
        let checked = timeout(patience, self.ports.authenticate.bearer(tenant, token)).await;
        let checked = checked.unwrap_or_else(|_| Err(late("checking a token").into()));
        if let Err(AuthError::Unavailable(error)) = &checked {
            tracing::warn!(error = error as &dyn std::error::Error, "a token was not checked");
        }
        checked
    }

    fn let_in(
        &self,
        connection: &Arc<Connection>,
        principal: Principal,
    ) -> Result<(Principal, Uuid), Refusal> {
        let carillon_domain::Caller::User(user) = &principal.caller else {
            return Err(Refusal::Credential(AuthError::Invalid));
        };
        let limit = self.shared.config.connections_per_user;
        if limit > 0 && self.table.count_of_user(&principal.tenant, user.id) >= limit {
            return Err(Refusal::Limit);
        }
        if !self.admit(connection, &principal) {
            return Err(Refusal::Credential(AuthError::Revoked));
        }
        Ok((principal, Uuid::new_v4()))
    }

    async fn open_one(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        tenant: &TenantId,
        user: UserId,
        device: Option<&carillon_domain::DeviceName>,
        request: &OpenRequest,
    ) -> Result<Opening, Unavailable> {
        let subject = match &request.channel {
            Channel::Inbox => Subject::Mailbox(user),
            Channel::Topic(topic) => Subject::Topic(topic.clone()),
        };
        let key = FeedKey {
            tenant: tenant.clone(),
            subject,
        };
        self.open(connection, request.token, key, request.resume.clone(), device)
            .await
    }

    /// Decides what a client is told of its beginning. Who is too far behind goes on from the newest, and knows it.
    async fn reply(
        self: &Arc<Self>,
        opening: &mut Opening,
        resume: &Resume,
        room: &mut usize,
    ) -> Option<Opened> {
        let mut recovered = false;
        if *resume != Resume::Now {
            recovered = opening.gap.is_none() && opening.behind <= self.shared.config.recovery_limit;
            if !recovered && opening.gap.is_none() {
                let newest = self.newest(opening.subscription.feed()).await.ok()?;
                if let Some(newest) = newest {
                    opening.skip(newest);
                }
            }
            let metrics = &self.shared.metrics;
            if recovered {
                &metrics.recovered
            } else {
                &metrics.not_recovered
            }
            .increment(1);
        }
        let position = opening.start.clone();
        let mut publications = Vec::new();
        let mut taken = 0;
        for message in &opening.messages {
            let publication = message.publication();
            if publication.0.len() > *room {
                break;
            }
            *room -= publication.0.len();
            publications.push(publication);
            taken += 1;
        }
        if let Some(last) = opening.messages[..taken].last() {
            opening.start = last.position.clone();
        }
        opening.messages.drain(..taken);
        Some(Opened {
            position,
            recovered,
            publications,
        })
    }

    fn start(self: &Arc<Self>, connection: &Arc<Connection>, token: Token, openings: &mut Openings) {
        let Some(at) = openings.iter().position(|(other, _)| *other == token) else {
            return;
        };
        let (_, opening) = openings.swap_remove(at);
        let seq = opening.start.as_ref().map_or(0, |start| start.seq);
        let done = opening.messages.is_empty() && !opening.more;
        // What is held comes at once, so nothing may wait before it.
        let done = done && connection.is_drained();
        if done && opening.subscription.release(seq) != Released::Behind {
            return;
        }
        self.shared.runtime.spawn(Arc::clone(self).catch_up(
            Arc::clone(connection),
            token,
            opening.subscription,
            opening.messages,
            opening.start,
            opening.more,
        ));
    }
}

fn late(operation: &'static str) -> Unavailable {
    Unavailable::new(operation, "no answer in time")
}
