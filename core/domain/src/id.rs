//! Opaque ids: a type prefix, an underscore and 32 hex digits of a UUIDv7 (RFC 9562), so that they sort by
//! creation time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::Timestamp;

/// The text is not an id of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of the form {0}_ followed by 32 hex digits")]
pub struct IdError(&'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix before the underscore.
            pub const PREFIX: &'static str = $prefix;
            /// The bytes of its text.
            pub const LENGTH: usize = $prefix.len() + 33;

            /// A new id, ordered by `now`; the random half comes from the operating system.
            pub fn at(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }

            /// From the sixteen bytes that a store keeps.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// From sixteen bytes that name it for good, such as a digest's: its order tells no time.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes that a store keeps.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl $name {
            /// Its text in a buffer: ids are written by the million, and so not piece by piece.
            pub fn text<'b>(&self, buffer: &'b mut [u8; Self::LENGTH]) -> &'b str {
                let (prefix, hex) = buffer.split_at_mut($prefix.len() + 1);
                prefix.copy_from_slice(concat!($prefix, "_").as_bytes());
                self.0.as_simple().encode_lower(hex);
                str::from_utf8(buffer).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text(&mut [0; Self::LENGTH]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    // One spelling per id: no dashes, no capitals, so that ids compare as text.
                    .filter(|hex| hex.len() == 32 && !hex.bytes().any(|b| b.is_ascii_uppercase()))
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(IdError($prefix))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text(&mut [0; Self::LENGTH]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-f]{32}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

id!(
    /// A notification: `ntf_...`.
    NotificationId, "ntf"
);
id!(
    /// A user's internal id, which keys and subjects use: `usr_...`. Callers name users by [`crate::ExternalUserId`].
    UserId, "usr"
);
id!(
    /// An inbox entry: `ent_...`.
    EntryId, "ent"
);
id!(
    /// A delivery: one notification to one address over one channel: `dlv_...`.
    DeliveryId, "dlv"
);
id!(
    /// A device: an address of a user, or an installation: `dev_...`.
    DeviceId, "dev"
);
id!(
    /// A registered webhook endpoint: `whe_...`.
    EndpointId, "whe"
);
id!(
    /// A secret that signs for a webhook endpoint: `sec_...`. Not the secret itself.
    SecretId, "sec"
);
id!(
    /// Something that happened, as webhook endpoints are told: `evt_...`.
    EventId, "evt"
);
id!(
    /// A domain event that was handed in: `cev_...`. Its sender's own name for it is its source and id.
    DomainEventId, "cev"
);
id!(
    /// A redrive of dead letters: `rdv_...`.
    RedriveId, "rdv"
);
id!(
    /// An API key: `key_...`. Not the secret.
    KeyId, "key"
);
id!(
    /// An envelope on the bus: `env_...`.
    EnvelopeId, "env"
);

/// With the microseconds in the twelve bits after the milliseconds (RFC 9562, 6.2, method 3): what was made later sorts
/// later, also within a millisecond.
fn uuid_v7(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    let mut random: [u8; 10] = rand::random();
    // The upper four of these sixteen bits become the version.
    let fraction = (micros % 1_000) * 4_096 / 1_000;
    random[..2].copy_from_slice(&(fraction as u16).to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling_and_sort_by_time() {
        let early = NotificationId::at(Timestamp::from_micros(1_000_000));
        for micros in [1_000_001, 1_000_999, 2_000_000] {
            let late = NotificationId::at(Timestamp::from_micros(micros));
            assert!(early < late && early.to_string() < late.to_string(), "{micros}");
        }
        assert_eq!(early.to_string().parse(), Ok(early));
        for bad in [
            "",
            "ntf_",
            "usr_0190d6a5c0de7000800000000000000",
            "ntf_0190D6A5C0DE70008000000000000000",
        ] {
            assert!(bad.parse::<NotificationId>().is_err(), "{bad}");
        }
    }
}
