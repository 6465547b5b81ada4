//! Who gets a notification, over which channels and in which language: what planning and a dry run know beside the store.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    Address, ChannelKind, ExternalUserId, PlainAddress, Target, TemplateName, TenantId, UserId,
    ports::{Directory, Lane, Profile, Unavailable},
};

use crate::{
    categories::{AllSettings, Categories},
    channels::{Channels, KnownChannels},
    digest::sha256,
    store::{
        Addressee, NotificationRow, Outgoing, Store, StoredTarget,
        endpoints::{UserEndpoint, strand},
    },
    templates::{Template, TemplateBook, TemplateError},
};

/// Said of a user who has no address on a channel.
const NO_ADDRESS: &str = "no address";
/// Said of an address that its owner did not confirm, where the channel asks for it.
const UNVERIFIED: &str = "unverified";
/// Said where a channel was named that there is no longer.
const NO_CHANNEL: &str = "there is no such channel any more";
/// Said of an address that its channel would not take any more.
const NOT_AN_ADDRESS: &str = "the channel does not know such an address";
/// Stands where a delivery has no address.
const NOWHERE: &str = "-";

/// Users' internal ids by tenant and name.
pub(crate) type Resolved = HashMap<TenantId, HashMap<ExternalUserId, UserId>>;

/// Looks up what decides who gets a notification where.
#[derive(Clone)]
pub(crate) struct Audience {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) categories: Arc<Categories>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) templates: Arc<TemplateBook>,
    pub(crate) store: Arc<dyn Store>,
}

/// What was looked up for some notifications.
pub(crate) struct Surroundings {
    tenants: HashMap<TenantId, Tenant>,
    profiles: HashMap<(TenantId, UserId), Profile>,
    /// Enabled endpoints of users, where something goes out by webhook.
    endpoints: HashMap<(TenantId, UserId), Vec<UserEndpoint>>,
    templates: HashMap<TemplateVersion, Arc<Template>>,
    book: Arc<TemplateBook>,
}

struct Tenant {
    categories: Arc<AllSettings>,
    channels: KnownChannels,
}

type TemplateVersion = (TenantId, TemplateName, u64);

impl Audience {
    /// Looks up what these notifications need; for those that go to the inbox alone, and say what they say, next to
    /// nothing.
    pub(crate) async fn around(
        &self,
        rows: &[NotificationRow],
        resolved: &Resolved,
    ) -> Result<Surroundings, TemplateError> {
        let mut around = Surroundings {
            tenants: HashMap::new(),
            profiles: HashMap::new(),
            endpoints: HashMap::new(),
            templates: HashMap::new(),
            book: Arc::clone(&self.templates),
        };
        let mut described: HashMap<TenantId, HashSet<UserId>> = HashMap::new();
        let mut hooked: HashMap<TenantId, HashSet<UserId>> = HashMap::new();
        for row in rows {
            if !around.tenants.contains_key(&row.tenant) {
                let tenant = self.tenant(&row.tenant).await?;
                around.tenants.insert(row.tenant.clone(), tenant);
            }
            if let Some(used) = &row.template {
                let key = (row.tenant.clone(), used.name.clone(), used.version);
                if !around.templates.contains_key(&key)
                    && let Some(template) = self
                        .templates
                        .get(&row.tenant, &used.name, Some(used.version))
                        .await?
                {
                    around.templates.insert(key, template);
                }
            }
            let kinds = around.kinds(row);
            let outside = kinds.iter().any(|kind| !kind.is_in_app());
            let webhook = kinds.iter().any(|kind| kind.as_str() == ChannelKind::WEBHOOK);
            let users = || users_of(row, resolved).map(|(_, user)| user);
            if row.template.is_some() || outside {
                described.entry(row.tenant.clone()).or_default().extend(users());
            }
            if webhook {
                hooked.entry(row.tenant.clone()).or_default().extend(users());
            }
        }
        for (tenant, users) in described {
            let users: Vec<UserId> = users.into_iter().collect();
            let profiles = self.directory.profiles(&tenant, &users).await?;
            around.profiles.extend(
                users
                    .into_iter()
                    .zip(profiles)
                    .map(|(user, profile)| ((tenant.clone(), user), profile)),
            );
        }
        for (tenant, users) in hooked {
            let users: Vec<UserId> = users.into_iter().collect();
            let found = self.store.user_endpoints(&tenant, &users).await;
            for endpoint in found.map_err(Unavailable::from)? {
                let key = (tenant.clone(), endpoint.user);
                around.endpoints.entry(key).or_default().push(endpoint);
            }
        }
        Ok(around)
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Tenant, Unavailable> {
        Ok(Tenant {
            categories: self.categories.settings(tenant).await?,
            channels: self.channels.of(tenant).await?,
        })
    }
}

/// The users among a notification's targets, as far as they are known.
fn users_of<'a>(
    row: &'a NotificationRow,
    resolved: &'a Resolved,
) -> impl Iterator<Item = (&'a ExternalUserId, UserId)> {
    let resolved = resolved.get(&row.tenant);
    row.targets.iter().filter_map(move |target| match target {
        StoredTarget::Known(Target::User(name)) => Some((name, *resolved?.get(name)?)),
        _ => None,
    })
}

