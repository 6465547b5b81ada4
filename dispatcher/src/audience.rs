//! Who gets a notification, over which channels and in which language: what planning and a dry run know beside the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    Address, ChannelKind, ExternalUserId, NotificationId, PlainAddress, Target, TemplateName, TenantId,
    UserId,
    ports::{Directory, Lane, Profile, Unavailable},
};

use carillon_policy::{Plan, TenantPolicy};
use carillon_sql::StoreError;

use crate::{
    categories::{AllSettings, Categories, CategorySettings},
    channels::{Channels, KnownChannels},
    config::LadderConfig,
    digest::sha256,
    policy::TenantPolicies,
    store::{
        Addressee, FixedPlan, NO_ADDRESS, NOWHERE, NotificationRow, Outgoing, Policies, Store, StoredTarget,
        UNVERIFIED,
        endpoints::{UserEndpoint, strand},
    },
    templates::{OwnValues, Template, TemplateBook, TemplateError},
};

/// Said where a channel was named that there is no longer.
const NO_CHANNEL: &str = "there is no such channel any more";
/// Said of an address that its channel would not take any more.
const NOT_AN_ADDRESS: &str = "the channel does not know such an address";

/// Users' internal ids by tenant and name.
pub(crate) type Resolved = HashMap<TenantId, HashMap<ExternalUserId, UserId>>;

/// A notification and users who get it.
pub(crate) type Reached<'a> = (&'a NotificationRow, Vec<UserId>);

/// Looks up what decides who gets a notification where.
#[derive(Clone)]
pub(crate) struct Audience {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) categories: Arc<Categories>,
    pub(crate) policies: Arc<TenantPolicies>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) templates: Arc<TemplateBook>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ladder: LadderConfig,
}

/// What was looked up for some notifications.
pub(crate) struct Surroundings {
    tenants: HashMap<TenantId, Tenant>,
    profiles: HashMap<(TenantId, UserId), Profile>,
    /// The tenants' own ids of users who are reached outside the inbox.
    names: HashMap<(TenantId, UserId), ExternalUserId>,
    /// Enabled endpoints of users, where something goes out by webhook.
    endpoints: HashMap<(TenantId, UserId), Vec<UserEndpoint>>,
    templates: HashMap<TemplateVersion, Arc<Template>>,
    book: Arc<TemplateBook>,
    ladder: LadderConfig,
    plans: HashMap<(TenantId, NotificationId), Arc<FixedPlan>>,
}

struct Tenant {
    categories: Arc<AllSettings>,
    policy: Arc<TenantPolicy>,
    /// Whether any of its users may have quiet hours, which follow the user's time zone.
    quiet: bool,
    channels: KnownChannels,
}

type TemplateVersion = (TenantId, TemplateName, u64);

impl Audience {
    /// Looks up what these notifications need for those users; for those that go to the inbox alone, and say what they
    /// say, next to nothing.
    pub(crate) async fn around(&self, reached: &[Reached<'_>]) -> Result<Surroundings, TemplateError> {
        let mut around = Surroundings {
            tenants: HashMap::new(),
            profiles: HashMap::new(),
            names: HashMap::new(),
            endpoints: HashMap::new(),
            templates: HashMap::new(),
            book: Arc::clone(&self.templates),
            ladder: self.ladder.clone(),
            plans: HashMap::new(),
        };
        let mut described: HashMap<TenantId, HashSet<UserId>> = HashMap::new();
        let mut hooked: HashMap<TenantId, HashSet<UserId>> = HashMap::new();
        for (row, users) in reached {
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
            let plan = around.resolve(row)?;
            let outside = plan.plan.channels().any(|kind| !kind.is_in_app());
            let webhook = plan
                .plan
                .channels()
                .any(|kind| kind.as_str() == ChannelKind::WEBHOOK);
            around.plans.insert((row.tenant.clone(), row.id), Arc::new(plan));
            let quiet = around.tenants.get(&row.tenant).is_some_and(|tenant| tenant.quiet);
            if row.template.is_some() || outside || quiet {
                described.entry(row.tenant.clone()).or_default().extend(users);
            }
            if webhook {
                hooked.entry(row.tenant.clone()).or_default().extend(users);
            }
        }
        for (tenant, users) in described {
            let users: Vec<UserId> = users.into_iter().collect();
            let names = self.directory.names(&tenant, &users).await?;
            let called = users.iter().zip(names);
            around
                .names
                .extend(called.filter_map(|(user, name)| Some(((tenant.clone(), *user), name?))));
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
            policy: self.policies.get(tenant).await?,
            quiet: self.policies.anybody_is_quiet(tenant).await?,
            channels: self.channels.of(tenant).await?,
        })
    }
}

