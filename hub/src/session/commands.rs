//! What a connected client asks.

use bytes::Bytes;
use carillon_domain::{
    Principal, PublisherInfo, Timestamp,
    ports::{AuthError, SubscriptionGrant},
};

use super::{
    Answer, Channel, Connected, Effect, Moment, OpenRequest, PublishFailed, Subscribed, Token, Work,
    connect::{resume, subscribed, with_device},
    ttl, user_of,
};
use crate::{
    HubConfig,
    feed::Resume,
    protocol::{
        codes::{Close, ReplyError},
        json,
    },
};

/// Rather an error than a subscription that could not recover (a flag of the SDKs' `subscribe`).
const REJECT_UNRECOVERED: u64 = 2;

/// The command that waits for an [`Answer`].
pub(super) enum Pending {
    Subscribe(Box<Subscribing>),
    Publish { id: u32 },
    Call { id: u32 },
    Refresh { id: u32 },
    SubRefresh { id: u32, channel: Channel },
}

pub(super) struct Subscribing {
    id: u32,
    channel: Channel,
    resume: Resume,
    reject_unrecovered: bool,
    token: Token,
    expires_at: Option<Timestamp>,
}

impl Connected {
    pub(super) fn command(
        &mut self,
        command: json::Command<'_>,
        now: Moment,
        config: &HubConfig,
        effects: &mut Vec<Effect>,
    ) {
        let id = command.id;
        if command.connect.is_some() || self.pending.is_some() {
            effects.push(Effect::Close(Close::BAD_REQUEST));
            return;
        }
        // The answer to a ping is the empty command; nothing else but a message comes without an id.
        let is_empty = id == 0 && command.send.is_none() && command.is_pong();
        let is_expected = is_empty && std::mem::take(&mut self.pong_expected);
        let too_fast = !is_expected && self.is_too_fast(now, config);
        if command.send.is_some() {
            // Nobody listens to messages without a reply; who sends too many of them cannot be told by one either.
            if too_fast {
                effects.push(Effect::Close(Close::TOO_MANY_REQUESTS));
            }
            return;
        }
        if id == 0 {
            if !is_empty {
                effects.push(Effect::Close(Close::BAD_REQUEST));
            } else if too_fast {
                effects.push(Effect::Close(Close::TOO_MANY_REQUESTS));
            }
            return;
        }
        let outcome = if too_fast {
            Err(ReplyError::TOO_MANY_REQUESTS)
        } else if let Some(subscribe) = command.subscribe {
            self.subscribe(id, &subscribe, config)
        } else if let Some(unsubscribe) = command.unsubscribe {
            self.unsubscribe(&unsubscribe.channel, effects);
            Ok(Next::Reply(json::done(id, "unsubscribe")))
        } else if let Some(publish) = command.publish {
            self.publish(id, &publish)
        } else if let Some(call) = command.rpc {
            let data = call.data.map_or_else(
                || Bytes::from_static(b"null"),
                |data| Bytes::copy_from_slice(data.get().as_bytes()),
            );
            let work = Work::Call {
                principal: self.principal.clone(),
                method: call.method.into_owned(),
                data,
            };
            Ok(Next::Work(Pending::Call { id }, work))
        } else if command.ping.is_some() {
            Ok(Next::Reply(json::done(id, "ping")))
        } else if let Some(refresh) = command.refresh {
            if refresh.token.is_empty() {
                effects.push(Effect::Close(Close::BAD_REQUEST));
                return;
            }
            Ok(Next::Work(
                Pending::Refresh { id },
                Work::Refresh {
                    token: refresh.token.into_owned(),
                },
            ))
        } else if let Some(refresh) = command.sub_refresh {
            self.sub_refresh(id, &refresh)
        } else if command.presence.is_some() || command.presence_stats.is_some() || command.history.is_some()
        {
            Err(ReplyError::NOT_AVAILABLE)
        } else {
            Err(ReplyError::METHOD_NOT_FOUND)
        };
        match outcome {
            Ok(Next::Reply(reply)) => effects.push(Effect::Send(reply)),
            Ok(Next::Work(pending, work)) => {
                self.pending = Some(pending);
                effects.push(Effect::Work(work));
            }
            Err(error) => effects.push(Effect::Send(json::failed(id, &error))),
        }
    }

    fn is_too_fast(&mut self, now: Moment, config: &HubConfig) -> bool {
        let second = now.elapsed.as_secs();
        if self.rate.0 != second {
            self.rate = (second, 0);
        }
        self.rate.1 = self.rate.1.saturating_add(1);
        config.messages_per_second > 0 && self.rate.1 > config.messages_per_second
    }