impl Surroundings {
    /// Over which channels a notification goes to users.
    fn kinds<'a>(&self, row: &'a NotificationRow) -> Cow<'a, [ChannelKind]> {
        if let Some(kinds) = &row.channels {
            return Cow::Borrowed(kinds);
        }
        self.tenants
            .get(&row.tenant)
            .and_then(|tenant| tenant.categories.get(&row.category))
            .map_or_else(
                || Cow::Owned(vec![ChannelKind::in_app()]),
                |category| Cow::Owned(category.channels.to_vec()),
            )
    }

    /// Everybody who gets a notification, in the order of its targets.
    pub(crate) fn addressees(&self, row: &NotificationRow, resolved: &Resolved) -> Vec<Addressee> {
        let kinds = self.kinds(row);
        let mut texts = Texts::new(self, row);
        let users = users_of(row, resolved).map(|(_, user)| user);
        let mut addressees: Vec<Addressee> = users
            .map(|user| self.user(row, &kinds, user, &mut texts))
            .collect();
        addressees.extend(row.targets.iter().filter_map(|target| match target {
            StoredTarget::Known(Target::Address(plain)) => Some(self.plain(row, plain, &mut texts)),
            _ => None,
        }));
        addressees
    }

    fn user(
        &self,
        row: &NotificationRow,
        kinds: &[ChannelKind],
        user: UserId,
        texts: &mut Texts<'_>,
    ) -> Addressee {
        let profile = self.profiles.get(&(row.tenant.clone(), user));
        let (locale, content) = texts.of(profile.and_then(|profile| profile.locale.as_deref()));
        let mut outside = Vec::new();
        for kind in kinds.iter().filter(|kind| !kind.is_in_app()) {
            self.ways(row, kind, user, profile, &mut outside);
        }
        Addressee {
            user,
            in_app: kinds.iter().any(ChannelKind::is_in_app),
            content,
            locale,
            plain: None,
            outside,
        }
    }

    /// A user's addresses on one channel: his devices, and for webhooks his registered endpoints.
    fn ways(
        &self,
        row: &NotificationRow,
        kind: &ChannelKind,
        user: UserId,
        profile: Option<&Profile>,
        outside: &mut Vec<Outgoing>,
    ) {
        let before = outside.len();
        for device in profile.map_or(&[][..], |profile| profile.devices.as_slice()) {
            let twice = outside[before..]
                .iter()
                .any(|outgoing| outgoing.address == device.address);
            if device.channel != *kind || twice {
                continue;
            }
            let mut outgoing = self.way(row, kind, &device.address);
            outgoing.device = Some(device.id);
            let known = self.tenants.get(&row.tenant).map(|tenant| &tenant.channels);
            if known.is_some_and(|known| known.capabilities(kind).verified) && !device.verified {
                outgoing.skip = outgoing.skip.or(Some(UNVERIFIED));
            }
            outside.push(outgoing);
        }
        if kind.as_str() == ChannelKind::WEBHOOK {
            let registered = self.endpoints.get(&(row.tenant.clone(), user));
            outside.extend(
                registered
                    .into_iter()
                    .flatten()
                    .filter_map(|endpoint| self.endpoint(row, kind, endpoint)),
            );
        }
        if outside.len() == before
            && let Ok(nowhere) = NOWHERE.parse()
        {
            let skip = match self.way(row, kind, &nowhere).skip {
                Some(NO_CHANNEL) => NO_CHANNEL,
                _ => NO_ADDRESS,
            };
            outside.push(Outgoing {
                channel: kind.clone(),
                address: nowhere,
                device: None,
                lane: Lane::from(""),
                strand: Arc::from(""),
                skip: Some(skip),
                replaces: false,
            });
        }
    }

    /// A registered endpoint: where it is was checked when it was registered, and is looked up again at each attempt.
    fn endpoint(
        &self,
        row: &NotificationRow,
        kind: &ChannelKind,
        endpoint: &UserEndpoint,
    ) -> Option<Outgoing> {
        let known = self.tenants.get(&row.tenant).map(|tenant| &tenant.channels);
        let there = known.is_some_and(|known| known.has(kind));
        Some(Outgoing {
            channel: kind.clone(),
            address: endpoint.id.to_string().parse().ok()?,
            device: None,
            lane: Arc::clone(&endpoint.lane),
            strand: strand(endpoint.id, endpoint.fifo),
            skip: (!there).then_some(NO_CHANNEL),
            replaces: false,
        })
    }

    /// One address on one channel.
    fn way(&self, row: &NotificationRow, kind: &ChannelKind, address: &Address) -> Outgoing {
        let known = self
            .tenants
            .get(&row.tenant)
            .map(|tenant| &tenant.channels)
            .filter(|known| known.has(kind));
        let (lane, skip) = match known.map(|known| known.check(kind, address.as_str())) {
            None => (Lane::from(""), Some(NO_CHANNEL)),
            Some(Err(_)) => (Lane::from(""), Some(NOT_AN_ADDRESS)),
            Some(Ok(checked)) => (checked.lane, None),
        };
        Outgoing {
            channel: kind.clone(),
            address: address.clone(),
            device: None,
            lane,
            strand: Arc::from(""),
            skip,
            replaces: known.is_some_and(|known| known.capabilities(kind).replace),
        }
    }

    fn plain(&self, row: &NotificationRow, plain: &PlainAddress, texts: &mut Texts<'_>) -> Addressee {
        let (locale, content) = texts.of(None);
        Addressee {
            user: plain_recipient(&row.tenant, plain),
            in_app: false,
            content,
            locale,
            plain: Some(plain.clone()),
            outside: vec![self.way(row, &plain.channel, &plain.to)],
        }
    }
}

