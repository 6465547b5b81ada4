//! The deciders, in their one order: the first that hits decides.

use std::cmp::Reverse;

use carillon_domain::{Category, ChannelKind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    CategoryPolicy, DigestName, Joining, OpenDigest, Preference, QuietHours, Reason, Resolved, Stand, Step,
    TenantPolicy, Zone, full, resolve,
};

/// What may keep an alert from going out now.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// The sender withdrew the notification.
    Cancelled,
    /// It was acknowledged.
    Acknowledged,
    /// Its time to live has ended.
    Expired,
    /// The address may not or cannot be used.
    Suppressed,
    /// The user, the category or the tenant turned it off.
    Preference,
    /// It joins a digest.
    Digest,
    /// It is quiet where the user lives.
    QuietHours,
    /// A device is active and shows it in the app. That is asked of each device; and while an in-app step has its time
    /// because somebody is active, the next step is not due at all, whatever would be decided about it.
    Hold,
    /// Too many at once.
    Throttle,
    /// Too many at all.
    Cap,
}

impl Decider {
    /// All of them, in the order in which they are asked.
    pub const ORDER: [Self; 10] = [
        Self::Cancelled,
        Self::Acknowledged,
        Self::Expired,
        Self::Suppressed,
        Self::Preference,
        Self::Digest,
        Self::QuietHours,
        Self::Hold,
        Self::Throttle,
        Self::Cap,
    ];

    /// As written in answers and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Acknowledged => "acknowledged",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Preference => "preference",
            Self::Digest => "digest",
            Self::QuietHours => "quiet_hours",
            Self::Hold => "hold",
            Self::Throttle => "throttle",
            Self::Cap => "cap",
        }
    }

    /// Whether it is asked about critical notifications too.
    pub fn holds_for_critical(self) -> bool {
        self <= Self::Suppressed
    }
}

/// What is known about a recipient at the time of a decision, read anew for each.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The recipient's addresses outside the inbox, each channel and address once.
    pub addresses: &'a [AddressFacts],
    /// What the user wants; empty for a plain address.
    pub preferences: &'a [Preference],
    /// The notification's category.
    pub category: &'a Category,
    /// What the category says.
    pub category_policy: &'a CategoryPolicy,
    /// What the tenant says, with caps and throttle.
    pub tenant: &'a TenantPolicy,
    /// When the user is not to be alerted.
    pub quiet_hours: Option<&'a QuietHours>,
    /// The user's time zone, else the tenant's, else UTC.
    pub zone: &'a Zone,
    /// When alerts of earlier notifications were counted for this user, at least as far back as the longest cap and the
    /// throttle reach; of the newest as many as the largest of them allows are enough.
    pub taken: &'a [Timestamp],
    /// Until when a device of the user is active; none, or not after now, when nobody is.
    pub active_until: Option<Timestamp>,
    /// Whether it passes over preferences and all that follows, and is not counted.
    pub critical: bool,
    /// Whether it is itself a digest, which joins no other.
    pub is_digest: bool,
    /// When the notification's time to live ends.
    pub closes_at: Timestamp,
}

/// What is known about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFacts {
    /// Over which channel it is reached.
    pub channel: ChannelKind,
    /// Whether it is on the suppression list.
    pub suppressed: bool,
    /// Whether the channel wants it verified and it is not.
    pub unverified: bool,
    /// Why the channel does not take it, for people.
    pub refused: Option<String>,
    /// Until when the device behind it is active.
    pub active_until: Option<Timestamp>,
    /// How well it was reached so far: 0 (never) to 100 (always); none when nobody knows.
    pub score: Option<u8>,
    /// The digest that is open for it, this category and digest key.
    pub open_digest: Option<OpenDigest>,
}

impl AddressFacts {
    /// A usable one of which nothing else is known.
    pub fn new(channel: ChannelKind) -> Self {
        Self {
            channel,
            suppressed: false,
            unverified: false,
            refused: None,
            active_until: None,
            score: None,
            open_digest: None,
        }
    }
}

/// What was decided about an address of a step that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An alert goes there now.
    Send,
    /// None does.
    Skip(Reason),
    /// It joins a digest.
    Digest {
        /// Which of the category's.
        name: DigestName,
        /// When that closes, with this member in it.
        joining: Joining,
    },
}

/// What was decided about one of [`Facts::addresses`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Which, by its index.
    pub address: usize,
    /// What.
    pub verdict: Verdict,
}

/// What becomes of the inbox entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InApp {
    /// It is written and pushed.
    Write {
        /// Whether it makes no sound: alerts are held or turned off.
        silent: bool,
    },
    /// The user wants none.
    Skip(Reason),
}

