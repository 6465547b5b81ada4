//! Who hears that an endpoint is told nothing any more. Pure: rows in, rows out.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Category, Content, EndpointId, ExternalUserId, NotificationId, Priority, Target, TenantId, Timestamp,
};
use carillon_sql::StoreError;
use serde::Serialize;
use serde_json::json;

use super::decide::Effects;
use crate::{
    events::EventKind,
    store::{
        ledger::encode,
        listeners::{Listeners, Told},
        records::NewNotification,
        rows::word,
    },
};

/// The category of what is said of endpoints, and the topic of those who want to hear it of the tenant's own.
const ENDPOINTS: &str = "carillon.endpoints";

#[derive(Serialize)]
struct EndpointEnd<'a> {
    endpoint_id: EndpointId,
    reason: &'a str,
}

/// Tells the tenant's other endpoints.
pub(in crate::store) fn tell_disabled(
    told: &mut Told,
    now: Timestamp,
    listeners: &Listeners,
    endpoint: (&TenantId, EndpointId),
    reason: &str,
) {
    let (tenant, endpoint_id) = endpoint;
    let data = EndpointEnd { endpoint_id, reason };
    let kind = EventKind::EndpointDisabled;
    listeners.tell(told, now, tenant, kind, &data, Some(endpoint_id));
}

/// Notifications of endpoints that nobody disabled by hand, so that a tenant with one alone hears of it too: of a user's own
/// to him, of the others to the topic's subscribers.
pub(in crate::store) fn disabled_notices(
    now: Timestamp,
    ttl: Duration,
    effects: &Effects,
) -> Result<Vec<(TenantId, NewNotification)>, StoreError> {
    let notice = |((tenant, endpoint), reason): (&(TenantId, EndpointId), &String)| {
        let owner = effects.owners.get(&(tenant.clone(), *endpoint));
        Ok((tenant.clone(), notice(now, ttl, *endpoint, reason, owner)?))
    };
    effects.disabled.iter().map(notice).collect()
}

fn notice(
    now: Timestamp,
    ttl: Duration,
    endpoint: EndpointId,
    reason: &str,
    owner: Option<&ExternalUserId>,
) -> Result<NewNotification, StoreError> {
    let target = match owner {
        Some(user) => Target::User(user.clone()),
        None => Target::Topic(word(ENDPOINTS)?),
    };
    let data = json!({"endpoint_id": endpoint, "reason": reason});
    let content = Content {
        title: "A webhook endpoint was disabled".to_owned(),
        body: Some(format!(
            "{endpoint}: {reason}\nWhat waited for it is a dead letter, and it is told nothing more until it is enabled."
        )),
        url: None,
        icon: None,
        actions: Vec::new(),
        data: data.as_object().cloned(),
    };
    let category: Category = word(ENDPOINTS)?;
    Ok(NewNotification {
        id: NotificationId::at(now),
        category,
        priority: Priority::High,
        collapse_key: Some(word(&endpoint.to_string())?),
        digest_key: None,
        content: Arc::from(encode(&content)?),
        targets: Arc::from(encode(&[target])?),
        channels: None,
        template: None,
        plan: None,
        critical: false,
        created_at: now,
        send_at: now,
        expires_at: now.after(ttl),
    })
}
