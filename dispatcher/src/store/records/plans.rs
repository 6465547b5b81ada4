//! What planning takes, worked out before its transaction begins, and what became of it.

use std::sync::Arc;

use carillon_domain::{
    Address, ChannelKind, DeviceId, ExternalUserId, PlainAddress, TenantId, Timestamp, TopicName, UserId,
    ports::Lane,
};
use carillon_policy::{CategoryPolicy, Plan, TenantPolicy};

use crate::store::broadcasts::BroadcastStep;

use super::{Lease, NotificationRow, UserKey};

/// A notification that is to be planned now.
#[derive(Debug, Clone)]
pub(crate) struct PlanJob {
    pub(crate) lease: Lease,
    pub(crate) notification: Arc<NotificationRow>,
    /// What its users climb.
    pub(crate) plan: Arc<FixedPlan>,
    /// Whether it passes preferences, quiet hours, holds and caps.
    pub(crate) critical: bool,
    pub(crate) policies: Policies,
    /// Its user targets, resolved, without repeats, and its plain addresses.
    pub(crate) users: Vec<Addressee>,
    /// Its topic targets, and whether each keeps a history.
    pub(crate) topics: Vec<(TopicName, bool)>,
    /// How much of the notification this is.
    pub(crate) part: PlanPart,
    /// Where it is planned page by page, or has an audience: which page this is.
    pub(crate) broadcast: Option<BroadcastStep>,
}

/// What holds for a notification's recipients beside what they want themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    pub(crate) category: Arc<CategoryPolicy>,
    pub(crate) tenant: Arc<TenantPolicy>,
}

impl Policies {
    /// Whether alerts are counted.
    pub(crate) fn count(&self) -> bool {
        self.tenant.throttle.is_some() || !self.tenant.caps.is_empty()
    }
}

impl PlanJob {
    /// Users whose alerts it counts: their turn is held while it is decided.
    pub(crate) fn counted(&self) -> impl Iterator<Item = UserKey> + '_ {
        let counts = !self.critical && self.policies.count();
        self.users
            .iter()
            .filter(move |addressee| counts && addressee.plain.is_none())
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// Users whose digests it may join, plain addresses among them: their turn is held while it is decided, as whoever
    /// closes a digest holds it.
    pub(crate) fn gathered(&self) -> impl Iterator<Item = UserKey> + '_ {
        let gathers = !self.critical
            && self.notification.digest.is_none()
            && !self.policies.category.digests.is_empty();
        self.users
            .iter()
            .filter(move |addressee| gathers && !addressee.outside.is_empty())
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// Its topics that keep a history.
    pub(crate) fn kept_topics(&self) -> impl Iterator<Item = (TenantId, TopicName)> + '_ {
        self.topics
            .iter()
            .filter(|(_, kept)| *kept)
            .map(|(topic, _)| (self.lease.tenant.clone(), topic.clone()))
    }

    /// Whether a part of the notification may have been planned before: under this lease, or under one that was lost.
    pub(crate) fn resumes(&self) -> bool {
        self.lease.token > 1 || self.part != PlanPart::Whole
    }

    /// The mailboxes that it goes to.
    pub(crate) fn mailboxes(&self) -> impl Iterator<Item = UserKey> + '_ {
        self.users
            .iter()
            .filter(|addressee| addressee.in_app)
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// All of its recipients.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = UserKey> + '_ {
        self.users
            .iter()
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// Where it would go outside the inbox unless the store knows something against it.
    pub(crate) fn sendable(&self) -> impl Iterator<Item = (&Addressee, &Outgoing)> + '_ {
        self.users.iter().flat_map(|addressee| {
            addressee
                .outside
                .iter()
                .filter(|outgoing| outgoing.skip.is_none())
                .map(move |outgoing| (addressee, outgoing))
        })
    }

    /// What its collapse key names within a recipient's deliveries.
    pub(crate) fn collapse(&self) -> Option<Arc<str>> {
        let key = self.notification.collapse_key.as_ref()?;
        // A category has no slash, so no two pairs read alike.
        Some(Arc::from(format!("{}/{key}", self.notification.category)))
    }
}

/// One recipient of a notification, and where it goes for him.
#[derive(Debug, Clone)]
pub(crate) struct Addressee {
    pub(crate) user: UserId,
    /// The tenant's own id of the user; a plain address has none.
    pub(crate) name: Option<ExternalUserId>,
    /// Whether it goes to his inbox.
    pub(crate) in_app: bool,
    /// The in-app form in his language, where that is another text than the notification's own content.
    pub(crate) content: Option<Arc<str>>,
    /// The locale that was chosen for him from the notification's template.
    pub(crate) locale: Option<Arc<str>>,
    /// The plain address that he is: nobody whom we know.
    pub(crate) plain: Option<PlainAddress>,
    /// Where it goes outside the inbox.
    pub(crate) outside: Vec<Outgoing>,
    /// Until when a device of the user is active; none when nobody is.
    pub(crate) active_until: Option<Timestamp>,
    /// The user's own time zone, IANA.
    pub(crate) zone: Option<Arc<str>>,
}

/// A plan that is climbed, and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FixedPlan {
    pub(crate) plan: Plan,
    /// JSON.
    pub(crate) text: Arc<str>,
}

impl FixedPlan {
    /// As it will be stored.
    pub(crate) fn new(plan: Plan) -> Result<Self, serde_json::Error> {
        let text = Arc::from(serde_json::to_string(&plan)?);
        Ok(Self { plan, text })
    }

    /// As it is stored.
    pub(crate) fn parse(text: &Arc<str>) -> Result<Self, serde_json::Error> {
        Ok(Self {
            plan: serde_json::from_str(text)?,
            text: Arc::clone(text),
        })
    }
}

impl Addressee {
    /// A user who gets it in his inbox alone, as it came.
    #[cfg(test)]
    pub(crate) fn in_app(user: UserId) -> Self {
        Self {
            user,
            name: None,
            in_app: true,
            content: None,
            locale: None,
            plain: None,
            outside: Vec::new(),
            active_until: None,
            zone: None,
        }
    }
}

/// One way outside the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) device: Option<DeviceId>,
    /// Empty where it is skipped.
    pub(crate) lane: Lane,
    /// What must stay in order within the lane; mostly empty.
    pub(crate) strand: Arc<str>,
    /// Why it is not sent, whatever the store knows.
    pub(crate) skip: Option<&'static str>,
    /// Whether the channel can put it in the place of an older one.
    pub(crate) replaces: bool,
    /// Until when the device is active.
    pub(crate) active_until: Option<Timestamp>,
}

/// Said of a user who has no address on a channel.
pub(crate) const NO_ADDRESS: &str = "no address";
/// Said of an address that its owner did not confirm, where the channel asks for it.
pub(crate) const UNVERIFIED: &str = "unverified";
/// Stands where a delivery has no address.
pub(crate) const NOWHERE: &str = "-";

impl Outgoing {
    /// Whether there is an address at all.
    pub(crate) fn leads_nowhere(&self) -> bool {
        self.address.as_str() == NOWHERE
    }
}

/// Which part of a notification a job plans: what is too much for one transaction is planned in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanPart {
    /// All that is left of it.
    Whole,
    /// More follows: the notification stays accepted, and its outbox row where it is.
    More,
    /// The last of several.
    Last,
}

/// What planning did with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanOutcome {
    /// Written.
    Planned,
    /// Written, and more of it follows.
    Partly,
    /// Its time to live had ended.
    Expired,
    /// Somebody else holds it, or it is planned or cancelled already.
    Stale,
}
