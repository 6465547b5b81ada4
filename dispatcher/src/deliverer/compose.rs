//! What an attempt sends: a leased delivery and what was read for it become a channel's work.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

use carillon_domain::{
    ExternalUserId, TenantId, UserId,
    ports::{
        Directory, Forms, Message, NotificationMessage, Rendered, Seal, SigningKey, TemplateSource,
        Templates, Unavailable, Work,
    },
};

use tokio::sync::Semaphore;

use crate::store::outside::{
    Brings, LeasedDelivery, NotificationSource, SealedSecret, Sources, StoredTemplate,
};
use crate::{
    digests::leave_out_over, links::SignedLinks, store::catalog::OptOut, templates::OwnValues,
    verification::SealedCode,
};

/// Why no work could be made of a delivery. Each is for the delivery's reason, and none passes by waiting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    #[error("what it brings is gone")]
    Gone,
    #[error("its endpoint is gone")]
    NoEndpoint,
    #[error("its content cannot be read")]
    Unreadable,
    #[error("its template cannot be rendered: {0}")]
    Template(String),
    #[error("its signing key cannot be opened")]
    Secret,
}

/// Makes work.
#[derive(Clone)]
pub(crate) struct Composer {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) templates: Option<Arc<dyn Templates>>,
    pub(crate) seal: Option<Arc<dyn Seal>>,
    pub(crate) links: Option<SignedLinks>,
    /// Templates that render at the same time.
    pub(crate) rendering: Arc<Semaphore>,
}

/// Templates that one node renders at the same time for attempts.
pub(crate) const RENDERING: usize = 4;

/// Users' own names.
type Names = HashMap<(TenantId, UserId), ExternalUserId>;

/// What a batch's work is made of, each part read once.
pub(crate) struct Parts {
    sources: Sources,
    names: Names,
    /// What signs, by endpoint as in [`Sources::secrets`]; none where it cannot be opened.
    keys: HashMap<(TenantId, String), Option<Vec<SigningKey>>>,
}

impl Composer {
    /// Everything that the work of these deliveries is made of.
    pub(crate) async fn parts(
        &self,
        deliveries: &[Arc<LeasedDelivery>],
        mut sources: Sources,
    ) -> Result<Parts, Unavailable> {
        leave_out_over(&mut sources);
        let keys = sources
            .secrets
            .iter()
            .map(|(owner, secrets)| {
                let opened = secrets.iter().map(|secret| self.opened(owner, secret).ok());
                (owner.clone(), opened.collect())
            })
            .collect();
        Ok(Parts {
            names: self.names(deliveries).await?,
            sources,
            keys,
        })
    }

    /// The names of those whom the deliveries are for; plain addresses and erased users have none.
    async fn names(&self, deliveries: &[Arc<LeasedDelivery>]) -> Result<Names, Unavailable> {
        let mut users: BTreeMap<TenantId, Vec<UserId>> = BTreeMap::new();
        for delivery in deliveries {
            if let Some(user) = delivery.user {
                users.entry(delivery.key.tenant.clone()).or_default().push(user);
            }
        }
        let mut names = Names::new();
        for (tenant, mut users) in users {
            users.sort_unstable();
            users.dedup();
            let found = self.directory.names(&tenant, &users).await?;
            for (user, name) in users.into_iter().zip(found) {
                if let Some(name) = name {
                    names.insert((tenant.clone(), user), name);
                }
            }
        }
        Ok(names)
    }

