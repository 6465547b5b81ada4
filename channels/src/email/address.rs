//! Addresses of people, in one spelling.

use carillon_domain::{Address, Invalid};
use url::Host;

/// RFC 5321, 4.5.3.1.1.
const MAX_LOCAL: usize = 64;
/// RFC 5321, 4.5.3.1.3: a path is 256 bytes with its angle brackets.
const MAX_ADDRESS: usize = 254;
const MAX_DOMAIN: usize = 253;
const MAX_LABEL: usize = 63;

const EXPECTED: Invalid = Invalid(
    "expected an email address such as ada@example.org: at most 254 bytes, the part before the @ at most 64 of letters, \
     digits and !#$%&'*+-/=?^_`{|}~ with single dots between",
);
const EXPECTED_DOMAIN: Invalid = Invalid("expected an email address whose domain is a host name with a dot");

/// The canonical spelling of an address: trimmed, in lower case, the domain in ASCII (IDNA). Whether `Ada` and `ada` are one
/// mailbox only its host knows, and hardly one tells them apart; but what bounced, or was unsubscribed from, under one
/// spelling must not be written to under the other.
///
/// Quoted local parts, address literals and local parts beyond ASCII are refused: hardly anybody has one, and with them
/// go every way to smuggle something into a header or a command.
pub(super) fn canonical(text: &str) -> Result<Address, Invalid> {
    let (local, domain) = text.trim().rsplit_once('@').ok_or(EXPECTED)?;
    if !is_local_part(local) {
        return Err(EXPECTED);
    }
    let domain = domain_to_ascii(domain)?;
    if !domain.contains('.') {
        return Err(EXPECTED_DOMAIN);
    }
    let address = format!("{}@{domain}", local.to_ascii_lowercase());
    if address.len() > MAX_ADDRESS {
        return Err(EXPECTED);
    }
    address.parse()
}

/// Dot-atom of RFC 5322, 3.2.3.
fn is_local_part(local: &str) -> bool {
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    local.len() <= MAX_LOCAL && local.split('.').all(atom)
}

/// A host name in lower-case ASCII; labels beyond ASCII become `xn--...`.
pub(super) fn domain_to_ascii(domain: &str) -> Result<String, Invalid> {
    // The URL's rules would decode `%2e` and read `1.2.3.4` or `[::1]` as addresses: none of it is a name.
    let Ok(Host::Domain(ascii)) = Host::parse(domain) else {
        return Err(EXPECTED_DOMAIN);
    };
    let label = |label: &str| {
        matches!(label.len(), 1..=MAX_LABEL)
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.contains('%') || ascii.len() > MAX_DOMAIN || !ascii.split('.').all(label) {
        return Err(EXPECTED_DOMAIN);
    }
    Ok(ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_spellings_of_one_address_become_one() {
        for (text, expected) in [
            ("ada@example.org", "ada@example.org"),
            ("  Ada@Example.ORG \n", "ada@example.org"),
            ("ADA.Lovelace+News@example.org", "ada.lovelace+news@example.org"),
            ("a.b+tag@mail.example.org", "a.b+tag@mail.example.org"),
            ("ada@Bücher.example", "ada@xn--bcher-kva.example"),
            ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
            (
                "o'brien!#$%&*/=?^_`{|}~@example.org",
                "o'brien!#$%&*/=?^_`{|}~@example.org",
            ),
        ] {
            assert_eq!(
                canonical(text).map(|a| a.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long_label = format!("a@{}.org", "b".repeat(64));
        let long = format!("a@{}.org", "b.".repeat(126));
        for text in [
            "",
            "@",
            "ada",
            "@example.org",
            "ada@",
            "ada@localhost",
            "ada@.org",
            "ada@example..org",
            "ada@example.org.",
            ".ada@example.org",
            "ada.@example.org",
            "a..b@example.org",
            "a b@example.org",
            "\"a b\"@example.org",
            "ada@[127.0.0.1]",
            "ada@127.0.0.1",
            "ada@1.2.3",
            "ada@-a.org",
            "ada@a-.org",
            "ada@ex_ample.org",
            "ada@example%2eorg",
            "ada@b@example.org",
            "Ada <ada@example.org>",
            "ada@example.org,bob@example.org",
            "ada\r\nRCPT TO:<eve@example.org>@example.org",
            "ada@example.org>\r\nDATA",
            "ada\0@example.org",
            "ad\u{e4}@example.org",
            &long_local,
            &long_label,
            &long,
        ] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_plain_and_its_own_canonical_spelling(text in "\\PC{0,20}@?\\PC{0,20}|[ -~\\r\\n]{1,30}@[a-z.\\-<>\\r\\n]{1,20}") {
            if let Ok(address) = canonical(&text) {
                let address = address.as_str();
                prop_assert!(address.bytes().all(|b| b.is_ascii_graphic() && !b"<>,;:\"()[]\\".contains(&b)));
                prop_assert_eq!(canonical(address).map(|again| again.to_string()), Ok(address.to_owned()));
            }
        }
    }
}
