//! What a page of recipients ends with. Pure: rows in, rows out.

use std::collections::BTreeSet;

use carillon_domain::{NotificationId, TenantId, UserId};
use carillon_sql::StoreError;

use super::{ANSWERED, Answered, CANCELLED, WithdrawalKind};
use crate::store::{
    apply,
    ladder::RecipientKey,
    ledger::Ledger,
    records::{EntryRow, RecipientEnd, RecipientState},
    rows::{corrupt, word},
};

/// How recipients end.
#[derive(Debug, Clone)]
pub(in crate::store) enum Ending {
    /// All of them: their sender took it back.
    Cancelled,
    /// Those who did not answer, the completed ones among them: somebody answered for them.
    Answered(Answered),
}

impl Ending {
    /// As a withdrawal's row and its notification say.
    pub(in crate::store) fn stored(kind: &str, answered: Option<&str>) -> Result<Self, StoreError> {
        match (WithdrawalKind::from_stored(kind), answered) {
            (Some(WithdrawalKind::Cancelled), _) => Ok(Self::Cancelled),
            (Some(WithdrawalKind::Answered), Some(answered)) => {
                Ok(Self::Answered(Answered::stored(answered)?))
            }
            _ => Err(corrupt("a withdrawal", kind)),
        }
    }

    /// Whether a recipient in this state ends with it.
    const fn ends(&self, state: RecipientState) -> bool {
        match self {
            Self::Cancelled => matches!(state, RecipientState::Open),
            Self::Answered(_) => matches!(state, RecipientState::Open | RecipientState::Completed),
        }
    }

    /// What is said of deliveries that are not sent.
    pub(in crate::store) const fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => CANCELLED,
            Self::Answered(_) => ANSWERED,
        }
    }
}

/// A recipient of a page.
#[derive(Debug, Clone)]
pub(in crate::store) struct PageRow {
    pub(in crate::store) user: UserId,
    pub(in crate::store) state: RecipientState,
    /// Whether it is, or was, in his inbox.
    pub(in crate::store) in_app: bool,
}

/// From their user, state and entry.
pub(in crate::store) fn page_rows(
    rows: Vec<(String, String, Option<String>)>,
) -> Result<Vec<PageRow>, StoreError> {
    rows.into_iter()
        .map(|(user, state, entry)| {
            Ok(PageRow {
                user: word(&user)?,
                state: RecipientState::from_stored(&state)
                    .ok_or_else(|| corrupt("a recipient's state", &state))?,
                in_app: entry.is_some(),
            })
        })
        .collect()
}

/// Whose deliveries end: of a cancelled notification everybody's, since what was answered is taken back as well.
pub(in crate::store) fn keys_of(
    tenant: &TenantId,
    id: NotificationId,
    ending: &Ending,
    rows: &[PageRow],
) -> Vec<RecipientKey> {
    rows.iter()
        .filter(|row| matches!(ending, Ending::Cancelled) || ending.ends(row.state))
        .map(|row| (tenant.clone(), id, row.user))
        .collect()
}

/// Ends them, with the entries that show the notification to them. Answers how many entries were taken back.
pub(in crate::store) fn end_recipients(
    ledger: &mut Ledger,
    tenant: &TenantId,
    id: NotificationId,
    ending: &Ending,
    rows: &[PageRow],
    entries: Vec<EntryRow>,
) -> Result<u64, StoreError> {
    let ends = |user: UserId| rows.iter().any(|row| row.user == user && ending.ends(row.state));
    let recalled = match ending {
        Ending::Cancelled => apply::recall(ledger, entries)?,
        Ending::Answered(answered) => {
            let entries = entries.into_iter().filter(|entry| ends(entry.user)).collect();
            apply::answered(ledger, entries, &answered.for_others())?;
            0
        }
    };
    for row in rows.iter().filter(|row| ending.ends(row.state)) {
        let (state, acknowledgement) = match ending {
            Ending::Cancelled => (RecipientState::Cancelled, None),
            Ending::Answered(answered) => (RecipientState::Acknowledged, Some(answered.for_others())),
        };
        let key = (tenant.clone(), id, row.user);
        ledger.end_recipient(&key, state, Some(ending.reason()), acknowledgement);
    }
    Ok(recalled)
}

/// The recipients that ended, each once.
pub(in crate::store) fn ended_keys(ends: &[RecipientEnd]) -> Vec<RecipientKey> {
    let keys: BTreeSet<RecipientKey> = ends
        .iter()
        .map(|end| (end.tenant.clone(), end.notification, end.user))
        .collect();
    keys.into_iter().collect()
}

/// The first answer to each notification where one is enough.
pub(in crate::store) fn first_answers<'a>(
    ends: &'a [RecipientEnd],
    enough: &BTreeSet<(TenantId, NotificationId)>,
) -> Vec<(&'a RecipientEnd, Answered)> {
    let mut left = enough.clone();
    ends.iter()
        .filter_map(|end| {
            let acknowledgement = end.acknowledgement.clone()?;
            let first = left.remove(&(end.tenant.clone(), end.notification));
            first.then_some((
                end,
                Answered {
                    user: Some(end.user),
                    acknowledgement,
                },
            ))
        })
        .collect()
}
