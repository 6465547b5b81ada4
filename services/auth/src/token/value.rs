//! Claims as typed values. A claim of the wrong type is an error, never an absent claim.

use carillon_domain::TopicGrants;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The last second that our times can hold, in the year 9999.
const LAST_SECOND: i64 = 253_402_207_200;

/// A verified token's claims.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// A text; `None` when absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Invalid("a claim that should be text is none")),
        }
    }

    /// Whole seconds since the Unix epoch; `None` when absent. A number in quotes or with a fraction is an error
    /// (RFC 7519 would let fractions pass; libraries differ on them, so that nothing should depend on one).
    pub(super) fn seconds(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(seconds @ 0..=LAST_SECOND) => Ok(Some(seconds)),
                _ => Err(Refusal::Invalid("a claim that should be a time is none")),
            },
        }
    }

    /// A structured claim; `None` when absent.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|_| Refusal::Invalid("a claim does not have its form")),
        }
    }

    /// What may be subscribed and published to; nothing when absent.
    pub(super) fn topics(&self) -> Result<TopicGrants, Refusal> {
        // Left to itself, serde would also read a list of the members' values.
        match self.0.get("topics") {
            Some(value) if !value.is_object() => Err(Refusal::Invalid("a claim does not have its form")),
            _ => Ok(self.read("topics")?.unwrap_or_default()),
        }
    }

    /// Texts, from one text or a list of them; `None` when absent.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, Refusal> {
        let wrong = || Refusal::Invalid("a claim that should be text or a list of texts is none");
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.map(Some).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// `jti`, which revocations name: 1-255 bytes without control characters.
    pub(super) fn jti(&self) -> Result<Option<String>, Refusal> {
        let jti = self.text("jti")?;
        match jti {
            Some(jti) if !matches!(jti.len(), 1..=255) || jti.chars().any(char::is_control) => {
                Err(Refusal::Invalid("its jti is malformed"))
            }
            jti => Ok(jti.map(str::to_owned)),
        }
    }

    /// Refuses what is not valid yet, with `leeway` seconds for clocks that differ. Answers `iat`.
    pub(super) fn begun(&self, now: i64, leeway: i64) -> Result<Option<i64>, Refusal> {
        let issued_at = self.seconds("iat")?;
        if issued_at.is_some_and(|issued| issued > now + leeway) {
            return Err(Refusal::Invalid("it was issued in the future"));
        }
        if self.seconds("nbf")?.is_some_and(|from| from > now + leeway) {
            return Err(Refusal::Invalid("it is not valid yet"));
        }
        Ok(issued_at)
    }
}
