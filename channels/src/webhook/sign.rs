//! The signature header.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::Engine as _;
use carillon_domain::ports::SigningKey;

use super::{
    KeyError,
    keys::{BASE64, Key},
};

/// The value of `webhook-signature`: one signature per key, in the keys' order, separated by spaces. What is signed is
/// `{id}.{timestamp}.{body}`; the timestamp counts seconds since the Unix epoch.
///
/// # Errors
/// When a key cannot be read.
pub fn sign(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> Result<String, KeyError> {
    let mut header = Header::new(id, timestamp, body);
    for key in keys {
        header.add(&Key::parse(key.expose())?);
    }
    Ok(header.into_value())
}

/// The header while its signatures are added.
pub(super) struct Header<'a> {
    prefix: String,
    body: &'a [u8],
    value: String,
}

impl<'a> Header<'a> {
    pub(super) fn new(id: &str, timestamp: i64, body: &'a [u8]) -> Self {
        let mut prefix = String::with_capacity(id.len() + 24);
        // Writing to a string cannot fail.
        let _ = write!(prefix, "{id}.{timestamp}.");
        Self {
            prefix,
            body,
            value: String::with_capacity(96),
        }
    }

    pub(super) fn add(&mut self, key: &Key) {
        if !self.value.is_empty() {
            self.value.push(' ');
        }
        match key {
            Key::Hmac(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(self.prefix.as_bytes());
                context.update(self.body);
                self.value.push_str("v1,");
                BASE64.encode_string(context.sign(), &mut self.value);
            }
            Key::Ed25519(pair) => {
                // Ed25519 reads its message twice, so it wants it in one piece.
                let message = [self.prefix.as_bytes(), self.body].concat();
                self.value.push_str("v1a,");
                BASE64.encode_string(pair.sign(&message), &mut self.value);
            }
        }
    }

    pub(super) fn into_value(self) -> String {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::{KeyKind, generate_ed25519, generate_hmac, kind_of, public_of};

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn the_published_vectors_pass() {
        let hmac = SigningKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let v1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&hmac), ID, AT, BODY).as_deref(), Ok(v1));
        let ed25519 = SigningKey::new("whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=");
        let v1a =
            "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
        assert_eq!(
            sign(std::slice::from_ref(&ed25519), ID, AT, BODY).as_deref(),
            Ok(v1a)
        );
        assert_eq!(sign(&[hmac, ed25519], ID, AT, BODY), Ok(format!("{v1} {v1a}")));
    }

    #[test]
    fn keys_that_we_make_can_be_read_and_differ() {
        let (one, two) = (generate_hmac().expect("made"), generate_hmac().expect("made"));
        assert!(one != two && kind_of(&one) == Ok(KeyKind::Hmac));
        assert_eq!(public_of(&one), Err(KeyError::NoPublic));
        let pair = generate_ed25519().expect("made");
        assert_eq!(kind_of(&pair.secret), Ok(KeyKind::Ed25519));
        assert!(pair.public.starts_with("whpk_") && public_of(&pair.secret) == Ok(pair.public));
        assert_eq!(format!("{one:?}"), "SigningKey([redacted])");
    }

    #[test]
    fn seed_and_public_half_may_come_together_and_must_belong_together() {
        let pair = generate_ed25519().expect("made");
        let half = |text: &str| {
            BASE64
                .decode(text.rsplit('_').next().expect("a part"))
                .expect("base64")
        };
        let (seed, public) = (half(pair.secret.expose()), half(&pair.public));
        let long =
            |public: &[u8]| SigningKey::new(format!("whsk_{}", BASE64.encode([&seed, public].concat())));
        let sign = |key: SigningKey| sign(&[key], ID, AT, BODY);
        assert_eq!(sign(long(&public)), sign(pair.secret.clone()));
        let other = half(&generate_ed25519().expect("made").public);
        assert_eq!(sign(long(&other)), Err(KeyError::Halves));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (text, fault) in [
            ("", KeyError::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Prefix),
            ("whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Prefix),
            ("whsec_", KeyError::Length),
            ("whsec_*", KeyError::Base64),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KeyError::Length), // 23 bytes
            ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Length),  // 24 bytes
        ] {
            assert_eq!(kind_of(&SigningKey::new(text)), Err(fault), "{text}");
        }
        let bytes = |count: usize| SigningKey::new(format!("whsec_{}", BASE64.encode(vec![7; count])));
        let kinds = [23, 24, 64, 65].map(|count| kind_of(&bytes(count)).is_ok());
        assert_eq!(kinds, [false, true, true, false]);
    }
}