/// Whether a device is active at `now`, and until when.
pub(crate) fn active(until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    until.filter(|until| *until > now)
}

impl Facts<'_> {
    /// The deciders of a recipient as a whole.
    pub(crate) fn ended(&self, stand: &Stand, now: Timestamp) -> Option<Reason> {
        if stand.cancelled {
            Some(Reason::Cancelled)
        } else if stand.acknowledged {
            Some(Reason::Acknowledged)
        } else if self.closes_at <= now {
            Some(Reason::Expired { at: self.closes_at })
        } else {
            None
        }
    }

    /// Every address of `step` with what its own deciders say; those that get an alert come first, the best reached of
    /// them before the others.
    pub(crate) fn alerts(&self, step: &Step, now: Timestamp) -> Vec<Alert> {
        /// Between the proved and the failed.
        const UNKNOWN: u8 = 50;
        let mut alerts: Vec<Alert> = step
            .channels
            .iter()
            .flat_map(|channel| {
                let of_channel = move |(_, address): &(usize, &AddressFacts)| address.channel == *channel;
                self.addresses.iter().enumerate().filter(of_channel)
            })
            .map(|(index, address)| Alert {
                address: index,
                verdict: self.verdict(address, now),
            })
            .collect();
        alerts.sort_by_key(|alert| {
            let score = self.addresses[alert.address].score.unwrap_or(UNKNOWN);
            (alert.verdict != Verdict::Send, Reverse(score))
        });
        alerts
    }

    fn verdict(&self, address: &AddressFacts, now: Timestamp) -> Verdict {
        if address.suppressed {
            return Verdict::Skip(Reason::Suppressed);
        }
        if address.unverified {
            return Verdict::Skip(Reason::Unverified);
        }
        if let Some(detail) = &address.refused {
            return Verdict::Skip(Reason::Channel {
                detail: detail.clone(),
            });
        }
        if self.critical {
            return Verdict::Send;
        }
        if address.score == Some(0) {
            return Verdict::Skip(Reason::Unreachable);
        }
        let Resolved {
            enabled,
            decided_by,
            digest,
        } = self.resolved(&address.channel);
        if !enabled {
            return Verdict::Skip(Reason::Preference { decided_by });
        }
        let period = digest.filter(|_| !self.is_digest);
        let joining = period.and_then(|period| {
            let window = &period.window;
            let joining = window.join(address.open_digest, now, self.closes_at, self.zone)?;
            Some((period.name.clone(), joining))
        });
        joining.map_or(Verdict::Send, |(name, joining)| Verdict::Digest { name, joining })
    }

    fn resolved(&self, channel: &ChannelKind) -> Resolved<'_> {
        resolve(
            self.preferences,
            self.category,
            channel,
            self.category_policy,
            self.tenant,
        )
    }

    /// Until when quiet hours hold alerts.
    pub(crate) fn quiet(&self, now: Timestamp) -> Option<Reason> {
        let until = self.quiet_hours?.until(self.zone, now)?;
        Some(Reason::QuietHours {
            until,
            zone: self.zone.clone(),
        })
    }

    /// Until when the throttle holds alerts.
    pub(crate) fn throttled(&self, now: Timestamp) -> Option<Reason> {
        let throttle = self.tenant.throttle?;
        let until = throttle.free_at(self.taken, now)?;
        Some(Reason::Throttle {
            until,
            max: throttle.max,
            per: throttle.per,
        })
    }

    /// Whether a cap keeps alerts from going out.
    pub(crate) fn capped(&self, now: Timestamp) -> Option<Reason> {
        let full = full(&self.tenant.caps, self.taken, now)?;
        Some(Reason::Cap {
            max: full.cap.max,
            per: full.cap.per,
            free_at: full.free_at,
        })
    }

    /// The inbox keeps everything, unless somebody turned off the very channel. Where all alerts of the category are off,
    /// or are held now, the entry makes no sound. `counted`: whether an alert of this notification went out already.
    pub(crate) fn in_app(&self, counted: bool, now: Timestamp) -> InApp {
        if self.critical {
            return InApp::Write { silent: false };
        }
        let channel = ChannelKind::in_app();
        let resolved = self.resolved(&channel);
        let decided_by = resolved.decided_by;
        if !resolved.enabled && decided_by.names_the_channel(self.category_policy, &channel) {
            return InApp::Skip(Reason::Preference { decided_by });
        }
        let held = self.quiet(now).is_some() || (!counted && self.throttled(now).is_some());
        InApp::Write {
            silent: held || !resolved.enabled,
        }
    }
}

#[cfg(test)]
mod documented;