    /// The work of one attempt. A template renders on a thread of its own, a few at a time: however long it takes, nobody
    /// else's deliveries wait for it.
    pub(crate) async fn made(
        &self,
        delivery: Arc<LeasedDelivery>,
        parts: Arc<Parts>,
    ) -> Result<Work, ComposeError> {
        let renders = match delivery.brings {
            Brings::Event(_) => false,
            Brings::Notification(id) => {
                let source = parts
                    .sources
                    .notifications
                    .get(&(delivery.key.tenant.clone(), id));
                source.is_some_and(|source| source.template.is_some())
            }
        };
        if !renders {
            return self.work(&delivery, &parts);
        }
        let permit = Arc::clone(&self.rendering).acquire_owned().await;
        let composer = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            // Held until it is done, whether anybody still waits for it or not.
            let _permit = permit;
            composer.work(&delivery, &parts)
        });
        made.await
            .unwrap_or_else(|_| Err(ComposeError::Template("it failed".to_owned())))
    }

    /// The work of one attempt.
    fn work(&self, delivery: &LeasedDelivery, parts: &Parts) -> Result<Work, ComposeError> {
        let Parts { sources, names, .. } = parts;
        let tenant = &delivery.key.tenant;
        let message = match delivery.brings {
            Brings::Event(id) => {
                let event = sources
                    .events
                    .get(&(tenant.clone(), id))
                    .ok_or(ComposeError::Gone)?;
                Message::Event {
                    kind: Arc::clone(&event.kind),
                    body: Arc::clone(&event.body),
                }
            }
            Brings::Notification(id) => {
                let source = sources
                    .notifications
                    .get(&(tenant.clone(), id))
                    .ok_or(ComposeError::Gone)?;
                let unsubscribe = self.unsubscribe(delivery, source);
                let preferences = self.preferences(delivery, source);
                let own = OwnValues {
                    unsubscribe: unsubscribe.as_deref(),
                    preferences: preferences.as_deref(),
                };
                let Rendered { content, forms } = self.said(delivery, source, sources, own)?;
                let name = |user| names.get(&(tenant.clone(), user)).cloned();
                Message::Notification(Box::new(NotificationMessage {
                    notification: id,
                    category: source.category.clone(),
                    priority: source.priority,
                    collapse_key: source.collapse_key.clone(),
                    content,
                    forms,
                    locale: delivery.locale.clone(),
                    user: delivery.user.and_then(name),
                    unsubscribe,
                    preferences,
                }))
            }
        };
        let (address, keys) = far_end(delivery, parts)?;
        let id = delivery.id;
        #[cfg(feature = "planted-bugs")]
        let id = if crate::planted::is(crate::planted::ID_PER_ATTEMPT) {
            carillon_domain::DeliveryId::at(delivery.created_at)
        } else {
            id
        };
        Ok(Work {
            tenant: tenant.clone(),
            delivery: id,
            attempt: delivery.number(),
            operation: delivery.operation,
            address,
            provider_id: delivery.provider_id.clone(),
            message,
            created_at: delivery.created_at,
            expires_at: delivery.expires_at,
            keys,
        })
    }

    /// Where the recipient turns off what he gets here.
    fn unsubscribe(&self, delivery: &LeasedDelivery, source: &NotificationSource) -> Option<String> {
        // Nobody turns off what he asks for himself.
        if source.category.as_str() == crate::verification::NAME {
            return None;
        }
        self.links.as_ref()?.unsubscribe(&OptOut {
            tenant: delivery.key.tenant.clone(),
            user: delivery.user?,
            category: source.category.clone(),
            channel: delivery.key.channel.clone(),
        })
    }

    /// Where the recipient chooses what he gets.
    fn preferences(&self, delivery: &LeasedDelivery, source: &NotificationSource) -> Option<String> {
        if source.category.as_str() == crate::verification::NAME {
            return None;
        }
        self.links
            .as_ref()?
            .preferences(&delivery.key.tenant, delivery.user?)
    }

    /// Content and forms: the template's in the recipient's language, or as it came.
    fn said(
        &self,
        delivery: &LeasedDelivery,
        source: &NotificationSource,
        sources: &Sources,
        own: OwnValues<'_>,
    ) -> Result<Rendered, ComposeError> {
        if let Some((name, version)) = &source.template
            && let Some(code) = SealedCode::read(name, source.data.as_deref())
            && let Brings::Notification(id) = delivery.brings
        {
            let tenant = &delivery.key.tenant;
            let seal = self.seal.as_deref().ok_or(ComposeError::Secret)?;
            // Version 0 is built in.
            let own = sources.templates.get(&(tenant.clone(), name.clone(), *version));
            let form = own
                .map(|stored| localized(stored, code.locale.as_deref()))
                .transpose()?;
            return code.said(seal, tenant, id, self.templates.as_deref().zip(form));
        }
        if let (Some((name, version)), Some(templates)) = (&source.template, &self.templates) {
            let key = (delivery.key.tenant.clone(), name.clone(), *version);
            let stored = sources.templates.get(&key).ok_or(ComposeError::Gone)?;
            let data = source.data.as_deref().unwrap_or("{}");
            let data = serde_json::from_str(data).map_err(|_| ComposeError::Unreadable)?;
            let data = own.beside(data);
            let own = templates.render(localized(stored, delivery.locale.as_deref())?, &data);
            // As in the inbox: where the recipient's language fails, he gets the default's, which acceptance rendered.
            return own
                .or_else(|fault| match localized(stored, None) {
                    Ok(form) if delivery.locale.is_some() => templates.render(form, &data),
                    _ => Err(fault),
                })
                .map_err(|fault| ComposeError::Template(fault.to_string()));
        }
        let content = source.content.as_ref().ok_or(ComposeError::Unreadable)?;
        Ok(Rendered {
            content: Arc::clone(content),
            forms: Forms::default(),
        })
    }

    fn opened(
        &self,
        (tenant, endpoint): &(TenantId, String),
        secret: &SealedSecret,
    ) -> Result<SigningKey, ComposeError> {
        let seal = self.seal.as_ref().ok_or(ComposeError::Secret)?;
        let place = secret_place(tenant, endpoint, &secret.id);
        let text = seal
            .open(&place, &secret.sealed)
            .map_err(|_| ComposeError::Secret)?;
        let text = String::from_utf8(text).map_err(|_| ComposeError::Secret)?;
        Ok(SigningKey::new(text))
    }
}