    fn subscribe(
        &mut self,
        id: u32,
        subscribe: &json::Subscribe<'_>,
        config: &HubConfig,
    ) -> Result<Next, ReplyError> {
        if subscribe.r#type != 0 {
            return Err(ReplyError::NOT_AVAILABLE);
        }
        let channel = Channel::parse(&subscribe.channel)?;
        if self
            .subscriptions
            .iter()
            .any(|subscribed| subscribed.channel == channel)
        {
            return Err(ReplyError::ALREADY_SUBSCRIBED);
        }
        if self.subscriptions.len() >= config.channel_limit {
            return Err(ReplyError::LIMIT_EXCEEDED);
        }
        let resume = if subscribe.recover {
            resume(&subscribe.epoch, subscribe.offset)
        } else {
            Resume::Now
        };
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        let subscribing = Box::new(Subscribing {
            id,
            channel,
            resume,
            reject_unrecovered: subscribe.flag & REJECT_UNRECOVERED != 0,
            token,
            expires_at: None,
        });
        match &subscribing.channel {
            Channel::Topic(_) if !subscribe.token.is_empty() => {
                let token = subscribe.token.to_string();
                Ok(Next::Work(
                    Pending::Subscribe(subscribing),
                    Work::Subscription { token },
                ))
            }
            Channel::Topic(topic) if !self.user.topics.may_subscribe(topic) => {
                Err(ReplyError::PERMISSION_DENIED)
            }
            Channel::Topic(_) | Channel::Inbox => Ok(self.open(subscribing)),
        }
    }

    fn open(&self, subscribing: Box<Subscribing>) -> Next {
        let request = OpenRequest {
            token: subscribing.token,
            channel: subscribing.channel.clone(),
            resume: subscribing.resume.clone(),
        };
        let work = Work::Open {
            user: self.user.id,
            device: self.device.clone(),
            requests: vec![request],
        };
        Next::Work(Pending::Subscribe(subscribing), work)
    }

    fn unsubscribe(&mut self, channel: &str, effects: &mut Vec<Effect>) {
        if let Some(at) = self
            .subscriptions
            .iter()
            .position(|subscribed| subscribed.channel.as_str() == channel)
        {
            effects.push(Effect::Leave(self.subscriptions.swap_remove(at).token));
        }
    }

    fn publish(&self, id: u32, publish: &json::Publish<'_>) -> Result<Next, ReplyError> {
        if publish.r#type != 0 {
            return Err(ReplyError::NOT_AVAILABLE);
        }
        let data = publish.data.ok_or(ReplyError::BAD_REQUEST)?;
        let topic = match Channel::parse(&publish.channel)? {
            Channel::Topic(topic) if self.user.topics.may_publish(&topic) => topic,
            Channel::Topic(_) | Channel::Inbox => return Err(ReplyError::PERMISSION_DENIED),
        };
        let publisher = PublisherInfo {
            user: self.user.external.clone(),
            client: self.client.to_string(),
        };
        let data = Bytes::copy_from_slice(data.get().as_bytes());
        Ok(Next::Work(
            Pending::Publish { id },
            Work::Publish {
                topic,
                data,
                publisher,
            },
        ))
    }

    fn sub_refresh(&self, id: u32, refresh: &json::SubRefresh<'_>) -> Result<Next, ReplyError> {
        let channel = Channel::parse(&refresh.channel)?;
        if refresh.token.is_empty() {
            return Err(ReplyError::BAD_REQUEST);
        }
        if !self
            .subscriptions
            .iter()
            .any(|subscribed| subscribed.channel == channel)
        {
            return Err(ReplyError::PERMISSION_DENIED);
        }
        let work = Work::Subscription {
            token: refresh.token.to_string(),
        };
        Ok(Next::Work(Pending::SubRefresh { id, channel }, work))
    }

    pub(super) fn answer(&mut self, answer: Answer, now: Moment, effects: &mut Vec<Effect>) {
        match (self.pending.take(), answer) {
            (Some(Pending::Subscribe(subscribing)), Answer::Subscription(grant)) => {
                self.granted(subscribing, grant, effects);
            }
            (Some(Pending::Subscribe(subscribing)), Answer::Open(opened)) => {
                self.opened(*subscribing, opened.into_iter().next().flatten(), now, effects);
            }
            (Some(Pending::Publish { id }), Answer::Publish(published)) => {
                effects.push(Effect::Send(match published {
                    Ok(()) => json::done(id, "publish"),
                    Err(PublishFailed::TooLarge) => json::failed(id, &ReplyError::LIMIT_EXCEEDED),
                    Err(PublishFailed::Unavailable) => json::failed(id, &ReplyError::INTERNAL),
                }))
            }
            (Some(Pending::Call { id }), Answer::Call(called)) => effects.push(Effect::Send(match called {
                Some(Ok(data)) => json::called(id, &json::one_line(data)),
                Some(Err(error)) => json::failed(id, &error.into()),
                None => json::failed(id, &ReplyError::METHOD_NOT_FOUND),
            })),
            (Some(Pending::Refresh { id }), Answer::Refresh(refreshed)) => {
                self.refreshed(id, refreshed, now, effects);
            }
            (Some(Pending::SubRefresh { id, channel }), Answer::Subscription(grant)) => {
                effects.push(Effect::Send(match self.prolonged(&channel, grant) {
                    Ok(expires_at) => json::refreshed(id, "sub_refresh", ttl(expires_at, now.wall)),
                    Err(error) => json::failed(id, &error),
                }));
            }
            _ => {}
        }
    }

    fn granted(
        &mut self,
        mut subscribing: Box<Subscribing>,
        grant: Result<SubscriptionGrant, AuthError>,
        effects: &mut Vec<Effect>,
    ) {
        match self.check_grant(&subscribing.channel, grant) {
            Ok(expires_at) => {
                subscribing.expires_at = expires_at;
                if let Next::Work(pending, work) = self.open(subscribing) {
                    self.pending = Some(pending);
                    effects.push(Effect::Work(work));
                }
            }
            Err(error) => effects.push(Effect::Send(json::failed(subscribing.id, &error))),
        }
    }

    /// When a grant for this very user and channel ends.
    fn check_grant(
        &self,
        channel: &Channel,
        grant: Result<SubscriptionGrant, AuthError>,
    ) -> Result<Option<Timestamp>, ReplyError> {
        match grant {
            Ok(grant) if grant.user == self.user.external && grant.topic.as_str() == channel.as_str() => {
                Ok(grant.expires_at)
            }
            Err(AuthError::Expired) => Err(ReplyError::TOKEN_EXPIRED),
            Err(AuthError::Unavailable(_)) => Err(ReplyError::INTERNAL),
            Ok(_) | Err(AuthError::Invalid | AuthError::Revoked) => Err(ReplyError::PERMISSION_DENIED),
        }
    }

    fn prolonged(
        &mut self,
        channel: &Channel,
        grant: Result<SubscriptionGrant, AuthError>,
    ) -> Result<Option<Timestamp>, ReplyError> {
        let expires_at = self.check_grant(channel, grant)?;
        match self
            .subscriptions
            .iter_mut()
            .find(|subscribed| subscribed.channel == *channel)
        {
            Some(subscribed) => subscribed.expires_at = expires_at,
            // It expired while its token was being checked.
            None => return Err(ReplyError::EXPIRED),
        }
        Ok(expires_at)
    }

    fn opened(
        &mut self,
        subscribing: Subscribing,
        opened: Option<super::Opened>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(opened) = opened else {
            effects.push(Effect::Send(json::failed(subscribing.id, &ReplyError::INTERNAL)));
            return;
        };
        let was_recovering = subscribing.resume != Resume::Now;
        if subscribing.reject_unrecovered && was_recovering && !opened.recovered {
            effects.push(Effect::Leave(subscribing.token));
            effects.push(Effect::Send(json::failed(
                subscribing.id,
                &ReplyError::UNRECOVERABLE_POSITION,
            )));
            return;
        }
        let mut reply = subscribed(opened, was_recovering);
        reply.ttl = ttl(subscribing.expires_at, now.wall);
        effects.push(Effect::Send(json::subscribed(subscribing.id, &reply)));
        effects.push(Effect::Start(subscribing.token));
        if subscribing.expires_at.is_some() {
            effects.push(Effect::Wake);
        }
        self.subscriptions.push(Subscribed {
            token: subscribing.token,
            channel: subscribing.channel,
            server_side: false,
            expires_at: subscribing.expires_at,
        });
    }

    fn refreshed(
        &mut self,
        id: u32,
        refreshed: Result<Principal, AuthError>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        match refreshed {
            Ok(principal) => match user_of(&principal) {
                // The same person, maybe with other grants.
                Some(user) if user.id == self.user.id && principal.tenant == self.principal.tenant => {
                    let ttl = ttl(user.expires_at, now.wall);
                    self.principal = with_device(principal, self.device.as_ref());
                    self.user = user_of(&self.principal).unwrap_or(user);
                    effects.push(Effect::Send(json::refreshed(id, "refresh", ttl)));
                    effects.push(Effect::Wake);
                }
                _ => effects.push(Effect::Close(Close::INVALID_TOKEN)),
            },
            Err(AuthError::Expired) => effects.push(Effect::Close(Close::EXPIRED)),
            Err(AuthError::Unavailable(_)) => {
                effects.push(Effect::Send(json::failed(id, &ReplyError::INTERNAL)))
            }
            Err(AuthError::Invalid | AuthError::Revoked) => effects.push(Effect::Close(Close::INVALID_TOKEN)),
        }
    }
}

enum Next {
    Reply(String),
    Work(Pending, Work),
}
