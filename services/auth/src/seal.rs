//! The master key's services to the other rooms: secrets sealed for storage, and tags for signed links.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_domain::ports::{Seal, Unavailable};

use crate::{MasterKey, MasterKeyError};

/// Sealed text is the id of the master key that sealed it, a dot, and what it gave in base64url.
impl Seal for MasterKey {
    fn seal(&self, place: &str, secret: &[u8]) -> Result<String, Unavailable> {
        let wrapped = self
            .wrap(&sealed_at(place), secret)
            .map_err(|error| Unavailable::new("sealing a secret", error))?;
        Ok(format!(
            "{}.{}",
            self.current_id(),
            URL_SAFE_NO_PAD.encode(wrapped)
        ))
    }

    fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, Unavailable> {
        let open = || {
            let (id, wrapped) = sealed.split_once('.').ok_or(MasterKeyError::Tampered)?;
            let wrapped = URL_SAFE_NO_PAD
                .decode(wrapped)
                .map_err(|_| MasterKeyError::Tampered)?;
            self.unwrap(id, &sealed_at(place), &wrapped)
        };
        open()
            .map(|secret| secret.to_vec())
            .map_err(|error| Unavailable::new("opening a sealed secret", error))
    }

    fn tag(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        sign(&expand(self.current_tags(), purpose), data)
    }

    fn is_tag(&self, purpose: &str, data: &[u8], tag: &[u8]) -> bool {
        // Which of the keys it was is no secret.
        self.all_tags()
            .any(|tags| hmac::verify(&expand(tags, purpose), data, tag).is_ok())
    }
}

/// Nothing that identity wraps for itself opens as a sealed secret, whatever place a caller names.
fn sealed_at(place: &str) -> String {
    format!("sealed\0{place}")
}

/// HKDF's first step (RFC 5869) on a master key.
pub(crate) fn extract(master: &[u8]) -> hmac::Key {
    let salt = hmac::Key::new(hmac::HMAC_SHA256, b"carillon tags");
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&salt, master).as_ref())
}

/// HKDF's second step for a key of 32 bytes, which is its first block alone: unlike a general one, it cannot fail.
fn expand(tags: &hmac::Key, purpose: &str) -> hmac::Key {
    let mut context = hmac::Context::with_key(tags);
    context.update(purpose.as_bytes());
    context.update(&[1]);
    hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
}

fn sign(key: &hmac::Key, data: &[u8]) -> [u8; 32] {
    let mut tag = [0; 32];
    tag.copy_from_slice(hmac::sign(key, data).as_ref());
    tag
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf;

    use super::*;

    const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const NEW: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

    fn keys(text: &str) -> MasterKey {
        MasterKey::from_secret(&text.into()).expect("good keys")
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let master = keys(OLD);
        let sealed = master.seal("endpoint/acme/whe_1", b"canary").expect("seals");
        assert!(!sealed.contains("canary"));
        assert_ne!(
            sealed,
            master.seal("endpoint/acme/whe_1", b"canary").expect("seals")
        );
        assert_eq!(
            master.open("endpoint/acme/whe_1", &sealed).expect("opens"),
            b"canary"
        );
        for place in ["endpoint/acme/whe_2", "endpoint/globex/whe_1", ""] {
            assert!(master.open(place, &sealed).is_err(), "{place}");
        }
        let wrapped = master.wrap("x", b"identity's own").expect("wraps");
        let foreign = format!("{}.{}", master.current_id(), URL_SAFE_NO_PAD.encode(wrapped));
        assert!(master.open("x", &foreign).is_err());
        assert!(
            master
                .seal("empty", b"")
                .is_ok_and(|sealed| master.open("empty", &sealed).is_ok())
        );
    }

    #[test]
    fn changed_text_does_not_open_and_errors_show_no_secret() {
        let master = keys(OLD);
        let sealed = master.seal("here", b"canary").expect("seals");
        let last = if sealed.ends_with('A') { 'Q' } else { 'A' };
        for bad in [
            String::new(),
            "no dot".to_owned(),
            format!("{}.", master.current_id()),
            format!("{}.!", master.current_id()),
            sealed.replacen(master.current_id(), "0000000000000000", 1),
            format!("{}{last}", &sealed[..sealed.len() - 1]),
        ] {
            let error = master.open("here", &bad).expect_err("refused");
            assert!(!format!("{error:?}").contains("canary"), "{bad}");
        }
    }

    #[test]
    fn older_keys_still_open_and_tag_while_they_are_listed() {
        let (old, both, new) = (keys(OLD), keys(&format!("{NEW}\n{OLD}")), keys(NEW));
        let sealed = old.seal("here", b"canary").expect("seals");
        assert_eq!(both.open("here", &sealed).expect("opens"), b"canary");
        assert!(new.open("here", &sealed).is_err());
        let fresh = both.seal("here", b"canary").expect("seals");
        assert_eq!(new.open("here", &fresh).expect("opens"), b"canary");
        let tag = old.tag("unsubscribe", b"data");
        assert!(old.is_tag("unsubscribe", b"data", &tag) && both.is_tag("unsubscribe", b"data", &tag));
        assert!(!new.is_tag("unsubscribe", b"data", &tag));
        assert_eq!(both.tag("unsubscribe", b"data"), new.tag("unsubscribe", b"data"));
    }

    #[test]
    fn a_tag_holds_for_its_purpose_and_data_alone() {
        let master = keys(OLD);
        let tag = master.tag("unsubscribe", b"data");
        assert!(!master.is_tag("unsubscribe", b"date", &tag));
        assert!(!master.is_tag("verification", b"data", &tag));
        assert!(!master.is_tag("unsubscribe", b"data", &tag[..31]));
        assert!(!master.is_tag("unsubscribe", b"data", &[]));
    }

    #[test]
    fn keys_of_tags_are_derived_as_rfc_5869_says() {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"carillon tags");
        let prk = salt.extract(&hex::decode(OLD).expect("hex"));
        let mut key = [0; 32];
        prk.expand(&[b"unsubscribe"], hkdf::HKDF_SHA256)
            .and_then(|block| block.fill(&mut key))
            .expect("derived");
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"data");
        assert_eq!(keys(OLD).tag("unsubscribe", b"data"), expected.as_ref());
    }
}
