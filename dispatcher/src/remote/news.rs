//! News from the far end: receipts of what was delivered, and what addresses do.

use std::{borrow::Cow, collections::HashMap};

use carillon_domain::{Address, ChannelKind, DeliveryId, ExternalUserId, NotificationId, TenantId, UserId};

use super::{Remote, RemoteError};
use crate::{
    deliverer::settlement::{after_ends, kept},
    mailboxes::MailboxError,
    reach::FADING,
    store::{
        EntryAction, MailboxCommand, Operation, Which,
        outside::{About, News, Says, SuppressionRow},
    },
};

/// A receipt of one delivery.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) tenant: TenantId,
    pub(crate) about: About,
    pub(crate) kind: ReceiptKind,
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) enum ReceiptKind {
    /// It arrived.
    Delivered,
    /// It was on a screen.
    Seen,
    /// The person read it.
    Read,
    /// The person followed its link.
    Clicked,
    /// The person put it away.
    Dismissed,
    /// The person did something about it: which button.
    Acted(Option<String>),
    /// It will never arrive, and why.
    Failed(String),
}

/// What an address does.
#[derive(Debug, Clone)]
pub(crate) enum InboundEvent {
    /// It is dead.
    Gone {
        tenant: TenantId,
        address: Address,
        reason: String,
    },
    /// It answered what was delivered: somebody read it.
    Answered(Receipt),
    /// Nothing that concerns anything here.
    Ignored,
}

/// Acknowledgements by user.
type Acks = HashMap<(TenantId, UserId), Told>;

/// One user's acknowledgements.
#[derive(Default)]
struct Told {
    name: Option<ExternalUserId>,
    /// What he answered to: what it shows is not taken back.
    answering: Vec<DeliveryId>,
    actions: Vec<(NotificationId, EntryAction)>,
}

/// Why receipts were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewsError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

impl Remote {
    /// Takes receipts in; what acknowledges goes through the mailboxes. Answers which ones are of a delivery that there is.
    pub(crate) async fn receive(
        &self,
        kind: &ChannelKind,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<bool>, NewsError> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let news: Vec<News> = receipts
            .iter()
            .map(|receipt| News {
                tenant: receipt.tenant.clone(),
                about: receipt.about.clone(),
                says: match &receipt.kind {
                    ReceiptKind::Delivered => Says::Delivered,
                    ReceiptKind::Seen => Says::Seen,
                    ReceiptKind::Read => Says::Read,
                    ReceiptKind::Clicked => Says::Clicked,
                    ReceiptKind::Dismissed => Says::Dismissed,
                    ReceiptKind::Acted(_) => Says::Acted,
                    ReceiptKind::Failed(reason) => Says::Failed(kept(reason.clone())),
                },
            })
            .collect();
        let now = self.clock.now();
        let received = self
            .store
            .receive_news(now, kind, &news)
            .await
            .map_err(RemoteError::from)?;
        after_ends(&*self.directory, &received.ended).await;
        if !received.ended.is_empty() {
            // Endpoints may be told.
            self.wake.wake();
        }
        let back: Vec<(TenantId, DeliveryId)> = receipts
            .iter()
            .filter(|_| self.probed.contains(kind))
            .zip(&received.noted)
            .filter(|(receipt, _)| !matches!(receipt.kind, ReceiptKind::Failed(_)))
            .filter_map(|(receipt, noted)| Some((receipt.tenant.clone(), noted.as_ref()?.id)))
            .collect();
        self.store
            .came_back(now, &back, FADING)
            .await
            .map_err(RemoteError::from)?;
        let mut acks = Acks::new();
        let mut known = Vec::with_capacity(receipts.len());
        for (receipt, noted) in receipts.into_iter().zip(received.noted) {
            known.push(noted.is_some());
            let Some(noted) = noted else {
                continue;
            };
            let (Some(user), Some(notification)) = (noted.user, noted.notification) else {
                continue;
            };
            let action = match receipt.kind {
                ReceiptKind::Delivered | ReceiptKind::Failed(_) => continue,
                ReceiptKind::Seen => EntryAction::Seen,
                ReceiptKind::Read => EntryAction::Read,
                ReceiptKind::Clicked => EntryAction::Clicked,
                ReceiptKind::Dismissed => EntryAction::Archive,
                ReceiptKind::Acted(action) => EntryAction::Acted { action },
            };
            let told = acks.entry((receipt.tenant, user)).or_default();
            told.name = noted.name;
            told.answering.push(noted.id);
            told.actions.push((notification, action));
        }
        for ((tenant, user), told) in acks {
            self.mailboxes
                .submit(MailboxCommand {
                    tenant,
                    user,
                    name: told.name,
                    device: None,
                    answering: told.answering,
                    channel: Some(kind.clone()),
                    operations: told
                        .actions
                        .into_iter()
                        .map(|(id, action)| Operation::Entry(Which::Notification(id), action))
                        .collect(),
                })
                .await?;
        }
        Ok(known)
    }

    /// An address is not used again.
    pub(crate) async fn gone(
        &self,
        tenant: &TenantId,
        kind: &ChannelKind,
        address: &Address,
        reason: String,
    ) -> Result<(), RemoteError> {
        let reason = kept(reason);
        self.store
            .suppress(&SuppressionRow {
                tenant: tenant.clone(),
                channel: kind.clone(),
                address: address.clone(),
                reason: Cow::Borrowed("gone"),
                detail: Some(reason.clone()),
                delivery: None,
                at: self.clock.now(),
            })
            .await?;
        Ok(self.directory.retire(tenant, kind, address, &reason).await?)
    }
}
