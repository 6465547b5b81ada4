//! Who there is in a trace: users with three devices each, whom the dispatchers ask for as they ask any directory.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, Clock, DeviceId, DeviceKind, ExternalUserId, SegmentName, TenantId, Timestamp,
    UserId,
    ports::{Audience, AudiencePage, Directory, Profile, ProfileDevice, Unavailable},
};
use parking_lot::Mutex;

/// A clock that shows what it is set to.
pub(super) struct SetClock(AtomicI64);

impl SetClock {
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    pub(super) fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// The users of the trace that runs.
pub(super) struct People {
    pub(super) clock: SetClock,
    users: Mutex<HashMap<UserId, Person>>,
}

pub(super) struct Person {
    pub(super) name: ExternalUserId,
    pub(super) devices: Vec<ProfileDevice>,
    /// What he had.
    pub(super) lost: Vec<ProfileDevice>,
    /// Until when he is in front of a device, as its last heartbeat says.
    pub(super) active_until: Option<Timestamp>,
}

impl People {
    pub(super) fn new() -> Self {
        Self {
            clock: SetClock::new(),
            users: Mutex::default(),
        }
    }

    /// Others than before.
    pub(super) fn replace(&self, users: HashMap<UserId, Person>) {
        *self.users.lock() = users;
    }

    pub(super) fn with<T>(&self, user: UserId, look: impl FnOnce(&mut Person) -> T) -> Option<T> {
        self.users.lock().get_mut(&user).map(look)
    }

    pub(super) fn clock_after(&self, seconds: u64) -> Timestamp {
        self.clock.now().after(std::time::Duration::from_secs(seconds))
    }

    /// Whether he is in front of a device now.
    pub(super) fn is_active(&self, user: UserId) -> bool {
        let now = self.clock.now();
        self.with(user, |person| {
            person.active_until.is_some_and(|until| until > now)
        })
        .unwrap_or_default()
    }

    /// Whoever is, and until when.
    pub(super) fn active(&self) -> HashMap<UserId, Timestamp> {
        let (users, now) = (self.users.lock(), self.clock.now());
        let until = users
            .iter()
            .filter_map(|(user, person)| Some((*user, person.active_until?)));
        until.filter(|(_, until)| *until > now).collect()
    }
}

/// A user with a phone, a browser and a mailbox.
pub(super) fn person(name: &str, devices: [DeviceId; 3]) -> Person {
    let device = |id, channel: &str, kind| ProfileDevice {
        id,
        channel: channel.parse().expect("a channel"),
        address: format!("{name}@{channel}").parse().expect("an address"),
        verified: true,
        kind,
        platform: None,
        locale: None,
        active_until: None,
    };
    let [phone, browser, mail] = devices;
    Person {
        name: name.parse().expect("a name"),
        devices: vec![
            device(phone, "fcm", DeviceKind::App),
            device(browser, "webpush", DeviceKind::Browser),
            device(mail, "email", DeviceKind::Email),
        ],
        lost: Vec::new(),
        active_until: None,
    }
}

#[async_trait]
impl Directory for People {
    async fn resolve(&self, _: &TenantId, names: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable> {
        let users = self.users.lock();
        let id = |name: &ExternalUserId| {
            let found = users.iter().find(|(_, person)| person.name == *name);
            *found.expect("nobody else is named").0
        };
        Ok(names.iter().map(id).collect())
    }

    async fn find(&self, _: &TenantId, name: &ExternalUserId) -> Result<Option<UserId>, Unavailable> {
        let users = self.users.lock();
        let found = users.iter().find(|(_, person)| person.name == *name);
        Ok(found.map(|(id, _)| *id))
    }

    async fn names(
        &self,
        _: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable> {
        let known = self.users.lock();
        let name = |user| known.get(user).map(|person| person.name.clone());
        Ok(users.iter().map(name).collect())
    }

    async fn profiles(&self, _: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable> {
        let (known, now) = (self.users.lock(), self.clock.now());
        let active = |until: Option<Timestamp>| until.filter(|until| *until > now);
        let profile = |user| {
            let Some(person) = known.get(user) else {
                return Profile::default();
            };
            let device = |device: &ProfileDevice| ProfileDevice {
                active_until: active(device.active_until),
                ..device.clone()
            };
            Profile {
                devices: person.devices.iter().map(device).collect(),
                active_until: active(person.active_until),
                ..Profile::default()
            }
        };
        Ok(users.iter().map(profile).collect())
    }

    async fn audience(
        &self,
        _: &TenantId,
        _: &[Audience],
        _: Option<UserId>,
        _: Timestamp,
        _: usize,
    ) -> Result<AudiencePage, Unavailable> {
        Ok(AudiencePage::default())
    }

    async fn has_segment(&self, _: &TenantId, _: &SegmentName) -> Result<bool, Unavailable> {
        Ok(false)
    }

    async fn retire(
        &self,
        _: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        _: &str,
    ) -> Result<(), Unavailable> {
        for person in self.users.lock().values_mut() {
            person
                .devices
                .retain(|device| (&device.channel, &device.address) != (channel, address));
        }
        Ok(())
    }
}
