//! What an API key may do.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ChannelKind, Invalid};

/// What a scope for a channel's worker begins with.
const CHANNEL: &str = "channel:";

/// What an API key may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Send and cancel notifications.
    NotificationsWrite,
    /// Say that a notification is critical: that it passes preferences, quiet hours, holds and caps.
    NotificationsCritical,
    /// Read notifications and what became of them.
    NotificationsRead,
    /// Publish to topics.
    TopicsPublish,
    /// Mint users' tokens.
    TokensWrite,
    /// Revoke tokens and end connections.
    RevocationsWrite,
    /// Write users' profiles and addresses, and erase users.
    UsersWrite,
    /// Write categories.
    CategoriesWrite,
    /// Write what holds for all of the tenant's users: time zone, caps, throttle, channels.
    PolicyWrite,
    /// Write templates.
    TemplatesWrite,
    /// Register webhook endpoints and rotate their secrets.
    WebhooksWrite,
    /// Redrive dead letters; write and lift suppressions.
    DeliveriesWrite,
    /// Register sources of events.
    SourcesWrite,
    /// Hand domain events in.
    EventsWrite,
    /// Write the rules that make notifications of events, and try them out.
    RulesWrite,
    /// Create, list and revoke API keys of the tenant, with any scope: as good as all of them.
    KeysWrite,
    /// Bring this channel: pull its work and answer it. Never `in_app`.
    Channel(ChannelKind),
}

impl Scope {
    /// Every scope but those of single channels.
    pub const ALL: [Self; 16] = [
        Self::NotificationsWrite,
        Self::NotificationsCritical,
        Self::NotificationsRead,
        Self::TopicsPublish,
        Self::TokensWrite,
        Self::RevocationsWrite,
        Self::UsersWrite,
        Self::CategoriesWrite,
        Self::PolicyWrite,
        Self::TemplatesWrite,
        Self::WebhooksWrite,
        Self::DeliveriesWrite,
        Self::SourcesWrite,
        Self::EventsWrite,
        Self::RulesWrite,
        Self::KeysWrite,
    ];

    /// What a key gets that asks for nothing: all but critical notifications and the making of further
    /// keys, and no channel.
    pub const BACKEND: [Self; 14] = [
        Self::NotificationsWrite,
        Self::NotificationsRead,
        Self::TopicsPublish,
        Self::TokensWrite,
        Self::RevocationsWrite,
        Self::UsersWrite,
        Self::CategoriesWrite,
        Self::PolicyWrite,
        Self::TemplatesWrite,
        Self::WebhooksWrite,
        Self::DeliveriesWrite,
        Self::SourcesWrite,
        Self::EventsWrite,
        Self::RulesWrite,
    ];

    /// As written in requests and stores.
    pub fn as_text(&self) -> Cow<'static, str> {
        let text = match self {
            Self::NotificationsWrite => "notifications:write",
            Self::NotificationsCritical => "notifications:critical",
            Self::NotificationsRead => "notifications:read",
            Self::TopicsPublish => "topics:publish",
            Self::TokensWrite => "tokens:write",
            Self::RevocationsWrite => "revocations:write",
            Self::UsersWrite => "users:write",
            Self::CategoriesWrite => "categories:write",
            Self::PolicyWrite => "policy:write",
            Self::TemplatesWrite => "templates:write",
            Self::WebhooksWrite => "webhooks:write",
            Self::DeliveriesWrite => "deliveries:write",
            Self::SourcesWrite => "sources:write",
            Self::EventsWrite => "events:write",
            Self::RulesWrite => "rules:write",
            Self::KeysWrite => "keys:write",
            Self::Channel(kind) => return Cow::Owned(format!("{CHANNEL}{kind}")),
        };
        Cow::Borrowed(text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_text())
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(kind) = text.strip_prefix(CHANNEL) {
            let kind: ChannelKind = kind.parse()?;
            if kind.is_in_app() {
                return Err(Invalid("in_app is Carillon's own channel: no worker brings it"));
            }
            return Ok(Self::Channel(kind));
        }
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_text() == text)
            .ok_or(Invalid(
                "a scope is one of notifications:write, notifications:read, topics:publish, tokens:write, \
                 revocations:write, users:write, categories:write, policy:write, templates:write, webhooks:write, \
                 deliveries:write, sources:write, events:write, rules:write, keys:write, or channel: with a channel's name",
            ))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_text())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for Scope {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let words: Vec<_> = Self::ALL.iter().map(Self::as_text).collect();
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(
                "What an API key may do. `channel:{kind}` lets a worker bring that channel.",
            ))
            .pattern(Some(format!(
                "^({}|channel:[a-z0-9_-]{{1,32}})$",
                words.join("|")
            )))
            .into()
    }
}

impl utoipa::ToSchema for Scope {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_one_spelling_and_is_read_back() {
        let sms = Scope::Channel("sms".parse().expect("a channel"));
        assert_eq!(sms.to_string(), "channel:sms");
        for scope in Scope::ALL.into_iter().chain([sms]) {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for bad in [
            "",
            "everything",
            "Keys:write",
            "channel",
            "channel:",
            "channel:in_app",
            "channel:S M S",
            "channel:*",
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_asks_for_nothing_makes_no_keys_and_brings_no_channel() {
        let missing: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|scope| !Scope::BACKEND.contains(scope))
            .collect();
        assert_eq!(missing, [Scope::NotificationsCritical, Scope::KeysWrite]);
    }
}
