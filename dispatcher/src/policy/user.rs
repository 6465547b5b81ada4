//! What a user chose, and what holds for the user because of it.

use std::sync::Arc;

use carillon_domain::{Category, ChannelKind, TenantId, Timestamp, UserId, ports::Unavailable};
use carillon_policy::{
    CategoryPolicy, DigestChoice, Preference, QuietHours, Resolved, TenantPolicy, Zone, resolve,
};
use carillon_sql::StoreError;
use serde::{Deserialize, Serialize};

use crate::{
    Dispatcher,
    categories::{AllSettings, CategorySettings},
    channels::KnownChannels,
    store::policy::PreferenceRow,
};

/// What a user wants beside preferences, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet_hours: Option<QuietHours>,
}

impl UserPolicy {
    /// From what is stored.
    pub(crate) fn read(stored: &str) -> Result<Self, StoreError> {
        serde_json::from_str(stored)
            .map_err(|error| StoreError::Corrupt(format!("what a user wants: {error}")))
    }
}

/// Who named a user's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ZoneOf {
    /// The user's profile.
    User,
    /// The tenant's policy.
    Tenant,
    /// Nobody: it is UTC.
    Default,
}

/// The user's own time zone, else the tenant's, else UTC. One that the database of time zones does not have is passed over.
pub(super) fn zone(of_user: Option<&str>, tenant: &TenantPolicy) -> (Zone, ZoneOf) {
    let own = of_user.and_then(|name| name.parse().ok());
    match (own, &tenant.time_zone) {
        (Some(zone), _) => (zone, ZoneOf::User),
        (None, Some(zone)) => (zone.clone(), ZoneOf::Tenant),
        (None, None) => (Zone::default(), ZoneOf::Default),
    }
}

/// The zone alone.
pub(crate) fn zone_of(of_user: Option<&str>, tenant: &TenantPolicy) -> Zone {
    zone(of_user, tenant).0
}

/// A row as the pure functions take it.
pub(super) fn preference(row: &PreferenceRow) -> Preference {
    Preference {
        category: row.category.clone(),
        channel: row.channel.clone(),
        enabled: row.enabled,
        // Checked when it was written.
        digest: row.digest.as_deref().and_then(|digest| digest.parse().ok()),
    }
}

/// Everything that decides whether and when a user is alerted, as it is now.
pub(crate) struct UserChoices {
    pub(crate) rows: Vec<PreferenceRow>,
    pub(crate) quiet_hours: Option<QuietHours>,
    pub(crate) zone: Zone,
    pub(crate) zone_of: ZoneOf,
    pub(crate) categories: Arc<AllSettings>,
    pub(crate) channels: KnownChannels,
    pub(crate) tenant: Arc<TenantPolicy>,
    preferences: Vec<Preference>,
}

impl Dispatcher {
    /// What a user chose, with what it is chosen from.
    pub(crate) async fn choices_of(
        &self,
        tenant: &TenantId,
        user: UserId,
    ) -> Result<UserChoices, Unavailable> {
        let policy = self.policies.get(tenant).await?;
        let profile = self.ports.directory.profiles(tenant, &[user]).await?.pop();
        let (zone, zone_of) = zone(profile.unwrap_or_default().zone.as_deref(), &policy);
        let stored = self.store.user_policy(tenant, user).await?;
        let own = stored.as_deref().map(UserPolicy::read).transpose()?;
        let rows = self.store.preferences(tenant, user).await?;
        Ok(UserChoices {
            preferences: rows.iter().map(preference).collect(),
            rows,
            quiet_hours: own.and_then(|own| own.quiet_hours),
            zone,
            zone_of,
            categories: self.categories.settings(tenant).await?,
            channels: self.channels.of(tenant).await?,
            tenant: policy,
        })
    }
}

impl UserChoices {
    /// The tenant's categories and those that the user chose something for, by name.
    pub(crate) fn categories(&self) -> Vec<&Category> {
        let chosen = self.rows.iter().filter_map(|row| row.category.as_ref());
        let mut names: Vec<&Category> = self.categories.keys().chain(chosen).collect();
        names.retain(|name| name.as_str() != crate::verification::NAME);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a category says.
    pub(crate) fn settings(&self, category: &Category) -> Option<&CategorySettings> {
        self.categories.get(category).map(|settings| &**settings)
    }

    /// Whether the user gets a category over a channel, and who says so. `policy` is the category's.
    pub(crate) fn resolved<'a>(
        &self,
        category: &Category,
        channel: &ChannelKind,
        policy: &'a CategoryPolicy,
    ) -> Resolved<'a> {
        resolve(&self.preferences, category, channel, policy, &self.tenant)
    }

    /// What the user chose for exactly this.
    pub(crate) fn row(
        &self,
        category: Option<&Category>,
        channel: Option<&ChannelKind>,
    ) -> Option<&PreferenceRow> {
        self.rows
            .iter()
            .find(|row| row.category.as_ref() == category && row.channel.as_ref() == channel)
    }

    /// How often a category comes over a channel.
    pub(crate) fn digest_of(
        &self,
        category: &Category,
        channel: &ChannelKind,
        policy: &CategoryPolicy,
    ) -> DigestChoice {
        let period = self.resolved(category, channel, policy).digest;
        period.map_or(DigestChoice::Immediate, |period| {
            DigestChoice::Period(period.name.clone())
        })
    }

    /// What decides how often a category comes over a channel before what is chosen for the category does.
    pub(crate) fn closer_digest(
        &self,
        category: &Category,
        channel: &ChannelKind,
        policy: &CategoryPolicy,
    ) -> Option<DigestChoice> {
        [Some(category), None].into_iter().find_map(|category| {
            let choice: DigestChoice = self
                .row(category, Some(channel))?
                .digest
                .as_deref()?
                .parse()
                .ok()?;
            policy.offers(&choice).is_some().then_some(choice)
        })
    }

    /// Until when it is quiet, if it is.
    pub(crate) fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet_hours.as_ref()?.until(&self.zone, now)
    }

    /// When it gets quiet next.
    pub(crate) fn quiet_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet_hours.as_ref()?.next_start(&self.zone, now)
    }
}
