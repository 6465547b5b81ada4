//! Before a session has connected.

use std::sync::Arc;

use carillon_domain::{
    Caller, DeviceName, Position, Principal, UserCaller,
    ports::{AuthError, Gap},
};
use uuid::Uuid;

use super::{
    Answer, Channel, Connected, Effect, Moment, OpenRequest, Opened, Refusal, Subscribed, Unidentified, Work,
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

/// A `connect` that is under way.
pub(super) struct Connecting {
    id: u32,
    device: Option<DeviceName>,
    /// Whether the client asked for the mailbox, or asked for it not.
    inbox: Option<bool>,
    recover: Vec<(String, Resume)>,
    /// Once the token is verified.
    admitted: Option<(Principal, Uuid)>,
    requests: Vec<OpenRequest>,
}

impl Unidentified {
    pub(super) fn command(&mut self, command: json::Command<'_>, effects: &mut Vec<Effect>) {
        let (Some(connect), 1.., None) = (command.connect, command.id, &self.connecting) else {
            effects.push(Effect::Close(Close::BAD_REQUEST));
            return;
        };
        if connect.token.is_empty() {
            effects.push(Effect::Close(Close::INVALID_TOKEN));
            return;
        }
        let Ok(data) = json::connect_data(connect.data) else {
            effects.push(Effect::Close(Close::BAD_REQUEST));
            return;
        };
        let recover = connect.subs.iter().filter(|(_, sub)| sub.0.recover);
        let recover = recover
            .map(|(channel, sub)| (channel.to_string(), resume(&sub.0.epoch, sub.0.offset)))
            .collect();
        self.connecting = Some(Box::new(Connecting {
            id: command.id,
            device: data.device.and_then(|device| device.parse().ok()),
            inbox: data.inbox,
            recover,
            admitted: None,
            requests: Vec::new(),
        }));
        effects.push(Effect::Work(Work::Authenticate {
            token: connect.token.into_owned(),
        }));
    }

    /// The connected session, when the answer was the last one needed.
    pub(super) fn answer(
        &mut self,
        answer: Answer,
        now: Moment,
        config: &HubConfig,
        effects: &mut Vec<Effect>,
    ) -> Option<Connected> {
        let mut connecting = self.connecting.take()?;
        match answer {
            Answer::Authenticate(Ok((principal, client))) => {
                let Some(user) = user_of(&principal) else {
                    effects.push(Effect::Close(Close::INVALID_TOKEN));
                    return None;
                };
                // The token's word is verified; the client's own is not.
                connecting.device = user
                    .device
                    .clone()
                    .or_else(|| connecting.device.take())
                    .or_else(|| self.device.clone());
                let inbox = connecting.inbox.unwrap_or(user.own_token);
                let wanted = inbox.then_some(Channel::Inbox).into_iter();
                let wanted: Vec<_> = wanted
                    .chain(user.channels.iter().cloned().map(Channel::Topic))
                    .collect();
                if wanted.len() > config.channel_limit {
                    effects.push(Effect::Close(Close::CHANNEL_LIMIT));
                    return None;
                }
                for (token, channel) in (0..).zip(wanted) {
                    let recover = connecting
                        .recover
                        .iter()
                        .find(|(name, _)| name == channel.as_str());
                    let resume = recover.map_or(Resume::Now, |(_, resume)| resume.clone());
                    connecting.requests.push(OpenRequest {
                        token,
                        channel,
                        resume,
                    });
                }
                connecting.admitted = Some((principal, client));
                if connecting.requests.is_empty() {
                    return connecting.finish(Vec::new(), now, config, effects);
                }
                let (device, requests) = (connecting.device.clone(), connecting.requests.clone());
                effects.push(Effect::Work(Work::Open {
                    user: user.id,
                    device,
                    requests,
                }));
                self.connecting = Some(connecting);
                None
            }
            Answer::Authenticate(Err(refusal)) => {
                effects.push(match refusal {
                    Refusal::Credential(AuthError::Expired) => {
                        Effect::Send(json::failed(connecting.id, &ReplyError::TOKEN_EXPIRED))
                    }
                    Refusal::Credential(AuthError::Unavailable(_)) => {
                        Effect::Send(json::failed(connecting.id, &ReplyError::INTERNAL))
                    }
                    Refusal::Credential(AuthError::Invalid | AuthError::Revoked) => {
                        Effect::Close(Close::INVALID_TOKEN)
                    }
                    Refusal::Limit => Effect::Close(Close::CONNECTION_LIMIT),
                });
                None
            }
            Answer::Open(opened) => match opened.into_iter().collect::<Option<Vec<_>>>() {
                Some(opened) => connecting.finish(opened, now, config, effects),
                None => {
                    // The client may try again over this very connection, which then admits it anew.
                    effects.push(Effect::Send(json::failed(connecting.id, &ReplyError::INTERNAL)));
                    effects.push(Effect::Close(Close::SERVER_ERROR));
                    None
                }
            },
            _ => None,
        }
    }
}

impl Connecting {
    fn finish(
        self,
        opened: Vec<Opened>,
        now: Moment,
        config: &HubConfig,
        effects: &mut Vec<Effect>,
    ) -> Option<Connected> {
        let (principal, client) = self.admitted?;
        let principal = with_device(principal, self.device.as_ref());
        let user = user_of(&principal)?;
        let mut subs = Vec::new();
        for (request, opened) in self.requests.iter().zip(opened) {
            subs.push((
                request.channel.as_str(),
                subscribed(opened, request.resume != Resume::Now),
            ));
        }
        let reply = json::Connected {
            client: &client.to_string(),
            session: &client.to_string(),
            ping_seconds: config.ping_interval.duration().as_secs(),
            ttl: ttl(user.expires_at, now.wall),
            subs,
        };
        effects.push(Effect::Send(json::connected(self.id, &reply)));
        effects.extend(self.requests.iter().map(|request| Effect::Start(request.token)));
        effects.push(Effect::Wake);
        let ping = config.ping_interval.duration();
        // Clients that came back together are not pinged together.
        let jitter = ping.mul_f64(f64::from(client.as_u128() as u16) / f64::from(u16::MAX));
        let subscriptions = self.requests.into_iter().map(|request| Subscribed {
            token: request.token,
            channel: request.channel,
            server_side: true,
            expires_at: None,
        });
        let subscriptions: Vec<_> = subscriptions.collect();
        Some(Connected {
            next_token: subscriptions.len() as u32,
            principal,
            user,
            client,
            device: self.device,
            subscriptions,
            pending: None,
            next_ping: now.elapsed + jitter,
            pong_due: None,
            pong_expected: false,
            rate: (0, 0),
        })
    }
}

/// A device that the token does not name is the connection's: whoever acknowledges here does so on it.
pub(super) fn with_device(principal: Principal, device: Option<&DeviceName>) -> Principal {
    match (user_of(&principal), device) {
        (Some(user), Some(device)) if user.device.is_none() => {
            let user = UserCaller {
                device: Some(device.clone()),
                ..UserCaller::clone(&user)
            };
            Principal {
                caller: Caller::User(Arc::new(user)),
                ..principal
            }
        }
        _ => principal,
    }
}

/// What a client wants that presents a position.
pub(super) fn resume(epoch: &str, offset: u64) -> Resume {
    if epoch.is_empty() {
        return Resume::AfterSeq(offset);
    }
    match epoch.parse() {
        Ok(epoch) => Resume::After(Position { epoch, seq: offset }),
        Err(_) => Resume::Lost(Gap::Malformed),
    }
}

/// As the reply says it. After a recovery the offset is where it began: the publications move it on.
pub(super) fn subscribed(opened: Opened, was_recovering: bool) -> json::Subscribed {
    json::Subscribed {
        recoverable: opened.position.is_some(),
        epoch: opened
            .position
            .as_ref()
            .map(|position| position.epoch.to_string())
            .unwrap_or_default(),
        offset: opened.position.as_ref().map_or(0, |position| position.seq),
        recovered: opened.recovered,
        was_recovering,
        publications: opened.publications,
        ttl: None,
    }
}
