//! Somebody answered.

use serde::{Deserialize, Serialize};

use crate::{DeviceName, Timestamp, UserId};

/// How somebody answered. Any of them clears the entry everywhere and ends the ladder. `delivered` and `seen` are
/// receipts, not acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckKind {
    /// Read.
    Read,
    /// Put away unread: archived or deleted.
    Dismissed,
    /// An action was taken.
    Acted,
}

impl AckKind {
    /// As written in answers and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Dismissed => "dismissed",
            Self::Acted => "acted",
        }
    }

    /// From [`Self::as_str`].
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Read, Self::Dismissed, Self::Acted]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// The acknowledgement of one notification by one user: the first one counts, and nothing undoes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acknowledgement {
    /// How.
    pub kind: AckKind,
    /// When.
    pub at: Timestamp,
    /// On which device, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    /// Which action, when `acted` named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Who answered instead, where one recipient's answer was enough for all: the internal id, as `GET /v1/users/{id}`
    /// shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
}
