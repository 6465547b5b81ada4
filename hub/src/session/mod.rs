//! The session behind a WebSocket: a pure machine. Commands, answers and ticks go in, [`Effect`]s come out; it does
//! no I/O, reads no clock and knows no socket.
//!
//! Commands are taken one after another: while a [`Work`] is under way its answer is the next input of the reading
//! side, so that a client's publications and subscriptions keep their order. Ticks and losses may come at any time.

mod commands;
mod connect;
mod effect;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use carillon_domain::{Caller, DeviceName, Principal, Timestamp, TopicName, UserCaller};
use uuid::Uuid;

pub(crate) use self::effect::{
    Answer, Effect, Input, Moment, OpenRequest, Opened, PublishFailed, Refusal, Token, Work,
};
use crate::{
    HubConfig,
    protocol::{
        INBOX,
        codes::{Close, ReplyError, Unsubscribe},
        json,
    },
};

/// One client's session. Not yet connected and connected are different things.
pub(crate) enum Session {
    /// Its first command must be `connect`.
    Unidentified(Unidentified),
    /// Greeted.
    Connected(Box<Connected>),
    /// Closed by us or by the client; nothing has an effect any more.
    Over,
}

pub(crate) struct Unidentified {
    opened_at: Duration,
    /// The device that the query named.
    device: Option<DeviceName>,
    connecting: Option<Box<connect::Connecting>>,
}

pub(crate) struct Connected {
    principal: Principal,
    user: Arc<UserCaller>,
    client: Uuid,
    device: Option<DeviceName>,
    subscriptions: Vec<Subscribed>,
    next_token: Token,
    pending: Option<commands::Pending>,
    next_ping: Duration,
    pong_due: Option<Duration>,
    /// Whether a ping was sent that nothing empty has answered yet.
    pong_expected: bool,
    /// What came in the present second, all but the pongs that were asked for.
    rate: (u64, u32),
}

struct Subscribed {
    token: Token,
    channel: Channel,
    server_side: bool,
    expires_at: Option<Timestamp>,
}

/// What can be subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The session's own mailbox.
    Inbox,
    /// A topic.
    Topic(TopicName),
}

impl Channel {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Inbox => INBOX,
            Self::Topic(topic) => topic.as_str(),
        }
    }

    fn parse(text: &str) -> Result<Self, ReplyError> {
        if text == INBOX {
            return Ok(Self::Inbox);
        }
        text.parse().map(Self::Topic).map_err(|_| ReplyError::BAD_REQUEST)
    }
}

impl Session {
    /// For a socket that was opened at `now`; `device` is what its query named.
    pub(crate) fn new(now: Duration, device: Option<DeviceName>) -> Self {
        Self::Unidentified(Unidentified {
            opened_at: now,
            device,
            connecting: None,
        })
    }

    /// What follows from `input`.
    pub(crate) fn handle(&mut self, input: Input<'_>, now: Moment, config: &HubConfig) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Command(line) => match json::command(line) {
                Ok(command) => self.command(command, now, config, &mut effects),
                Err(_) => effects.push(Effect::Close(Close::BAD_REQUEST)),
            },
            Input::Answer(answer) => self.answer(answer, now, config, &mut effects),
            Input::Heard => {
                if let Self::Connected(connected) = self {
                    connected.pong_due = None;
                }
            }
            Input::Lost(token) => {
                if let Self::Connected(connected) = self {
                    connected.lost(token, &mut effects);
                }
            }
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Close(_))) {
            *self = Self::Over;
        }
        effects
    }

    /// What is due, and when to ask again.
    pub(crate) fn tick(&mut self, now: Moment, config: &HubConfig) -> (Vec<Effect>, Option<Duration>) {
        let mut effects = Vec::new();
        let next = match self {
            Self::Unidentified(unidentified) => {
                let due = unidentified.opened_at + config.stale_close_delay.duration();
                if now.elapsed >= due {
                    effects.push(Effect::Close(Close::STALE));
                }
                Some(due.saturating_sub(now.elapsed))
            }
            Self::Connected(connected) => Some(connected.tick(now, config, &mut effects)),
            Self::Over => None,
        };
        if effects.iter().any(|effect| matches!(effect, Effect::Close(_))) {
            *self = Self::Over;
            return (effects, None);
        }
        (effects, next)
    }

    /// Whose it is, once it has connected.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Connected(connected) => Some(&connected.principal),
            Self::Unidentified(_) | Self::Over => None,
        }
    }

    fn command(
        &mut self,
        command: json::Command<'_>,
        now: Moment,
        config: &HubConfig,
        effects: &mut Vec<Effect>,
    ) {
        match self {
            Self::Unidentified(unidentified) => unidentified.command(command, effects),
            Self::Connected(connected) => connected.command(command, now, config, effects),
            Self::Over => {}
        }
    }

    fn answer(&mut self, answer: Answer, now: Moment, config: &HubConfig, effects: &mut Vec<Effect>) {
        match self {
            Self::Unidentified(unidentified) => {
                if let Some(connected) = unidentified.answer(answer, now, config, effects) {
                    *self = Self::Connected(Box::new(connected));
                }
            }
            Self::Connected(connected) => connected.answer(answer, now, effects),
            Self::Over => {}
        }
    }
}

