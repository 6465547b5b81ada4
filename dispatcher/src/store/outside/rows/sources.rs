//! What an attempt brings: the contents, templates, events, endpoints and secrets of a batch.

use std::{collections::HashSet, sync::Arc};

use carillon_domain::{ChannelKind, EndpointId, Priority, TenantId};
use carillon_sql::StoreError;

use crate::store::{
    outside::records::{
        Brings, EndpointSource, EventSource, LeasedDelivery, NotificationSource, SealedSecret, Sources,
        StoredTemplate,
    },
    rows::word,
};

/// Tenant, id, category, priority, collapse key, content, template, version, data.
pub(in crate::store) type NotificationSourceColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<i64>,
    Option<String>,
);

/// Tenant, name, version, default locale, locales.
pub(in crate::store) type TemplateColumns = (String, String, i64, String, String);

/// Tenant, id, kind, body.
pub(in crate::store) type EventColumns = (String, String, String, String);

/// Tenant, id, url.
pub(in crate::store) type EndpointColumns = (String, String, String);

/// Tenant, endpoint, id, sealed; newest first.
pub(in crate::store) type SecretColumns = (String, String, String, String);

impl Sources {
    pub(in crate::store) fn add_notification(
        &mut self,
        row: NotificationSourceColumns,
    ) -> Result<(), StoreError> {
        let (tenant, id, category, priority, collapse, content, template, version, data) = row;
        let source = NotificationSource {
            category: word(&category)?,
            priority: match priority.as_str() {
                "low" => Priority::Low,
                "high" => Priority::High,
                _ => Priority::Normal,
            },
            collapse_key: collapse.as_deref().map(word).transpose()?,
            content: serde_json::from_str(&content).ok().map(Arc::new),
            template: template.zip(version),
            data,
        };
        self.notifications
            .insert((word(&tenant)?, word(&id)?), Arc::new(source));
        Ok(())
    }

    /// Tenant, digest, member.
    pub(in crate::store) fn add_over(&mut self, row: (String, String, String)) -> Result<(), StoreError> {
        let (tenant, digest, member) = row;
        let over = self.over.entry((word(&tenant)?, word(&digest)?)).or_default();
        over.insert(word(&member)?);
        Ok(())
    }

    /// The templates that the notifications name.
    pub(in crate::store) fn template_keys(&self) -> Vec<(&str, &str, i64)> {
        let mut keys: Vec<_> = self
            .notifications
            .iter()
            .filter_map(|((tenant, _), source)| {
                let (name, version) = source.template.as_ref()?;
                Some((tenant.as_str(), name.as_str(), *version))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(in crate::store) fn add_template(&mut self, row: TemplateColumns) -> Result<(), StoreError> {
        let (tenant, name, version, default_locale, locales) = row;
        let template = StoredTemplate {
            default_locale,
            locales: serde_json::from_str(&locales).ok(),
        };
        self.templates
            .insert((word(&tenant)?, name, version), Arc::new(template));
        Ok(())
    }

    pub(in crate::store) fn add_event(&mut self, row: EventColumns) -> Result<(), StoreError> {
        let (tenant, id, kind, body) = row;
        let event = EventSource {
            kind: Arc::from(kind),
            body: Arc::from(body),
        };
        self.events.insert((word(&tenant)?, word(&id)?), event);
        Ok(())
    }

    pub(in crate::store) fn add_endpoint(&mut self, row: EndpointColumns) -> Result<(), StoreError> {
        let (tenant, id, url) = row;
        self.endpoints
            .insert((word(&tenant)?, id), EndpointSource { url });
        Ok(())
    }

    pub(in crate::store) fn add_secret(&mut self, row: SecretColumns) -> Result<(), StoreError> {
        let (tenant, endpoint, id, sealed) = row;
        self.secrets
            .entry((word(&tenant)?, endpoint))
            .or_default()
            .push(SealedSecret { id, sealed });
        Ok(())
    }
}

/// What of leased deliveries must be read: notifications, events, and whose secrets sign.
pub(in crate::store) struct Wanted {
    pub(in crate::store) notifications: Vec<(TenantId, String)>,
    pub(in crate::store) events: Vec<(TenantId, String)>,
    pub(in crate::store) endpoints: Vec<(TenantId, String)>,
}

impl Wanted {
    pub(in crate::store) fn of(deliveries: &[Arc<LeasedDelivery>]) -> Self {
        let mut notifications = HashSet::new();
        let mut events = HashSet::new();
        let mut endpoints = HashSet::new();
        for delivery in deliveries {
            let tenant = delivery.key.tenant.clone();
            match delivery.brings {
                Brings::Notification(id) => notifications.insert((tenant.clone(), id)),
                Brings::Event(id) => events.insert((tenant.clone(), id)),
            };
            if delivery.key.channel.as_str() == ChannelKind::WEBHOOK {
                // A plain URL is signed by the tenant's own key, which is kept under the empty name.
                let address = delivery.address.as_str();
                let is_registered = address.parse::<EndpointId>().is_ok();
                endpoints.insert((tenant, if is_registered { address } else { "" }));
            }
        }
        Self {
            notifications: notifications
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_string()))
                .collect(),
            events: events
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_string()))
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|(tenant, id)| (tenant, id.to_owned()))
                .collect(),
        }
    }
}