/// Where it goes: a registered endpoint's URL, else its own address; and what signs for it.
fn far_end(
    delivery: &LeasedDelivery,
    parts: &Parts,
) -> Result<(carillon_domain::Address, Vec<SigningKey>), ComposeError> {
    let text = delivery.address.as_str();
    let registered = delivery.endpoint().is_some();
    let name = if registered { text } else { "" };
    let key = (delivery.key.tenant.clone(), name.to_owned());
    let address = if registered {
        let endpoint = parts
            .sources
            .endpoints
            .get(&key)
            .ok_or(ComposeError::NoEndpoint)?;
        endpoint.url.parse().map_err(|_| ComposeError::Unreadable)?
    } else {
        delivery.address.clone()
    };
    match parts.keys.get(&key) {
        None => Ok((address, Vec::new())),
        Some(keys) => Ok((address, keys.clone().ok_or(ComposeError::Secret)?)),
    }
}

/// What a signing secret's seal is bound to; whoever stores one seals it for the same place.
pub(crate) fn secret_place(tenant: &TenantId, endpoint: &str, id: &str) -> String {
    format!("endpoint_secrets/{tenant}/{endpoint}/{id}")
}

/// The form for a locale: the same, else of its language, else the default's.
fn localized<'a>(
    stored: &'a StoredTemplate,
    locale: Option<&str>,
) -> Result<&'a TemplateSource, ComposeError> {
    let forms = stored.locales.as_ref().ok_or(ComposeError::Unreadable)?;
    let language = locale.and_then(|locale| locale.split('-').next());
    locale
        .into_iter()
        .chain(language)
        .chain([stored.default_locale.as_str()])
        .find_map(|locale| forms.get(locale))
        .ok_or(ComposeError::Gone)
}
