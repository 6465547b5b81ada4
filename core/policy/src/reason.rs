//! Why something was decided, as data and in plain words.

use std::fmt;

use carillon_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Condition, DecidedBy, Decider, DigestName, Zone, zone::instant};

/// Why a recipient, a step or an address was decided as it was. Written with a tag, as in
/// `{"reason": "quiet_hours", "until": "..", "zone": "Europe/Berlin"}`; [`fmt::Display`] says it in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The sender withdrew the notification.
    Cancelled,
    /// Somebody whose acknowledgement counts has acknowledged it.
    Acknowledged,
    /// Its time to live has ended.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The address is on the suppression list.
    Suppressed,
    /// The channel sends only to verified addresses, and this one is not.
    Unverified,
    /// The channel does not take the address.
    Channel {
        /// What the channel says about it.
        detail: String,
    },
    /// The device has proved to be out of reach.
    Unreachable,
    /// Alerts are turned off.
    Preference {
        /// Where.
        decided_by: DecidedBy,
    },
    /// The alert goes out with a digest.
    Digest {
        /// The digest's name within the category.
        name: DigestName,
        /// When it closes, as far as is known now.
        until: Timestamp,
    },
    /// It is quiet where the user lives.
    QuietHours {
        /// Until when.
        until: Timestamp,
        /// On whose wall clock.
        zone: Zone,
    },
    /// A device of the user is active, and shows the notification in the app.
    Active {
        /// Until when the others wait at most.
        until: Timestamp,
    },
    /// This very device is active, and shows the notification in the app.
    DeviceActive,
    /// The user got as many alerts as go out at once.
    Throttle {
        /// When the next may go.
        until: Timestamp,
        /// How many there may be.
        max: u32,
        /// In how many seconds.
        per: u32,
    },
    /// The user got as many alerts as are allowed.
    Cap {
        /// How many there may be.
        max: u32,
        /// In how many seconds.
        per: u32,
        /// When there is room again.
        free_at: Timestamp,
    },
    /// A condition of the step does not hold.
    Condition {
        /// Which.
        condition: Condition,
    },
    /// The user has no address over the step's channels.
    NoAddress,
    /// None of the step's addresses may be used, each for a reason of its own.
    NothingToSend,
}

impl Reason {
    /// The tag that it is written with.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Acknowledged => "acknowledged",
            Self::Expired { .. } => "expired",
            Self::Suppressed => "suppressed",
            Self::Unverified => "unverified",
            Self::Channel { .. } => "channel",
            Self::Unreachable => "unreachable",
            Self::Preference { .. } => "preference",
            Self::Digest { .. } => "digest",
            Self::QuietHours { .. } => "quiet_hours",
            Self::Active { .. } => "active",
            Self::DeviceActive => "device_active",
            Self::Throttle { .. } => "throttle",
            Self::Cap { .. } => "cap",
            Self::Condition { .. } => "condition",
            Self::NoAddress => "no_address",
            Self::NothingToSend => "nothing_to_send",
        }
    }

    /// Which decider gave it; none when it is the plan's.
    pub const fn decider(&self) -> Option<Decider> {
        Some(match self {
            Self::Cancelled => Decider::Cancelled,
            Self::Acknowledged => Decider::Acknowledged,
            Self::Expired { .. } => Decider::Expired,
            Self::Suppressed | Self::Unverified | Self::Channel { .. } | Self::Unreachable => {
                Decider::Suppressed
            }
            Self::Preference { .. } => Decider::Preference,
            Self::Digest { .. } => Decider::Digest,
            Self::QuietHours { .. } => Decider::QuietHours,
            Self::Active { .. } | Self::DeviceActive => Decider::Hold,
            Self::Throttle { .. } => Decider::Throttle,
            Self::Cap { .. } => Decider::Cap,
            Self::Condition { .. } | Self::NoAddress | Self::NothingToSend => return None,
        })
    }

    /// Until when it holds, if it ends by itself.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Digest { until, .. }
            | Self::QuietHours { until, .. }
            | Self::Active { until }
            | Self::Throttle { until, .. } => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled by its sender"),
            Self::Acknowledged => f.write_str("acknowledged"),
            Self::Expired { at } => write!(f, "expired at {}", Second(*at)),
            Self::Suppressed => f.write_str("skipped: the address is suppressed"),
            Self::Unverified => f.write_str("skipped: the address is not verified"),
            Self::Channel { detail } => write!(f, "skipped: {detail}"),
            Self::Unreachable => f.write_str("skipped: the device has proved to be out of reach"),
            Self::Preference { decided_by } => write!(
                f,
                "skipped: turned off {}",
                match decided_by {
                    DecidedBy::UserCategoryChannel => "by the user for this category and channel",
                    DecidedBy::UserChannel => "by the user for this channel",
                    DecidedBy::UserCategory => "by the user for this category",
                    DecidedBy::Category => "by the category",
                    DecidedBy::Tenant => "by the tenant",
                    DecidedBy::Default => "by default",
                }
            ),
            Self::Digest { name, until } => {
                write!(f, "joins the digest {name}, which closes at {}", Second(*until))
            }
            Self::QuietHours { until, zone } => {
                write!(f, "held until {}: quiet hours in {zone}", Second(*until))
            }
            Self::Active { until } => {
                write!(f, "held until {}: a device of the user is active", Second(*until))
            }
            Self::DeviceActive => f.write_str("skipped: the device is active and shows it in the app"),
            Self::Throttle { until, max, per } => write!(
                f,
                "held until {}: at most {} go out at once",
                Second(*until),
                Alerts(*max, *per)
            ),
            Self::Cap { max, per, free_at } => write!(
                f,
                "skipped: at most {} are allowed, the next from {}",
                Alerts(*max, *per),
                Second(*free_at)
            ),
            Self::Condition { condition } => f.write_str(match condition {
                Condition::Unacknowledged => "passed over: it was acknowledged",
                Condition::Unseen => "passed over: it was seen",
                Condition::Inactive => "passed over: a device of the user is active",
                Condition::Reachable => "passed over: no device of the step can be reached",
            }),
            Self::NoAddress => f.write_str("passed over: the user has no address over these channels"),
            Self::NothingToSend => f.write_str("passed over: none of its addresses may be used"),
        }
    }
}

