//! Devices of users: where they are reached, and where they look. Pure: what a write changes is worked out from the rows
//! that are there.

use carillon_domain::{DeviceId, DeviceKind, DeviceName, PlainAddress, Timestamp};

/// How many devices of a user are in use at the most; as many are kept, the longest retired go first.
pub(crate) const MAX_DEVICES: usize = 32;

/// A device of a user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// Where it is reached outside the inbox, in the channel's canonical spelling.
    pub(crate) to: Option<PlainAddress>,
    /// As its app calls it.
    pub(crate) name: Option<DeviceName>,
    pub(crate) kind: DeviceKind,
    pub(crate) platform: Option<String>,
    /// BCP 47.
    pub(crate) locale: Option<String>,
    pub(crate) app_version: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) verified: bool,
    /// Why it is used no more, and since when.
    pub(crate) retired: Option<Retired>,
    pub(crate) created_at: Timestamp,
    /// When it was registered, changed or retired last.
    pub(crate) updated_at: Timestamp,
}

impl Device {
    fn new(id: DeviceId, kind: DeviceKind, now: Timestamp) -> Self {
        Self {
            id,
            to: None,
            name: None,
            kind,
            platform: None,
            locale: None,
            app_version: None,
            label: None,
            verified: false,
            retired: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Why and when a device was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// An address as a caller wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// In the channel's canonical spelling.
    pub(crate) to: PlainAddress,
    pub(crate) label: Option<String>,
    /// `None` leaves it as it is; a new or retired address begins unverified.
    pub(crate) verified: Option<bool>,
}

/// What a caller wants of a device. `None` leaves a member as it is; `Some(None)` removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeviceChange {
    /// Which one; else the address and the name tell.
    pub(crate) id: Option<DeviceId>,
    pub(crate) kind: Option<DeviceKind>,
    /// In the channel's canonical spelling.
    pub(crate) to: Option<Option<PlainAddress>>,
    pub(crate) name: Option<Option<DeviceName>>,
    pub(crate) platform: Option<Option<String>>,
    pub(crate) locale: Option<Option<String>>,
    pub(crate) app_version: Option<Option<String>>,
    pub(crate) label: Option<Option<String>>,
    pub(crate) verified: Option<bool>,
    /// Whether it is registered: one that is not there is made, one that was retired is used again.
    pub(crate) registers: bool,
    /// Whether the address is the user's whoever else confirmed it: the tenant says so.
    pub(crate) vouched: bool,
}

/// Why a device is not as a caller wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("there is no such device")]
    NotFound,
    #[error("a user has at most 32 devices")]
    Full,
    #[error("a device without an address is a browser or an app")]
    NoAddress,
    #[error("a new device without an address says its kind: browser or app")]
    NoKind,
    #[error("another device of the user has that name or address")]
    Taken,
}

/// Devices as they will be, and those that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// What is written.
    pub(crate) devices: Vec<Device>,
    /// What is removed before.
    pub(crate) gone: Vec<DeviceId>,
    /// Whether the first one is new.
    pub(crate) made: bool,
}

/// The addresses as they will be, in the order that the caller gave. An address that was there keeps its device; every
/// other one goes, but browsers and apps, which register themselves.
pub(crate) fn replace(known: &[Device], wanted: &[Wanted], now: Timestamp) -> Result<Written, DeviceError> {
    let device = |(index, wanted): (usize, &Wanted)| {
        let before = known.iter().find(|device| device.to.as_ref() == Some(&wanted.to));
        // A microsecond apart, so that new ids sort as they were given.
        let at = Timestamp::from_micros(now.as_micros().saturating_add(index as i64));
        let mut device = before.cloned().unwrap_or_else(|| Device {
            to: Some(wanted.to.clone()),
            ..Device::new(DeviceId::at(at), DeviceKind::over(&wanted.to.channel), now)
        });
        // A retired address may have come to belong to somebody else.
        let verified = device.verified && device.retired.is_none();
        device.verified = wanted.verified.unwrap_or(verified);
        device.retired = None;
        device.label.clone_from(&wanted.label);
        if before != Some(&device) {
            device.updated_at = now;
        }
        device
    };
    let devices: Vec<Device> = wanted.iter().enumerate().map(device).collect();
    let others = known
        .iter()
        .filter(|known| devices.iter().all(|device| device.id != known.id));
    let (kept, gone): (Vec<_>, Vec<_>) = others.partition(|device| device.kind.shows_inbox());
    let gone = gone.into_iter().map(|device| device.id).collect();
    let gone = room(&kept, devices.len(), gone)?;
    Ok(Written {
        devices,
        gone,
        made: false,
    })
}

