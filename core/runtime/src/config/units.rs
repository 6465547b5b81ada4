//! Durations and sizes as people write them.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use carillon_domain::Invalid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in a configuration: `250ms`, `30s`, `5m`, `12h`, `3d`, or several of them as in `1h30m`. Whole
/// milliseconds; `0s` where a zero means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

impl Span {
    /// A number of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A number of days.
    pub const fn from_days(days: u64) -> Self {
        Self(Duration::from_secs(days * 86_400))
    }

    /// As a [`Duration`].
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Largest first, each in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: Invalid =
            Invalid("expected a length of time such as 250ms, 30s, 5m, 12h, 3d or 1h30m");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(EXPECTED);
        }
        let mut millis = 0_u64;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let number: u64 = rest[..digits].parse().map_err(|_| EXPECTED)?;
            let unit = &rest[digits..digits + letters];
            let (_, factor) = TIME_UNITS
                .into_iter()
                .find(|(name, _)| *name == unit)
                .ok_or(EXPECTED)?;
            millis = number
                .checked_mul(factor)
                .and_then(|part| millis.checked_add(part))
                .ok_or(EXPECTED)?;
            rest = rest[digits + letters..].trim_start();
        }
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in TIME_UNITS {
            let count = left / factor;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
            left %= factor;
        }
        Ok(())
    }
}

/// A number of bytes in a configuration: `512B`, `64KiB`, `8MiB`, `1GiB`. Units count in 1,024s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A number of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A number of KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1_024)
    }

    /// A number of MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1_024 * 1_024)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// In bytes, for what is held in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Largest first, each in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: Invalid = Invalid("expected a size such as 512B, 64KiB, 8MiB or 1GiB");
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = text[digits..].trim_start();
        let number: u64 = text[..digits].parse().map_err(|_| EXPECTED)?;
        let (_, factor) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or(EXPECTED)?;
        number.checked_mul(factor).map(Self).ok_or(EXPECTED)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

macro_rules! written_as_text {
    ($name:ident, $description:literal, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($description)
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $description, "pattern": $pattern})
            }
        }
    };
}

written_as_text!(Span, "duration", r"^([0-9]+(ms|s|m|h|d))+$");
written_as_text!(ByteSize, "size", r"^[0-9]+(B|KiB|MiB|GiB)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_do() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("3d", 259_200_000),
            ("0s", 0),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(
                (span, span.to_string().as_str()),
                (Span::from_millis(millis), text)
            );
        }
        assert_eq!("90s".parse::<Span>().expect("valid").to_string(), "1m30s");
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
            "1µs",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_as_people_do() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            ("8MiB", 8 << 20),
            ("1GiB", 1 << 30),
            ("0B", 0),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size, size.to_string().as_str()), (ByteSize::new(bytes), text));
        }
        assert_eq!("1500B".parse::<ByteSize>().expect("valid").to_string(), "1500B");
        for bad in ["", "64", "KiB", "1.5MiB", "1KB", "-1B", "99999999999GiB", "1é"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