/// RFC 3339 in whole seconds.
struct Second(Timestamp);

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}", instant(self.0))
    }
}

/// So many alerts in so long.
struct Alerts(u32, u32);

impl fmt::Display for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(max, per) = *self;
        write!(f, "{max} alert{} in ", if max == 1 { "" } else { "s" })?;
        let (count, unit) = match per {
            per if per % 86_400 == 0 => (per / 86_400, "day"),
            per if per % 3_600 == 0 => (per / 3_600, "hour"),
            per if per % 60 == 0 => (per / 60, "minute"),
            per => (per, "second"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_plain_words_and_come_back_from_json() {
        let at = Timestamp::parse("2026-11-22T07:00:00.5Z").expect("a time");
        for (reason, words) in [
            (
                Reason::QuietHours {
                    until: at,
                    zone: "Europe/Berlin".parse().expect("a zone"),
                },
                "held until 2026-11-22T07:00:00Z: quiet hours in Europe/Berlin",
            ),
            (
                Reason::Cap {
                    max: 3,
                    per: 86_400,
                    free_at: at,
                },
                "skipped: at most 3 alerts in 1 day are allowed, the next from 2026-11-22T07:00:00Z",
            ),
            (
                Reason::Throttle {
                    until: at,
                    max: 1,
                    per: 120,
                },
                "held until 2026-11-22T07:00:00Z: at most 1 alert in 2 minutes go out at once",
            ),
            (
                Reason::Preference {
                    decided_by: DecidedBy::UserCategory,
                },
                "skipped: turned off by the user for this category",
            ),
            (
                Reason::Digest {
                    name: "daily".parse().expect("a name"),
                    until: at,
                },
                "joins the digest daily, which closes at 2026-11-22T07:00:00Z",
            ),
            (
                Reason::Channel {
                    detail: "email is not configured".to_owned(),
                },
                "skipped: email is not configured",
            ),
            (
                Reason::Condition {
                    condition: Condition::Unseen,
                },
                "passed over: it was seen",
            ),
        ] {
            assert_eq!(reason.to_string(), words);
            let json = serde_json::to_value(&reason).expect("JSON");
            assert_eq!(json["reason"], reason.as_str());
            assert_eq!(serde_json::from_value::<Reason>(json).expect("a reason"), reason);
        }
    }
}
