use std::{str::FromStr, sync::Arc};

use carillon_domain::Invalid;

/// A language tag (BCP 47, RFC 5646) in its canonical case: `de-AT`, `zh-Hant-TW`. Well-formed, at most 35 bytes; whether
/// its parts are registered is not looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locale(Arc<str>);

impl Locale {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Locale {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("a locale is a language tag such as en, de-AT or zh-Hant-TW");
        if text.len() > 35 {
            return Err(WRONG);
        }
        let mut canonical = String::with_capacity(text.len());
        let mut after_singleton = false;
        for (index, part) in text.split('-').enumerate() {
            let alphanumeric = part.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let alphabetic = part.bytes().all(|byte| byte.is_ascii_alphabetic());
            if !alphanumeric || !matches!(part.len(), 1..=8) {
                return Err(WRONG);
            }
            if index == 0 {
                if !alphabetic || part.len() == 1 {
                    return Err(WRONG);
                }
                canonical.push_str(&part.to_ascii_lowercase());
                continue;
            }
            canonical.push('-');
            // RFC 5646, 2.1.1: regions in capitals, scripts in title case, all else small, and everything behind a singleton.
            match part.len() {
                2 if !after_singleton && alphabetic => canonical.push_str(&part.to_ascii_uppercase()),
                4 if !after_singleton && alphabetic => {
                    canonical.push_str(&part[..1].to_ascii_uppercase());
                    canonical.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => canonical.push_str(&part.to_ascii_lowercase()),
            }
            after_singleton |= part.len() == 1;
        }
        // A singleton announces something.
        let last = canonical.rsplit('-').next().unwrap_or_default();
        if last.len() == 1 {
            return Err(WRONG);
        }
        Ok(Self(canonical.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_tag_has_one_case() {
        for (text, canonical) in [
            ("en", "en"),
            ("DE-at", "de-AT"),
            ("ZH-hANT-tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-ROZAJ-1994", "sl-rozaj-1994"),
            ("en-US-U-CA-GREGORY", "en-US-u-ca-gregory"),
        ] {
            let locale: Locale = text.parse().expect(text);
            assert_eq!(locale.as_str(), canonical);
        }
    }

    #[test]
    fn what_is_no_language_tag_is_refused() {
        for bad in [
            "",
            "e",
            "-",
            "en-",
            "en_US",
            "de--AT",
            "en-u",
            "123",
            "ninecharsx",
            "en-ninecharsx",
            "\u{fc}",
            "e n",
            &"a-".repeat(20),
        ] {
            assert!(bad.parse::<Locale>().is_err(), "{bad}");
        }
    }
}
