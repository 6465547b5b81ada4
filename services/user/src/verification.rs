//! Codes by which the owner of an address confirms it.
//!
//! **Invariants**: a code is stored only as a tag under the master key; each answer is counted before it is compared; an
//! address gets few codes, so that guessing goes nowhere.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    DeviceId, ExternalUserId, TenantId, Timestamp,
    ports::{Directory as _, Unavailable, Verification, Verifier},
};

use crate::{Users, device::Device};

/// How long a code holds.
const LIFE: Duration = Duration::from_secs(600);

/// How often a code may be answered.
pub(crate) const MAX_TRIES: i64 = 5;

/// The shortest time between two codes to one address.
const PAUSE: Duration = Duration::from_secs(30);

/// How many codes an address gets in [`WINDOW`].
const MAX_CODES: i64 = 10;

const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// What the tags of codes are for.
const PURPOSE: &str = "address verification";

/// Why no code was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendCodeError {
    #[error("there is no such device")]
    NotFound,
    #[error("the address is verified already")]
    Verified,
    #[error("the address was retired: register it anew first")]
    Retired,
    #[error("the device has no address")]
    NoAddress,
    #[error("the address was sent enough codes")]
    TooSoon {
        /// Until when.
        wait: Duration,
    },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why an address was not confirmed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    #[error("there is no such device")]
    NotFound,
    #[error("no code is waiting: it is used, over, or was answered too often")]
    NoCode,
    #[error("that is not the code")]
    Wrong,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is stored of codes beside a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) last: Option<Timestamp>,
    /// How many since `since`.
    pub(crate) codes: i64,
    pub(crate) since: Option<Timestamp>,
}

/// A code to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCode {
    /// Its tag.
    pub(crate) tag: [u8; 32],
    pub(crate) expires_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// Whether another code may be sent to `device`; what is to be stored of that. Pure.
pub(crate) fn another(device: &Device, sent: Sent, now: Timestamp) -> Result<Sent, SendCodeError> {
    if device.retired.is_some() {
        return Err(SendCodeError::Retired);
    }
    if device.to.is_none() {
        return Err(SendCodeError::NoAddress);
    }
    if device.verified {
        return Err(SendCodeError::Verified);
    }
    let wait = |since: Timestamp, span| Some(since.after(span).since(now)).filter(|left| !left.is_zero());
    if let Some(wait) = sent.last.and_then(|last| wait(last, PAUSE)) {
        return Err(SendCodeError::TooSoon { wait });
    }
    match sent.since.and_then(|since| wait(since, WINDOW)) {
        Some(wait) if sent.codes >= MAX_CODES => Err(SendCodeError::TooSoon { wait }),
        Some(_) => Ok(Sent {
            last: Some(now),
            codes: sent.codes + 1,
            since: sent.since,
        }),
        None => Ok(Sent {
            last: Some(now),
            codes: 1,
            since: Some(now),
        }),
    }
}

impl Users {
    /// Registers who sends verification codes; without one, none can be sent.
    pub fn verifies(&self, verifier: Arc<dyn Verifier>) {
        *self.verifier.write() = Some(verifier);
    }

    /// Sends a fresh code to an address that is not verified; answers until when it holds.
    pub(crate) async fn send_code(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        device: DeviceId,
    ) -> Result<Timestamp, SendCodeError> {
        let verifier = self.verifier.read().clone();
        let verifier =
            verifier.ok_or_else(|| Unavailable::new("sending a verification code", "nothing sends them"))?;
        let id = self.find(tenant, user).await?.ok_or(SendCodeError::NotFound)?;
        let code = format!("{:06}", rand::random_range(0..1_000_000_u32));
        let now = self.clock.now();
        let new = NewCode {
            tag: self.seal.tag(PURPOSE, &tagged(tenant, device, &code)),
            expires_at: now.after(LIFE),
            now,
        };
        let begun = self.store.begin_code(tenant, id, device, &new).await;
        let (locale, device) = begun.map_err(Unavailable::from)??;
        let to = device.to.ok_or(SendCodeError::NoAddress)?;
        let verification = Verification {
            tenant: tenant.clone(),
            user: user.clone(),
            locale: locale.map(Arc::from),
            device: device.id,
            to,
            code,
            expires_at: new.expires_at,
        };
        if let Err(error) = verifier.send(verification).await {
            // Nobody got it: another may be asked for at once.
            let dropped = self.store.drop_code(tenant, id, device.id, &new.tag).await;
            dropped.map_err(Unavailable::from)?;
            return Err(error.into());
        }
        Ok(new.expires_at)
    }

    /// Confirms an address by its code.
    pub(crate) async fn confirm(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        device: DeviceId,
        code: &str,
    ) -> Result<(), ConfirmError> {
        let id = self.find(tenant, user).await?.ok_or(ConfirmError::NotFound)?;
        let tag = self.store.take_try(tenant, id, device, self.clock.now()).await;
        let tag = tag
            .map_err(Unavailable::from)?
            .ok_or(ConfirmError::NotFound)?
            .ok_or(ConfirmError::NoCode)?;
        if !self.seal.is_tag(PURPOSE, &tagged(tenant, device, code), &tag) {
            return Err(ConfirmError::Wrong);
        }
        let verified = self.store.verify(tenant, id, device, &tag).await;
        self.forget_profiles(tenant, &[id]).await;
        if verified.map_err(Unavailable::from)? {
            Ok(())
        } else {
            Err(ConfirmError::NoCode)
        }
    }
}

/// What a code's tag is over. Neither a tenant nor a device holds a NUL.
fn tagged(tenant: &TenantId, device: DeviceId, code: &str) -> Vec<u8> {
    format!("{tenant}\0{device}\0{code}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        let wanted = crate::device::Wanted {
            to: carillon_domain::PlainAddress {
                channel: "email".parse().expect("a channel"),
                to: "a@x".parse().expect("an address"),
            },
            label: None,
            verified: None,
        };
        let written = crate::device::replace(&[], &[wanted], Timestamp::default());
        written.expect("fits").devices.remove(0)
    }

    #[test]
    fn an_address_gets_ten_codes_a_day_and_one_in_thirty_seconds() {
        let (device, start) = (device(), Timestamp::from_micros(1_000_000));
        let (mut sent, mut now) = (Sent::default(), start);
        for _ in 0..MAX_CODES {
            sent = another(&device, sent, now).expect("sent");
            let soon = another(&device, sent, now.after(Duration::from_secs(29)));
            assert!(matches!(soon, Err(SendCodeError::TooSoon { wait }) if wait == Duration::from_secs(1)));
            now = now.after(PAUSE);
        }
        let enough = another(&device, sent, now);
        assert!(
            matches!(enough, Err(SendCodeError::TooSoon { wait }) if now.after(wait) == start.after(WINDOW))
        );
        let next_day = another(&device, sent, start.after(WINDOW)).expect("a new day");
        assert_eq!(next_day.codes, 1);
    }
}