/// Who a plain address is: the same recipient every time, so that what he turned off stays off.
pub(crate) fn plain_recipient(tenant: &TenantId, plain: &PlainAddress) -> UserId {
    let digest = sha256(format!("{tenant}\0{}\0{}", plain.channel, plain.to).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    UserId::from_bytes(bytes)
}

/// A notification's in-app form by locale, each rendered once.
struct Texts<'a> {
    template: Option<(&'a Template, serde_json::Value)>,
    book: &'a TemplateBook,
    rendered: HashMap<String, Option<Arc<str>>>,
}

impl<'a> Texts<'a> {
    fn new(around: &'a Surroundings, row: &NotificationRow) -> Self {
        let template = row.template.as_ref().and_then(|used| {
            let key = (row.tenant.clone(), used.name.clone(), used.version);
            let template = around.templates.get(&key)?;
            Some((&**template, serde_json::from_str(&used.data).ok()?))
        });
        Self {
            template,
            book: &around.book,
            rendered: HashMap::new(),
        }
    }

    /// The locale that is chosen for somebody, and what the in-app form says in it where that is not what the
    /// notification says anyway. What does not render in his language comes in the default one.
    fn of(&mut self, wanted: Option<&str>) -> (Option<Arc<str>>, Option<Arc<str>>) {
        let Some((template, data)) = &self.template else {
            return (None, None);
        };
        let Some((chosen, _)) = template.choose(wanted) else {
            return (None, None);
        };
        if chosen == template.default_locale {
            return (Some(Arc::from(chosen)), None);
        }
        let text = self.rendered.entry(chosen.to_owned()).or_insert_with(|| {
            let rendered = self.book.render(template, Some(chosen), data).ok()?;
            serde_json::to_string(&*rendered.content).ok().map(Arc::from)
        });
        (Some(Arc::from(chosen)), text.clone())
    }
}
