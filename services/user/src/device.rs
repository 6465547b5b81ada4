//! Addresses of users, as devices. Pure: what a write changes is worked out from the rows that are there.

use carillon_domain::{Address, ChannelKind, DeviceId, Timestamp};

/// How many addresses a user has at the most, retired ones included.
pub(crate) const MAX_DEVICES: usize = 32;

/// An address of a user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) label: Option<String>,
    pub(crate) verified: bool,
    /// Why it is used no more, and since when.
    pub(crate) retired: Option<Retired>,
    pub(crate) created_at: Timestamp,
}

/// Why and when an address was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// An address as a caller wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) channel: ChannelKind,
    /// In the channel's canonical spelling.
    pub(crate) address: Address,
    pub(crate) label: Option<String>,
    /// `None` leaves it as it is; a new or retired address begins unverified.
    pub(crate) verified: Option<bool>,
}

/// What a caller wants of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// `None` leaves the language as it is; `Some(None)` removes it.
    pub(crate) locale: Option<Option<String>>,
    /// `None` leaves the addresses as they are; else this is the whole set.
    pub(crate) devices: Option<Vec<Wanted>>,
}

/// The devices as they will be, in the order that the caller gave. An address that was there keeps its id; every other
/// one of `known` goes.
pub(crate) fn replace(known: &[Device], wanted: &[Wanted], now: Timestamp) -> Vec<Device> {
    let same = |device: &&Device, wanted: &Wanted| {
        (&device.channel, &device.address) == (&wanted.channel, &wanted.address)
    };
    let device = |(index, wanted): (usize, &Wanted)| {
        let before = known.iter().find(|device| same(device, wanted));
        // A retired address may have come to belong to somebody else.
        let verified = before.is_some_and(|device| device.verified && device.retired.is_none());
        // A microsecond apart, so that new ids sort as they were given.
        let at = Timestamp::from_micros(now.as_micros().saturating_add(index as i64));
        Device {
            id: before.map_or_else(|| DeviceId::at(at), |device| device.id),
            channel: wanted.channel.clone(),
            address: wanted.address.clone(),
            label: wanted.label.clone(),
            verified: wanted.verified.unwrap_or(verified),
            retired: None,
            created_at: before.map_or(now, |device| device.created_at),
        }
    };
    wanted.iter().enumerate().map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(address: &str, verified: Option<bool>) -> Wanted {
        Wanted {
            channel: "email".parse().expect("a channel"),
            address: address.parse().expect("an address"),
            label: None,
            verified,
        }
    }

    #[test]
    fn an_address_that_stays_keeps_its_id_and_its_verification() {
        let (early, late) = (Timestamp::from_micros(1_000), Timestamp::from_micros(9_000));
        let known = replace(&[], &[wanted("a@x", Some(true)), wanted("b@x", None)], early);
        assert!(known[0].id < known[1].id && known[0].verified && !known[1].verified);
        let after = replace(&known, &[wanted("c@x", None), wanted("a@x", None)], late);
        assert_eq!(after[1], known[0]);
        assert_eq!((after.len(), after[0].created_at), (2, late));
        let doubted = replace(&known, &[wanted("a@x", Some(false))], late);
        assert!(!doubted[0].verified);
    }

    #[test]
    fn a_retired_address_is_revived_unverified() {
        let now = Timestamp::from_micros(1_000);
        let mut known = replace(&[], &[wanted("a@x", Some(true))], now);
        known[0].retired = Some(Retired {
            reason: "gone".to_owned(),
            at: now,
        });
        let after = replace(&known, &[wanted("a@x", None)], now);
        assert_eq!(
            (after[0].id, after[0].verified, &after[0].retired),
            (known[0].id, false, &None)
        );
        assert!(
            replace(&known, &[wanted("a@x", Some(true))], now)[0].verified,
            "unless the tenant vouches"
        );
    }
}
