//! DKIM signatures (RFC 6376), relaxed/relaxed, by RSA (`rsa-sha256`) and Ed25519 (`ed25519-sha256`, RFC 8463).

use aws_lc_rs::{
    digest::{self, SHA256},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use carillon_domain::Timestamp;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

/// What is signed where present, in this order. Those marked are listed once more than they occur, so that nobody adds a
/// second one under the signature (RFC 6376, 5.4.2).
const SIGNED: &[(&str, bool)] = &[
    ("from", true),
    ("to", true),
    ("subject", true),
    ("date", true),
    ("message-id", true),
    ("reply-to", true),
    ("mime-version", false),
    ("content-type", true),
    ("content-transfer-encoding", false),
    ("auto-submitted", false),
    ("list-unsubscribe", true),
    ("list-unsubscribe-post", true),
];

/// Characters of the signature per line.
const LINE: usize = 72;

/// Signs messages for one domain.
pub(super) struct Signer {
    domain: String,
    selector: String,
    key: Key,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// The key cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("expected a private key as PKCS#8 in PEM (-----BEGIN PRIVATE KEY-----)")]
    Pem,
    #[error("expected an RSA key of 2048 to 8192 bits, or an Ed25519 key")]
    Kind,
}

/// The message could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be signed with the DKIM key")]
pub(super) struct Unsigned;

impl Signer {
    pub(super) fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        let der = der.secret_pkcs8_der();
        // OpenSSL writes Ed25519 keys without their public half.
        let key = match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(key) => Key::Ed25519(key),
            Err(_) => Key::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Kind)?)),
        };
        Ok(Self {
            domain: domain.to_owned(),
            selector: selector.to_owned(),
            key,
        })
    }

    /// The header field `DKIM-Signature` for a whole message with CRLF line ends; it goes before everything else.
    pub(super) fn sign(&self, message: &[u8], at: Timestamp) -> Result<Vec<u8>, Unsigned> {
        let (head, body) = split(message);
        let fields = fields(head);
        let names = self.names(&fields);
        let algorithm = match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let mut field = format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d={};\r\n s={}; t={};\r\n h={};\r\n bh={};\r\n b=",
            self.domain,
            self.selector,
            at.as_seconds(),
            names.join(":\r\n  "),
            BASE64_STANDARD.encode(digest::digest(&SHA256, &relaxed_body(body))),
        );
        let signed = signed_data(&fields, &names, field.as_bytes());
        let signature = BASE64_STANDARD.encode(self.key.sign(&signed)?);
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            field.push_str("\r\n  ");
            field.push_str(line);
            rest = after;
        }
        field.push_str("\r\n");
        Ok(field.into_bytes())
    }

    fn names(&self, fields: &[Field<'_>]) -> Vec<&'static str> {
        let mut names = Vec::with_capacity(2 * SIGNED.len());
        for (name, once_more) in SIGNED {
            let count = fields
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
                .count();
            names.extend(std::iter::repeat_n(*name, count + usize::from(*once_more)));
        }
        names
    }
}

impl Key {
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Unsigned> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
                    .map_err(|_| Unsigned)?;
                Ok(signature)
            }
            // The hash is what Ed25519 signs (RFC 8463, 3).
            Self::Ed25519(key) => {
                let hash = digest::digest(&SHA256, data);
                let signature = key.try_sign(hash.as_ref()).map_err(|_| Unsigned)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

/// One header field: its name, and what follows the colon with its folds, without the last line end.
struct Field<'m> {
    name: &'m [u8],
    value: &'m [u8],
}

/// Head (with the last field's line end) and body.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match message.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, &[]),
    }
}

fn fields(head: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::with_capacity(16);
    let mut rest = head;
    while !rest.is_empty() {
        // A field ends at the first line end that no blank follows.
        let end = (0..rest.len())
            .find(|&at| rest[at] == b'\n' && !matches!(rest.get(at + 1), Some(b' ' | b'\t')))
            .map_or(rest.len(), |at| at + 1);
        let (field, after) = rest.split_at(end);
        rest = after;
        if let Some(colon) = field.iter().position(|byte| *byte == b':') {
            fields.push(Field {
                name: field[..colon].trim_ascii_end(),
                value: &field[colon + 1..],
            });
        }
    }
    fields
}

