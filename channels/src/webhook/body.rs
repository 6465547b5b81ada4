//! What a webhook says.

use bytes::Bytes;
use carillon_domain::{
    Category, CollapseKey, Content, DeliveryId, ExternalUserId, NotificationId, Priority, Timestamp,
    ports::{Message, NotificationMessage, Work},
};
use serde::Serialize;

/// The kind of a notification's webhook.
const NOTIFICATION: &str = "notification.created";
/// What most bodies fit in.
const USUAL: usize = 1_024;

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    notification_id: NotificationId,
    delivery_id: DeliveryId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a ExternalUserId>,
    category: &'a Category,
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a CollapseKey>,
    content: &'a Content,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// The JSON body. The same bytes in every attempt: nothing in it depends on when it is sent.
pub(super) fn body(work: &Work) -> Result<Bytes, serde_json::Error> {
    match &work.message {
        Message::Event { body, .. } => Ok(Bytes::copy_from_slice(body.as_bytes())),
        Message::Notification(message) => notification(work, message),
    }
}

fn notification(work: &Work, message: &NotificationMessage) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::with_capacity(USUAL);
    serde_json::to_writer(
        &mut out,
        &Envelope {
            r#type: NOTIFICATION,
            timestamp: work.created_at,
            data: Data {
                notification_id: message.notification,
                delivery_id: work.delivery,
                user: message.user.as_ref(),
                category: &message.category,
                priority: message.priority,
                collapse_key: message.collapse_key.as_ref(),
                content: &message.content,
                created_at: work.created_at,
                expires_at: work.expires_at,
            },
        },
    )?;
    Ok(out.into())
}
