//! Changing what a user chose, and what may be chosen.

use carillon_domain::{Category, ChannelKind, TenantId, UserId, ports::Unavailable};
use carillon_policy::{CategoryPolicy, DigestChoice, PolicyFault, Preference, QuietHours};
use carillon_runtime::http::{FieldError, Problem};
use carillon_sql::StoreError;
use http::StatusCode;

use super::user::{UserChoices, UserPolicy};
use crate::{
    Dispatcher,
    store::policy::{Chosen, PreferenceChange, PreferenceChanges, PreferencesWritten},
};

/// The most preferences of a user.
pub(crate) const MOST_PREFERENCES: u64 = 1_000;

/// Why a choice was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("there would be too many preferences")]
    TooMany,
    #[error("the user was erased")]
    Erased,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<ChoiceError> for Problem {
    fn from(error: ChoiceError) -> Self {
        match error {
            ChoiceError::TooMany => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                format!("A user has at most {MOST_PREFERENCES} preferences."),
            ),
            ChoiceError::Erased => Self::not_found(),
            ChoiceError::Unavailable(cause) => cause.into(),
        }
    }
}

/// Faults as answers have them, of something that stands at `at`.
pub(crate) fn fields(faults: Vec<PolicyFault>, at: &str) -> impl Iterator<Item = FieldError> {
    faults.into_iter().map(move |fault| {
        let fault = fault.under(at);
        FieldError::new(fault.pointer, fault.detail)
    })
}

impl UserChoices {
    /// What is wrong with a preference that stands at `at`.
    pub(crate) fn check(&self, preference: &Preference, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, detail: &'static str| {
            errors.push(FieldError::new(format!("{at}{field}"), detail));
        };
        if preference.category.is_none() && preference.channel.is_none() {
            wrong("", "names neither a category nor a channel");
        }
        if preference.enabled.is_none() && preference.digest.is_none() {
            wrong("", "says neither enabled nor digest");
        }
        if let Some(channel) = &preference.channel
            && !self.channels.has(channel)
        {
            wrong("/channel", "there is no such channel");
        }
        let policy = preference
            .category
            .as_ref()
            .and_then(|category| self.settings(category))
            .map(|settings| &*settings.rules.policy);
        if preference.enabled == Some(false) && policy.is_some_and(|policy| !policy.may_turn_off) {
            wrong("/enabled", "this category cannot be turned off");
        }
        if let Some(choice @ DigestChoice::Period(_)) = &preference.digest {
            let offers = |policy: &CategoryPolicy| policy.offers(choice).is_some();
            let offered = match &preference.category {
                Some(_) => policy.is_some_and(offers),
                // For all categories that have one of that name.
                None => self
                    .categories
                    .values()
                    .any(|settings| offers(&settings.rules.policy)),
            };
            if !offered {
                wrong(
                    "/digest",
                    "must be immediate, or a digest that the category offers",
                );
            }
        }
        errors
    }
}

/// A preference to write.
fn written(preference: Preference) -> PreferenceChange {
    PreferenceChange {
        category: preference.category,
        channel: preference.channel,
        to: Some(Chosen {
            enabled: preference.enabled,
            digest: preference.digest.map(|digest| digest.to_string()),
        }),
    }
}

impl Dispatcher {
    /// Writes preferences that were checked; with `whole` all others go.
    pub(crate) async fn choose(
        &self,
        tenant: &TenantId,
        user: UserId,
        whole: bool,
        preferences: Vec<Preference>,
    ) -> Result<(), ChoiceError> {
        let changes = PreferenceChanges {
            whole,
            changes: preferences.into_iter().map(written).collect(),
        };
        self.change(tenant, user, &changes).await
    }

    /// Removes a preference.
    pub(crate) async fn leave_open(
        &self,
        tenant: &TenantId,
        user: UserId,
        category: Option<Category>,
        channel: Option<ChannelKind>,
    ) -> Result<(), ChoiceError> {
        let changes = PreferenceChanges {
            whole: false,
            changes: vec![PreferenceChange {
                category,
                channel,
                to: None,
            }],
        };
        self.change(tenant, user, &changes).await
    }

    async fn change(
        &self,
        tenant: &TenantId,
        user: UserId,
        changes: &PreferenceChanges,
    ) -> Result<(), ChoiceError> {
        let now = self.ports.clock.now();
        let done = self
            .store
            .change_preferences(now, tenant, user, changes, MOST_PREFERENCES)
            .await
            .map_err(Unavailable::from)?;
        match done {
            PreferencesWritten::Done => {
                self.ladder.wake();
                Ok(())
            }
            PreferencesWritten::TooMany => Err(ChoiceError::TooMany),
            PreferencesWritten::Erased => Err(ChoiceError::Erased),
        }
    }

    /// Writes or removes a user's quiet hours, which were checked.
    pub(crate) async fn be_quiet(
        &self,
        tenant: &TenantId,
        user: UserId,
        quiet_hours: Option<QuietHours>,
    ) -> Result<(), ChoiceError> {
        let now = self.ports.clock.now();
        let body = quiet_hours
            .map(|quiet_hours| {
                let policy = UserPolicy {
                    quiet_hours: Some(quiet_hours),
                };
                serde_json::to_string(&policy)
            })
            .transpose()
            .map_err(|error| StoreError::Corrupt(format!("quiet hours: {error}")))
            .map_err(Unavailable::from)?;
        let written = self
            .store
            .put_user_policy(now, tenant, user, body.as_deref())
            .await
            .map_err(Unavailable::from)?;
        if !written {
            return Err(ChoiceError::Erased);
        }
        if body.is_some() {
            self.policies.somebody_is_quiet(tenant).await;
        }
        self.ladder.wake();
        Ok(())
    }
}