/// What is hashed and signed: the named fields, then the signature's own field, whose `b=` is empty. A name that occurs
/// again means the next such field from below; one that is not there counts as empty (RFC 6376, 3.7, 5.4.2).
fn signed_data(fields: &[Field<'_>], names: &[&str], own: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(1_024);
    let mut used = vec![false; fields.len()];
    for name in names {
        let found = (0..fields.len())
            .rev()
            .find(|&at| !used[at] && fields[at].name.eq_ignore_ascii_case(name.as_bytes()));
        if let Some(at) = found {
            used[at] = true;
            relaxed_field(&fields[at], &mut data);
            data.extend_from_slice(b"\r\n");
        }
    }
    for field in self::fields(own) {
        relaxed_field(&field, &mut data);
    }
    data
}

/// RFC 6376, 3.4.2, without the line end.
fn relaxed_field(field: &Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let words = field
        .value
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// RFC 6376, 3.4.4.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 2);
    // Where the last line that is not empty ends, its line end included.
    let mut end = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut blank = false;
        for byte in line {
            if matches!(byte, b' ' | b'\t') {
                blank = true;
                continue;
            }
            if blank {
                out.push(b' ');
                blank = false;
            }
            out.push(*byte);
        }
        let is_empty = out.len() == end || out.ends_with(b"\n");
        out.extend_from_slice(b"\r\n");
        if !is_empty {
            end = out.len();
        }
    }
    out.truncate(end);
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
    use proptest::prelude::*;

    use super::*;

    /// RFC 8463, A.3, without its signatures.
    const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\
        \r\n\
        Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    const NAMES: &[&str] = &[
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "from",
        "subject",
        "date",
    ];
    const BODY_HASH: &str = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";

    fn vector(field: &str) -> Vec<u8> {
        let (head, _) = split(MESSAGE.as_bytes());
        signed_data(&fields(head), NAMES, field.as_bytes())
    }

    #[test]
    fn the_ed25519_signature_of_rfc_8463_is_made_bit_for_bit() {
        let seed = BASE64_STANDARD
            .decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
            .expect("base64");
        let der = [
            &hex::decode("302e020100300506032b657004220420").expect("hex")[..],
            &seed,
        ]
        .concat();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(der)
        );
        let signer = Signer::new("football.example.com", "brisbane", &pem).expect("a key");
        let field = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; \
             i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : \
             message-id : from : subject : date;\r\n bh={BODY_HASH};\r\n b="
        );
        assert_eq!(
            BASE64_STANDARD.encode(signer.key.sign(&vector(&field)).expect("signs")),
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
        );
    }

    /// The vector's RSA key has 1,024 bits: too short to sign with here, so its signature is verified instead.
    #[test]
    fn the_rsa_signature_of_rfc_8463_is_of_what_we_would_sign() {
        let record = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b\
                      yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT\
                      +l/K4w3QIDAQAB";
        let signature = "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnG\
                         daSGsgeefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=";
        let field = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\
             \r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : \
             date;\r\n bh={BODY_HASH};\r\n b="
        );
        let key = UnparsedPublicKey::new(
            &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            BASE64_STANDARD.decode(record).expect("base64"),
        );
        let signature = BASE64_STANDARD.decode(signature).expect("base64");
        key.verify(&vector(&field), &signature)
            .expect("the vector verifies");
    }

    #[test]
    fn bodies_are_hashed_as_the_rfcs_say() {
        let hash = |body: &[u8]| BASE64_STANDARD.encode(digest::digest(&SHA256, &relaxed_body(body)));
        let (_, body) = split(MESSAGE.as_bytes());
        assert_eq!(hash(body), BODY_HASH);
        // RFC 6376, 3.4.4: an empty body.
        assert_eq!(hash(b""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        // RFC 6376, 3.4.5.
        assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
        assert_eq!(relaxed_body(b"\r\n\r\na\r\n\r\nb"), b"\r\n\r\na\r\n\r\nb\r\n");
        assert_eq!(relaxed_body(b" \t\r\n \r\n"), b"");
    }

    #[test]
    fn a_second_field_of_a_reader_is_excluded_and_the_lowest_counts_first() {
        let signed = |head: &str| signed_data(&fields(head.as_bytes()), &["subject", "subject"], b"b: c");
        assert_eq!(signed("Subject: a\r\n"), b"subject:a\r\nb:c");
        assert_eq!(
            signed("SUBJECT : x \t y\r\n  z \r\nSubject: a\r\n"),
            b"subject:a\r\nsubject:x y z\r\nb:c"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(
            Signer::new("a.example", "s", "nonsense").err(),
            Some(KeyError::Pem)
        );
        let wrong = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(Signer::new("a.example", "s", wrong).err(), Some(KeyError::Kind));
    }

    proptest! {
        #[test]
        fn canonical_bodies_stay_as_they_are(body in "[ \\tab.\\r\\n]{0,60}") {
            let once = relaxed_body(body.as_bytes());
            prop_assert_eq!(relaxed_body(&once), once);
        }

        #[test]
        fn no_message_panics(message in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..200)) {
            let (head, body) = split(&message);
            let _ = signed_data(&fields(head), NAMES, body);
        }
    }
}
