//! A recipient's side of what a decision is made of.

use std::{error::Error, time::Duration};

use carillon_domain::{Category, ChannelKind, Timestamp};
use carillon_policy::{
    AddressFacts, Cap, CategoryPolicy, DigestName, Facts, Preference, QuietHours, TenantPolicy, Throttle,
    Zone, resolve,
};

use super::user::{UserPolicy, preference};
use crate::store::policy::Choices;

/// What a recipient wants and got, out of what the transaction read.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    preferences: Vec<Preference>,
    quiet_hours: Option<QuietHours>,
    zone: Zone,
    /// When alerts of earlier notifications were counted.
    taken: Vec<Timestamp>,
}

/// What a decision knows of the notification beside its recipient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) category: &'a Category,
    pub(crate) category_policy: &'a CategoryPolicy,
    pub(crate) tenant: &'a TenantPolicy,
    /// The request or the category says so.
    pub(crate) critical: bool,
    pub(crate) is_digest: bool,
    /// When its time to live ends.
    pub(crate) closes_at: Timestamp,
}

impl Wishes {
    /// `zone` is the one of the user's profile. A policy of the user's that cannot be read holds nothing up.
    pub(crate) fn new(choices: &Choices, tenant: &TenantPolicy, zone: Option<&str>) -> Self {
        let policy = choices.body.as_deref().map(UserPolicy::read).transpose();
        let policy = policy.unwrap_or_else(|error| {
            tracing::error!(
                error = &error as &dyn Error,
                "what a user wants cannot be read; quiet hours do not hold"
            );
            None
        });
        let (zone, _) = super::user::zone(zone, tenant);
        Self {
            preferences: choices.preferences.iter().map(preference).collect(),
            quiet_hours: policy.and_then(|policy| policy.quiet_hours),
            zone,
            taken: choices.alerts.clone(),
        }
    }

    /// The digest that alerts over a channel join, if they join one.
    pub(crate) fn digest<'a>(&'a self, about: &About<'a>, channel: &ChannelKind) -> Option<&'a DigestName> {
        if about.is_digest || about.critical {
            return None;
        }
        let resolved = resolve(
            &self.preferences,
            about.category,
            channel,
            about.category_policy,
            about.tenant,
        );
        resolved.digest.map(|period| &period.name)
    }

    /// What the deciders ask for.
    pub(crate) fn facts<'a>(
        &'a self,
        about: &About<'a>,
        addresses: &'a [AddressFacts],
        active_until: Option<Timestamp>,
    ) -> Facts<'a> {
        Facts {
            addresses,
            preferences: &self.preferences,
            category: about.category,
            category_policy: about.category_policy,
            tenant: about.tenant,
            quiet_hours: self.quiet_hours.as_ref(),
            zone: &self.zone,
            taken: &self.taken,
            active_until,
            critical: about.critical,
            is_digest: about.is_digest,
            closes_at: about.closes_at,
        }
    }
}

/// Since when alerts are read: as far back as the longest cap or the throttle looks; from `now` on where there is neither.
pub(crate) fn counted_since(tenant: &TenantPolicy, now: Timestamp) -> Timestamp {
    let caps = tenant.caps.iter().map(Cap::window);
    let throttle = tenant.throttle.iter().map(Throttle::window);
    now.before(caps.chain(throttle).max().unwrap_or(Duration::ZERO))
}
