use carillon_domain::{
    Address, DeliveryId, Timestamp,
    ports::{Forms, Message},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::lease_text;
use crate::{remote::Handing, store::outside::FormName};

/// One delivery to make.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkItem {
    /// Whose.
    #[schema(value_type = String)]
    tenant: carillon_domain::TenantId,
    /// The delivery: the same in every attempt, so that a repeat can be known.
    delivery: DeliveryId,
    /// Goes back with the outcome.
    lease: String,
    /// When the work goes to somebody else, unless it is answered or extended before.
    lease_until: Timestamp,
    /// `deliver`, `replace` or `recall`.
    operation: &'static str,
    /// Which attempt, from 1.
    attempt: u32,
    #[schema(value_type = String)]
    address: Address,
    /// The far end's id of what is replaced or recalled.
    #[schema(required)]
    provider_id: Option<String>,
    message: MessageBody,
    created_at: Timestamp,
    /// After this it is not to be sent any more.
    expires_at: Timestamp,
}

/// What it says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum MessageBody {
    /// A notification for a person.
    Notification(Box<NotificationBody>),
    /// An event for a program.
    Event {
        /// For example `delivery.dead`.
        kind: String,
        /// The event.
        #[schema(value_type = Object)]
        body: Box<RawValue>,
    },
}

/// A notification as the recipient gets it, in his language.
#[derive(Debug, Serialize, ToSchema)]
struct NotificationBody {
    notification: carillon_domain::NotificationId,
    #[schema(value_type = String)]
    category: carillon_domain::Category,
    /// `low`, `normal` or `high`.
    #[schema(value_type = String)]
    priority: carillon_domain::Priority,
    #[schema(required, value_type = Option<String>)]
    collapse_key: Option<carillon_domain::CollapseKey>,
    content: carillon_domain::Content,
    /// What its template's forms gave, as far as the channel wants them.
    forms: FormsBody,
    #[schema(required)]
    locale: Option<String>,
    /// Nobody for a plain address.
    #[schema(required, value_type = Option<String>)]
    user: Option<carillon_domain::ExternalUserId>,
    /// Where one click turns this category and channel off for the recipient.
    #[schema(required)]
    unsubscribe: Option<String>,
    /// Where the recipient chooses what he gets, without signing in.
    #[schema(required)]
    preferences: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct FormsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<String>,
}

impl FormsBody {
    fn of(forms: Forms, wanted: Option<&[FormName]>) -> Self {
        let wants = |form| wanted.is_none_or(|wanted| wanted.contains(&form));
        Self {
            subject: forms.subject.filter(|_| wants(FormName::Subject)),
            text: forms.text.filter(|_| wants(FormName::Text)),
            html: forms.html.filter(|_| wants(FormName::Html)),
            short: forms.short.filter(|_| wants(FormName::Short)),
        }
    }
}

impl WorkItem {
    pub(super) fn of(handing: Handing, forms: Option<&[FormName]>) -> Self {
        let work = handing.work;
        let message = match work.message {
            Message::Notification(message) => {
                let message = *message;
                MessageBody::Notification(Box::new(NotificationBody {
                    notification: message.notification,
                    category: message.category,
                    priority: message.priority,
                    collapse_key: message.collapse_key,
                    content: (*message.content).clone(),
                    forms: FormsBody::of(message.forms, forms),
                    locale: message.locale.as_deref().map(str::to_owned),
                    user: message.user,
                    unsubscribe: message.unsubscribe,
                    preferences: message.preferences,
                }))
            }
            Message::Event { kind, body } => MessageBody::Event {
                kind: kind.to_string(),
                // Ours, so it is JSON.
                body: RawValue::from_string(body.to_string()).unwrap_or_default(),
            },
        };
        Self {
            lease: lease_text(handing.number, &work.tenant),
            tenant: work.tenant,
            delivery: work.delivery,
            lease_until: handing.until,
            operation: work.operation.as_str(),
            attempt: work.attempt,
            address: work.address,
            provider_id: work.provider_id,
            message,
            created_at: work.created_at,
            expires_at: work.expires_at,
        }
    }
}
