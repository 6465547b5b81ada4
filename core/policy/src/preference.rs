//! Preferences: whether somebody wants a category's alerts over a channel, and how often.

use std::collections::BTreeMap;

use carillon_domain::{Category, ChannelKind};
use serde::{Deserialize, Serialize};

use crate::{Cap, DigestChoice, DigestPeriod, DigestWindow, PolicyFault, Throttle, Zone};

/// The most digests that a category offers.
const MOST_DIGESTS: usize = 16;
/// The most channels with a default.
const MOST_DEFAULTS: usize = 64;
/// The most caps of a tenant.
const MOST_CAPS: usize = 8;

/// What a user wants of a category, of a channel, or of a category over a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Of which category; of all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Over which channel; over all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelKind>,
    /// On or off; without it the less specific decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `immediate`, or the name of a digest that the category offers; without it the less specific decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestChoice>,
}

/// What a category says when its users do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CategoryPolicy {
    /// Whether a user's "off" counts. A category that may not be turned off passes over it.
    pub may_turn_off: bool,
    /// On or off over all channels, unless `channels` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// On or off over single channels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, bool>)]
    pub channels: BTreeMap<ChannelKind, bool>,
    /// The digests that users may choose from: at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<DigestPeriod>,
    /// What holds for users who chose none: `immediate`, or one of `digests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestChoice>,
}

impl Default for CategoryPolicy {
    fn default() -> Self {
        Self {
            may_turn_off: true,
            enabled: None,
            channels: BTreeMap::new(),
            digests: Vec::new(),
            digest: None,
        }
    }
}

/// What holds for all of a tenant's users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantPolicy {
    /// The time zone of users who have none of their own; `UTC` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Zone>,
    /// On or off over single channels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, bool>)]
    pub channels: BTreeMap<ChannelKind, bool>,
    /// How many alerts a user gets at most, over all sources: up to 8, all of which hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<Cap>,
    /// How fast a user gets alerts; those beyond wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
}

/// What decided whether somebody is alerted, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The user, for this category over this channel.
    UserCategoryChannel,
    /// The user, for this channel.
    UserChannel,
    /// The user, for this category.
    UserCategory,
    /// The category.
    Category,
    /// The tenant.
    Tenant,
    /// Nobody: alerts are on.
    Default,
}

impl DecidedBy {
    /// As written in answers and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserCategoryChannel => "user_category_channel",
            Self::UserChannel => "user_channel",
            Self::UserCategory => "user_category",
            Self::Category => "category",
            Self::Tenant => "tenant",
            Self::Default => "default",
        }
    }

    /// Whether it is about this one channel, and not about all of them.
    pub(crate) fn names_the_channel(self, category: &CategoryPolicy, channel: &ChannelKind) -> bool {
        match self {
            Self::UserCategoryChannel | Self::UserChannel | Self::Tenant => true,
            Self::Category => category.channels.contains_key(channel),
            Self::UserCategory | Self::Default => false,
        }
    }
}

/// What holds for one user, category and channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// Whether alerts are wanted.
    pub enabled: bool,
    /// Who says so.
    pub decided_by: DecidedBy,
    /// The digest that they go to; none when each goes out by itself.
    pub digest: Option<&'a DigestPeriod>,
}

/// What holds for `category` over `channel`, out of all of a user's `preferences`: the most specific wins.
pub fn resolve<'a>(
    preferences: &[Preference],
    category: &Category,
    channel: &ChannelKind,
    category_policy: &'a CategoryPolicy,
    tenant: &TenantPolicy,
) -> Resolved<'a> {
    let levels = [
        (DecidedBy::UserCategoryChannel, Some(category), Some(channel)),
        (DecidedBy::UserChannel, None, Some(channel)),
        (DecidedBy::UserCategory, Some(category), None),
    ];
    let users = levels.map(|(level, category, channel)| {
        let preference = preferences.iter().find(|preference| {
            preference.category.as_ref() == category && preference.channel.as_ref() == channel
        });
        (level, preference)
    });
    let counts = |enabled: &bool| *enabled || category_policy.may_turn_off;
    let user = users.iter().find_map(|(level, preference)| {
        let enabled = preference.and_then(|preference| preference.enabled)?;
        counts(&enabled).then_some((enabled, *level))
    });
    let (enabled, decided_by) = user
        .or_else(|| {
            let by_channel = category_policy.channels.get(channel).copied();
            Some((by_channel.or(category_policy.enabled)?, DecidedBy::Category))
        })
        .or_else(|| Some((*tenant.channels.get(channel)?, DecidedBy::Tenant)))
        .unwrap_or((true, DecidedBy::Default));
    let digest = users
        .iter()
        .filter_map(|(_, preference)| preference.and_then(|preference| preference.digest.as_ref()))
        // A name that this category does not offer says nothing about it.
        .chain(&category_policy.digest)
        .find_map(|choice| category_policy.offers(choice))
        .flatten();
    Resolved {
        enabled,
        decided_by,
        digest,
    }
}

impl CategoryPolicy {
    /// What a choice means here: a digest, or none for immediate; nothing when the category does not offer it.
    pub fn offers(&self, choice: &DigestChoice) -> Option<Option<&DigestPeriod>> {
        match choice {
            DigestChoice::Immediate => Some(None),
            DigestChoice::Period(name) => self.digests.iter().find(|period| period.name == *name).map(Some),
        }
    }

    /// What is wrong with it; the pointers are relative to it.
    pub fn check(&self) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        check_channels(&self.channels, &mut faults);
        if self.digests.len() > MOST_DIGESTS {
            faults.push(PolicyFault::new(
                "/digests",
                format!("must be at most {MOST_DIGESTS}"),
            ));
        }
        for (index, period) in self.digests.iter().enumerate().take(MOST_DIGESTS) {
            let at = format!("/digests/{index}");
            if let Some(earlier) = self.digests[..index]
                .iter()
                .position(|other| other.name == period.name)
            {
                faults.push(PolicyFault::new(
                    format!("{at}/name"),
                    format!("repeats /digests/{earlier}"),
                ));
            }
            let window = format!("{at}/window");
            faults.extend(
                DigestWindow::check(&period.window)
                    .into_iter()
                    .map(|fault| fault.under(&window)),
            );
        }
        if let Some(choice) = &self.digest
            && self.offers(choice).is_none()
        {
            faults.push(PolicyFault::new(
                "/digest",
                "must be immediate or the name of one of the digests",
            ));
        }
        faults
    }
}

impl TenantPolicy {
    /// What is wrong with it; the pointers are relative to it.
    pub fn check(&self) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        check_channels(&self.channels, &mut faults);
        if self.caps.len() > MOST_CAPS {
            faults.push(PolicyFault::new("/caps", format!("must be at most {MOST_CAPS}")));
        }
        for (index, cap) in self.caps.iter().enumerate().take(MOST_CAPS) {
            let at = format!("/caps/{index}");
            faults.extend(cap.check().into_iter().map(|fault| fault.under(&at)));
        }
        let throttle = self.throttle.iter().flat_map(Throttle::check);
        faults.extend(throttle.map(|fault| fault.under("/throttle")));
        faults
    }
}

fn check_channels(channels: &BTreeMap<ChannelKind, bool>, faults: &mut Vec<PolicyFault>) {
    if channels.len() > MOST_DEFAULTS {
        faults.push(PolicyFault::new(
            "/channels",
            format!("must name at most {MOST_DEFAULTS} channels"),
        ));
    }
}

#[cfg(test)]
mod tests;
