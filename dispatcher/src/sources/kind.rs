//! The kinds of source.

use std::str::FromStr;

use carillon_domain::Invalid;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What sends the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceKind {
    /// Prometheus Alertmanager's webhook.
    Alertmanager,
    /// Grafana alerting's webhook contact point.
    Grafana,
    /// GitHub's webhooks; the secret signs.
    Github,
    /// Any JSON, by a mapping of its own.
    Json,
    /// Bounces of emails (RFC 3464), under the name `dsn` alone; it has a secret and nothing else.
    Dsn,
}

impl SourceKind {
    const ALL: [Self; 5] = [
        Self::Alertmanager,
        Self::Grafana,
        Self::Github,
        Self::Json,
        Self::Dsn,
    ];

    /// As written in requests and stores.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Grafana => "grafana",
            Self::Github => "github",
            Self::Json => "json",
            Self::Dsn => "dsn",
        }
    }

    /// The mapping of a tool that is known.
    pub(super) const fn mapping(self) -> Option<&'static str> {
        match self {
            Self::Alertmanager => Some(include_str!("kinds/alertmanager.json")),
            Self::Grafana => Some(include_str!("kinds/grafana.json")),
            Self::Github => Some(include_str!("kinds/github.json")),
            Self::Json | Self::Dsn => None,
        }
    }

    /// Whether its secret signs bodies, and is no token.
    pub(crate) const fn signs(self) -> bool {
        matches!(self, Self::Github)
    }
}

impl FromStr for SourceKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(Invalid("a kind is alertmanager, grafana, github, json or dsn"))
    }
}