/// A device registered or changed. What is known under the same id, address or name is one device and becomes it.
pub(crate) fn change(
    known: &[Device],
    change: &DeviceChange,
    now: Timestamp,
) -> Result<Written, DeviceError> {
    let to = change.to.as_ref().and_then(Option::as_ref);
    let name = change.name.as_ref().and_then(Option::as_ref);
    let has_address = |device: &&Device| to.is_some() && device.to.as_ref() == to;
    let has_name = |device: &&Device| name.is_some() && device.name.as_ref() == name;
    let before = match change.id {
        Some(id) => Some(
            known
                .iter()
                .find(|device| device.id == id)
                .ok_or(DeviceError::NotFound)?,
        ),
        None => known
            .iter()
            .find(has_address)
            .or_else(|| known.iter().find(has_name)),
    };
    let mut device = match before {
        Some(before) => before.clone(),
        None => {
            let kind = change.kind.or_else(|| to.map(|to| DeviceKind::over(&to.channel)));
            Device::new(DeviceId::at(now), kind.ok_or(DeviceError::NoKind)?, now)
        }
    };
    let (was_retired, had) = (device.retired.is_some(), device.to.clone());
    set(&mut device.to, &change.to);
    set(&mut device.name, &change.name);
    set(&mut device.platform, &change.platform);
    set(&mut device.locale, &change.locale);
    set(&mut device.app_version, &change.app_version);
    set(&mut device.label, &change.label);
    device.kind = change.kind.unwrap_or(device.kind);
    if change.registers {
        device.retired = None;
    }
    // What was confirmed is the address, as long as it is this one.
    let verified = device.verified && device.to == had && !(change.registers && was_retired);
    device.verified = device.to.is_some() && change.verified.unwrap_or(verified);
    if device.to.is_none() && !device.kind.shows_inbox() {
        return Err(DeviceError::NoAddress);
    }
    if before != Some(&device) {
        device.updated_at = now;
    }
    let mut gone = Vec::new();
    let mut others = Vec::new();
    for other in known.iter().filter(|other| other.id != device.id) {
        if !has_address(&other) && !has_name(&other) {
            others.push(other);
        } else if change.registers || other.retired.is_some() {
            gone.push(other.id);
        } else {
            return Err(DeviceError::Taken);
        }
    }
    let gone = room(&others, 1, gone)?;
    Ok(Written {
        devices: vec![device],
        gone,
        made: before.is_none(),
    })
}

/// Makes room for `new` devices beside `kept`: the longest retired go.
fn room(kept: &[&Device], new: usize, mut gone: Vec<DeviceId>) -> Result<Vec<DeviceId>, DeviceError> {
    let surplus = (kept.len() + new).saturating_sub(MAX_DEVICES);
    let mut retired: Vec<_> = kept
        .iter()
        .filter_map(|device| device.retired.as_ref().map(|retired| (retired.at, device.id)))
        .collect();
    if retired.len() < surplus {
        return Err(DeviceError::Full);
    }
    retired.sort_unstable();
    gone.extend(retired.into_iter().take(surplus).map(|(_, id)| id));
    Ok(gone)
}

