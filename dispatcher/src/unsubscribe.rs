//! Links that turn a category and channel off for their recipient (RFC 8058). What a link names is signed, so that
//! holding it is enough and nobody else's can be made from it.

use std::{fmt::Write as _, sync::Arc};

use carillon_domain::{Category, ChannelKind, TenantId, UserId, ports::Seal};
use url::Url;

use crate::store::catalog::OptOut;

/// What the tags of these links are for.
const PURPOSE: &str = "unsubscribe";

/// Makes and reads the links.
#[derive(Clone)]
pub(crate) struct UnsubscribeLinks {
    seal: Arc<dyn Seal>,
    base: Option<Url>,
}

impl UnsubscribeLinks {
    /// None without something that signs.
    pub(crate) fn new(seal: Option<&Arc<dyn Seal>>, base: Option<&Url>) -> Option<Self> {
        Some(Self {
            seal: Arc::clone(seal?),
            base: base.cloned(),
        })
    }

    /// The link for a recipient; none where nobody knows what this server is called from outside.
    pub(crate) fn link(&self, opt_out: &OptOut) -> Option<String> {
        let base = self.base.as_ref()?;
        let tenant = if opt_out.tenant == TenantId::default() {
            String::new()
        } else {
            format!("t/{}/", opt_out.tenant)
        };
        let path = format!("{tenant}v1/unsubscribe/{}", self.token(opt_out));
        base.join(&path).ok().map(String::from)
    }

    /// What the link ends with: recipient, channel, category and tag.
    pub(crate) fn token(&self, opt_out: &OptOut) -> String {
        let mut token = format!("{}~{}~{}~", opt_out.user, opt_out.channel, opt_out.category);
        for byte in self.seal.tag(PURPOSE, &signed(opt_out)) {
            let _ = write!(token, "{byte:02x}");
        }
        token
    }

    /// What a token of the tenant names; none when it is none of ours.
    pub(crate) fn read(&self, tenant: &TenantId, token: &str) -> Option<OptOut> {
        let mut parts = token.split('~');
        let user: UserId = parts.next()?.parse().ok()?;
        let channel: ChannelKind = parts.next()?.parse().ok()?;
        let category: Category = parts.next()?.parse().ok()?;
        let tag = bytes(parts.next()?)?;
        let opt_out = OptOut {
            tenant: tenant.clone(),
            user,
            category,
            channel,
        };
        let ours = parts.next().is_none() && self.seal.is_tag(PURPOSE, &signed(&opt_out), &tag);
        ours.then_some(opt_out)
    }
}

/// None of the parts holds a line's end, so no two opt-outs read alike.
fn signed(opt_out: &OptOut) -> Vec<u8> {
    format!(
        "{}\n{}\n{}\n{}",
        opt_out.tenant, opt_out.user, opt_out.channel, opt_out.category
    )
    .into_bytes()
}

/// A tag from its 64 digits.
fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64
        || !digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use carillon_domain::Timestamp;
    use carillon_testkit::OpenSeal;

    use super::*;

    fn links(base: Option<&str>) -> UnsubscribeLinks {
        let seal: Arc<dyn Seal> = Arc::new(OpenSeal);
        let base = base.map(|base| base.parse().expect("a URL"));
        UnsubscribeLinks::new(Some(&seal), base.as_ref()).expect("signs")
    }

    fn opt_out(tenant: &str) -> OptOut {
        OptOut {
            tenant: tenant.parse().expect("a tenant"),
            user: UserId::at(Timestamp::from_seconds(1_767_323_045)),
            category: "a.b-c_d".parse().expect("a category"),
            channel: ChannelKind::EMAIL.parse().expect("a channel"),
        }
    }

    #[test]
    fn a_link_names_its_tenant_and_stands_below_the_public_url() {
        let own = opt_out("default");
        let link = links(Some("https://bell.example.org/hub/"))
            .link(&own)
            .expect("a link");
        assert!(
            link.starts_with("https://bell.example.org/hub/v1/unsubscribe/usr_"),
            "{link}"
        );
        let other = links(Some("https://bell.example.org/"))
            .link(&opt_out("acme"))
            .expect("a link");
        assert!(
            other.starts_with("https://bell.example.org/t/acme/v1/unsubscribe/usr_"),
            "{other}"
        );
        assert_eq!(links(None).link(&own), None);
    }

    #[test]
    fn only_what_was_signed_is_read() {
        let (links, own) = (links(None), opt_out("default"));
        let token = links.token(&own);
        assert_eq!(links.read(&own.tenant, &token), Some(own.clone()));
        assert_eq!(links.read(&"acme".parse().expect("a tenant"), &token), None);
        for changed in [
            token.replace("~email~", "~webhook~"),
            token.replace("a.b-c_d", "a.b-c_e"),
            token.replace("usr_0", "usr_1"),
            format!("{token}~"),
            format!("{token}0"),
            token[..token.len() - 1].to_owned(),
            token.to_uppercase(),
            String::new(),
            "~~~".to_owned(),
        ] {
            assert_eq!(links.read(&own.tenant, &changed), None, "{changed}");
        }
    }
}
