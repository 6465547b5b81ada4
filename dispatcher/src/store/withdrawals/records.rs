use std::collections::HashMap;

use carillon_domain::{Acknowledgement, ChannelKind, NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

use crate::store::rows::json;

/// Channels that can take back what they delivered, by tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recallable(HashMap<TenantId, Vec<ChannelKind>>);

impl Recallable {
    /// Those of one tenant.
    pub(crate) fn of(tenant: &TenantId, channels: Vec<ChannelKind>) -> Self {
        Self(HashMap::from([(tenant.clone(), channels)]))
    }

    /// Adds those of another tenant.
    pub(crate) fn insert(&mut self, tenant: TenantId, channels: Vec<ChannelKind>) {
        self.0.insert(tenant, channels);
    }

    /// Those of a tenant, where it was asked about him.
    pub(crate) fn channels(&self, tenant: &TenantId) -> Option<&[ChannelKind]> {
        self.0.get(tenant).map(Vec::as_slice)
    }

    /// Whether a tenant's channel can.
    pub(crate) fn can(&self, tenant: &TenantId, channel: &ChannelKind) -> bool {
        self.channels(tenant)
            .is_some_and(|channels| channels.contains(channel))
    }
}

/// Why a notification ends for all of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WithdrawalKind {
    /// Its sender took it back.
    Cancelled,
    /// One of them answered, and one answer was enough.
    Answered,
}

impl WithdrawalKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Answered => "answered",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        [Self::Cancelled, Self::Answered]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Who answered for all, as `notifications.answered` holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Answered {
    /// None once he was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserId>,
    pub(crate) acknowledgement: Acknowledgement,
}

impl Answered {
    /// What the other recipients' acknowledgement says: the same, by him.
    pub(crate) fn for_others(&self) -> Acknowledgement {
        Acknowledgement {
            by: self.user,
            device: None,
            ..self.acknowledgement.clone()
        }
    }

    pub(in crate::store) fn stored(text: &str) -> Result<Self, StoreError> {
        json(text)
    }
}

/// The part of a notification's plan that says whose answer counts for whom.
#[derive(serde::Deserialize)]
pub(in crate::store) struct AnswersOf<'a> {
    #[serde(default, borrow)]
    acknowledged_by: Option<&'a str>,
}

impl AnswersOf<'_> {
    /// Whether one answer is enough for a plan.
    pub(in crate::store) fn is_any(plan: Option<&str>) -> bool {
        plan.and_then(|plan| serde_json::from_str::<AnswersOf<'_>>(plan).ok())
            .is_some_and(|plan| plan.acknowledged_by == Some("any"))
    }
}

/// A withdrawal that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithdrawalLease {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    /// Fences: only the last one handed out may go on.
    pub(crate) token: i64,
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithdrawnPage {
    /// So many recipients were looked at, and there are more.
    More(usize),
    /// So many, and they were the last.
    Done(usize),
    /// Somebody else has it, or it is over.
    Stale,
}

/// How far a notification's withdrawal is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WithdrawalDetail {
    /// The one that runs, and since when.
    pub(crate) running: Option<(WithdrawalKind, Timestamp)>,
    /// Who answered for all.
    pub(crate) answered: Option<Answered>,
    /// Recipients for whom it is not over; counted only while a withdrawal runs.
    pub(crate) open: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_enough_only_where_the_plan_says_so() {
        assert!(AnswersOf::is_any(Some(r#"{"acknowledged_by":"any","steps":[]}"#)));
        assert!(!AnswersOf::is_any(Some(
            r#"{"acknowledged_by":"each","steps":[]}"#
        )));
        assert!(!AnswersOf::is_any(Some(r#"{"steps":[]}"#)));
        assert!(!AnswersOf::is_any(Some("broken")));
        assert!(!AnswersOf::is_any(None));
    }
}