fn set<T: Clone>(member: &mut Option<T>, wanted: &Option<Option<T>>) {
    if let Some(wanted) = wanted {
        member.clone_from(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(channel: &str, address: &str) -> PlainAddress {
        PlainAddress {
            channel: channel.parse().expect("a channel"),
            to: address.parse().expect("an address"),
        }
    }

    fn wanted(address: &str, verified: Option<bool>) -> Wanted {
        Wanted {
            to: to("email", address),
            label: None,
            verified,
        }
    }

    fn registered(address: Option<&str>, name: Option<&str>) -> DeviceChange {
        DeviceChange {
            kind: Some(DeviceKind::App),
            to: address.map(|address| Some(to("fcm", address))),
            name: name.map(|name| Some(name.parse().expect("a name"))),
            registers: true,
            ..DeviceChange::default()
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn an_address_that_stays_keeps_its_id_and_its_verification() {
        let known = replace(&[], &[wanted("a@x", Some(true)), wanted("b@x", None)], at(1_000));
        let known = known.expect("fits").devices;
        assert!(known[0].id < known[1].id && known[0].verified && !known[1].verified);
        let after = replace(&known, &[wanted("c@x", None), wanted("a@x", None)], at(9_000)).expect("fits");
        assert_eq!(after.devices[1], known[0]);
        assert_eq!((after.devices.len(), after.devices[0].created_at), (2, at(9_000)));
        assert_eq!(after.gone, [known[1].id]);
        let doubted = replace(&known, &[wanted("a@x", Some(false))], at(9_000)).expect("fits");
        assert!(!doubted.devices[0].verified);
    }

    #[test]
    fn a_retired_address_is_revived_unverified() {
        let now = at(1_000);
        let mut known = replace(&[], &[wanted("a@x", Some(true))], now)
            .expect("fits")
            .devices;
        known[0].retired = Some(Retired {
            reason: "gone".to_owned(),
            at: now,
        });
        let after = replace(&known, &[wanted("a@x", None)], now)
            .expect("fits")
            .devices;
        assert_eq!(
            (after[0].id, after[0].verified, &after[0].retired),
            (known[0].id, false, &None)
        );
        let vouched = replace(&known, &[wanted("a@x", Some(true))], now).expect("fits");
        assert!(vouched.devices[0].verified, "unless the tenant vouches");
    }

    #[test]
    fn a_list_of_addresses_leaves_apps_and_browsers_alone() {
        let app = change(&[], &registered(Some("token"), None), at(1))
            .expect("made")
            .devices;
        let after = replace(&app, &[wanted("a@x", None)], at(2)).expect("fits");
        assert_eq!(after.gone, []);
        let listed = Wanted {
            to: to("fcm", "token"),
            label: None,
            verified: None,
        };
        assert_eq!(
            replace(&app, &[listed], at(2)).expect("fits").devices[0].id,
            app[0].id
        );
    }

    #[test]
    fn what_is_known_under_the_same_address_or_name_is_the_same_device() {
        let made = change(&[], &registered(Some("one"), Some("phone")), at(1)).expect("made");
        assert!(made.made);
        let known = made.devices;
        // The token was renewed.
        let renewed = change(&known, &registered(Some("two"), Some("phone")), at(2)).expect("changed");
        assert_eq!((renewed.devices[0].id, renewed.made), (known[0].id, false));
        let again = change(&known, &registered(Some("one"), None), at(3)).expect("as it was");
        assert_eq!(again.devices, known);
        // Two that turn out to be one.
        let mut two = change(&known, &registered(Some("other"), Some("tablet")), at(4))
            .expect("made")
            .devices;
        two.extend(known.clone());
        let one = change(&two, &registered(Some("other"), Some("phone")), at(5)).expect("one");
        assert_eq!((one.devices[0].id, one.gone), (two[0].id, vec![known[0].id]));
    }

    #[test]
    fn another_address_is_not_confirmed_by_the_one_before() {
        let mut known = change(&[], &registered(Some("one"), Some("phone")), at(1))
            .expect("made")
            .devices;
        known[0].verified = true;
        let same = change(&known, &registered(Some("one"), Some("phone")), at(2)).expect("changed");
        assert!(same.devices[0].verified);
        let other = change(&known, &registered(Some("two"), Some("phone")), at(2)).expect("changed");
        assert!(!other.devices[0].verified);
    }

    #[test]
    fn a_change_needs_the_device_and_steals_from_no_other() {
        let mut known = change(&[], &registered(Some("one"), Some("a")), at(1))
            .expect("made")
            .devices;
        known.extend(
            change(&known, &registered(Some("two"), Some("b")), at(2))
                .expect("made")
                .devices,
        );
        let change_of = |id, change: DeviceChange| DeviceChange {
            id: Some(id),
            registers: false,
            ..change
        };
        let stolen = change(
            &known,
            &change_of(known[0].id, registered(Some("two"), None)),
            at(3),
        );
        assert_eq!(stolen, Err(DeviceError::Taken));
        let absent = change(
            &known,
            &change_of(DeviceId::at(at(9)), registered(None, None)),
            at(3),
        );
        assert_eq!(absent, Err(DeviceError::NotFound));
        let homeless = DeviceChange {
            kind: Some(DeviceKind::Phone),
            to: Some(None),
            ..DeviceChange::default()
        };
        let homeless = change(&known, &change_of(known[0].id, homeless), at(3));
        assert_eq!(homeless, Err(DeviceError::NoAddress));
        let nothing = change(
            &known,
            &DeviceChange {
                registers: true,
                ..DeviceChange::default()
            },
            at(3),
        );
        assert_eq!(nothing, Err(DeviceError::NoKind));
    }

    #[test]
    fn the_longest_retired_make_room() {
        let mut known: Vec<Device> = Vec::new();
        for n in 0..MAX_DEVICES as i64 {
            let made = change(&known, &registered(Some(&n.to_string()), None), at(n)).expect("made");
            known.extend(made.devices);
        }
        let next = registered(Some("next"), None);
        assert_eq!(change(&known, &next, at(99)), Err(DeviceError::Full));
        for (n, retired_at) in [(3, 80), (7, 70)] {
            known[n].retired = Some(Retired {
                reason: "gone".to_owned(),
                at: at(retired_at),
            });
        }
        assert_eq!(change(&known, &next, at(99)).expect("made").gone, [known[7].id]);
    }
}