impl Connected {
    fn tick(&mut self, now: Moment, config: &HubConfig, effects: &mut Vec<Effect>) -> Duration {
        let grace = config.expired_close_delay.duration();
        if let Some(expires_at) = self.user.expires_at
            && now.wall >= expires_at.after(grace)
        {
            effects.push(Effect::Close(Close::EXPIRED));
            return Duration::ZERO;
        }
        if let Some(due) = self.pong_due
            && now.elapsed >= due
        {
            if self.pending.is_none() {
                effects.push(Effect::Close(Close::NO_PONG));
                return Duration::ZERO;
            }
            // The pong may stand behind a command that is still being answered.
            self.pong_due = Some(now.elapsed + config.pong_timeout.duration());
        }
        if now.elapsed >= self.next_ping {
            effects.push(Effect::Send(json::PING.to_owned()));
            self.pong_expected = true;
            self.next_ping = now.elapsed + config.ping_interval.duration();
            self.pong_due = Some(now.elapsed + config.pong_timeout.duration());
        }
        self.expire_subscriptions(now, grace, effects);
        let expiries = self.subscriptions.iter().map(|subscribed| subscribed.expires_at);
        let expiry = expiries.chain([self.user.expires_at]).flatten().min();
        [Some(self.next_ping), self.pong_due]
            .into_iter()
            .flatten()
            .map(|due| due.saturating_sub(now.elapsed))
            .chain(expiry.map(|expiry| expiry.after(grace).since(now.wall)))
            .min()
            .unwrap_or(grace)
    }

    fn expire_subscriptions(&mut self, now: Moment, grace: Duration, effects: &mut Vec<Effect>) {
        self.subscriptions.retain(|subscribed| {
            let over = subscribed
                .expires_at
                .is_some_and(|expires_at| now.wall >= expires_at.after(grace));
            if over {
                effects.push(Effect::Leave(subscribed.token));
                effects.push(Effect::Send(json::unsubscribed(
                    subscribed.channel.as_str(),
                    Unsubscribe::EXPIRED,
                )));
            }
            !over
        });
    }

    /// A subscription cannot go on: the client subscribes again, and recovers or learns that it cannot.
    fn lost(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let Some(at) = self
            .subscriptions
            .iter()
            .position(|subscribed| subscribed.token == token)
        else {
            return;
        };
        if self.subscriptions[at].server_side {
            effects.push(Effect::Close(Close::INSUFFICIENT_STATE));
            return;
        }
        let lost = self.subscriptions.swap_remove(at);
        effects.push(Effect::Leave(token));
        effects.push(Effect::Send(json::unsubscribed(
            lost.channel.as_str(),
            Unsubscribe::INSUFFICIENT_STATE,
        )));
    }
}

/// Whole seconds until `expires_at`, at least one: SDKs refresh then.
fn ttl(expires_at: Option<Timestamp>, now: Timestamp) -> Option<u32> {
    let left = expires_at?.since(now).as_secs();
    Some(u32::try_from(left).unwrap_or(u32::MAX).max(1))
}

fn user_of(principal: &Principal) -> Option<Arc<UserCaller>> {
    match &principal.caller {
        Caller::User(user) => Some(Arc::clone(user)),
        Caller::Key(_) | Caller::Worker(_) | Caller::Operator => None,
    }
}