/// The users among a notification's targets, as far as they are known.
pub(crate) fn users_of(row: &NotificationRow, resolved: &Resolved) -> Vec<UserId> {
    let resolved = resolved.get(&row.tenant);
    let user = |target: &StoredTarget| match target {
        StoredTarget::Known(Target::User(name)) => resolved?.get(name).copied(),
        _ => None,
    };
    row.targets.iter().filter_map(user).collect()
}

/// The plain addresses among a notification's targets.
pub(crate) fn plain_of(row: &NotificationRow) -> Vec<PlainAddress> {
    let plain = |target: &StoredTarget| match target {
        StoredTarget::Known(Target::Address(plain)) => Some(plain.clone()),
        _ => None,
    };
    row.targets.iter().filter_map(plain).collect()
}

impl Surroundings {
    /// What a notification's users climb: its own plan, else its channels', else what its category says.
    fn resolve(&self, row: &NotificationRow) -> Result<FixedPlan, TemplateError> {
        let corrupt = |error: serde_json::Error| {
            TemplateError::Store(StoreError::Corrupt(format!("the plan of {}: {error}", row.id)))
        };
        if let Some(text) = &row.plan {
            return FixedPlan::parse(text).map_err(corrupt);
        }
        let of = |kinds: &[ChannelKind]| {
            let (hold, push) = (self.ladder.hold.duration(), self.ladder.push_deadline.duration());
            FixedPlan::new(Plan::of_channels(kinds, hold, push)).map_err(corrupt)
        };
        if let Some(kinds) = &row.channels {
            return of(kinds);
        }
        match self.category(row) {
            None => of(&[ChannelKind::in_app()]),
            Some(category) => match &category.rules.plan {
                Some(plan) => FixedPlan::new(plan.clone()).map_err(corrupt),
                None => of(&category.channels),
            },
        }
    }

    fn category(&self, row: &NotificationRow) -> Option<&CategorySettings> {
        Some(self.tenants.get(&row.tenant)?.categories.get(&row.category)?)
    }

    /// What a notification's users climb, once it was looked up.
    pub(crate) fn plan(&self, row: &NotificationRow) -> Option<&Arc<FixedPlan>> {
        self.plans.get(&(row.tenant.clone(), row.id))
    }

    /// Whether it passes preferences, quiet hours, holds and caps.
    pub(crate) fn is_critical(&self, row: &NotificationRow) -> bool {
        row.critical || self.category(row).is_some_and(|category| category.rules.critical)
    }

    /// What holds for its recipients beside what they want themselves.
    pub(crate) fn policies(&self, row: &NotificationRow) -> Policies {
        let Some(tenant) = self.tenants.get(&row.tenant) else {
            return Policies::default();
        };
        let category = tenant.categories.get(&row.category);
        Policies {
            category: category.map_or_else(Arc::default, |category| Arc::clone(&category.rules.policy)),
            tenant: Arc::clone(&tenant.policy),
        }
    }

    /// Users and plain addresses who get a notification, in their order, users first.
    pub(crate) fn addressees(
        &self,
        row: &NotificationRow,
        users: &[UserId],
        plain: &[PlainAddress],
    ) -> Vec<Addressee> {
        let Some(plan) = self.plan(row) else {
            return Vec::new();
        };
        let kinds: Vec<&ChannelKind> = plan.plan.channels().collect();
        let mut texts = Texts::new(self, row);
        let mut addressees: Vec<Addressee> = users
            .iter()
            .map(|user| self.user(row, &kinds, *user, &mut texts))
            .collect();
        addressees.extend(plain.iter().map(|plain| self.plain(row, plain, &mut texts)));
        addressees
    }

    fn user(
        &self,
        row: &NotificationRow,
        kinds: &[&ChannelKind],
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
            name: self.names.get(&(row.tenant.clone(), user)).cloned(),
            in_app: kinds.iter().any(|kind| kind.is_in_app()),
            content,
            locale,
            plain: None,
            outside,
            active_until: profile.and_then(|profile| profile.active_until),
            zone: profile.and_then(|profile| profile.zone.clone()),
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
            outgoing.active_until = device.active_until;
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
                active_until: None,
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
            active_until: None,
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
            active_until: None,
        }
    }

    fn plain(&self, row: &NotificationRow, plain: &PlainAddress, texts: &mut Texts<'_>) -> Addressee {
        let (locale, content) = texts.of(None);
        Addressee {
            user: plain_recipient(&row.tenant, plain),
            name: None,
            in_app: false,
            content,
            locale,
            plain: Some(plain.clone()),
            outside: vec![self.way(row, &plain.channel, &plain.to)],
            active_until: None,
            zone: None,
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
            let own = OwnValues::default();
            let rendered = self.book.render(template, Some(chosen), data, own).ok()?;
            serde_json::to_string(&*rendered.content).ok().map(Arc::from)
        });
        (Some(Arc::from(chosen)), text.clone())
    }
}
