//! Links that serve whoever holds them, without signing in. What a link names is signed, so that nobody else's can be
//! made from it: one turns a category and channel off for its recipient (RFC 8058), one opens the page on which the
//! recipient chooses what comes.

use std::{fmt::Write as _, sync::Arc};

use carillon_domain::{Category, ChannelKind, TenantId, UserId, ports::Seal};
use url::Url;

use crate::store::catalog::OptOut;

/// What the tags of links are for that turn something off.
const UNSUBSCRIBE: &str = "unsubscribe";
/// What the tags of links to the page of preferences are for.
const PREFERENCES: &str = "preferences";

/// Makes and reads the links.
#[derive(Clone)]
pub(crate) struct SignedLinks {
    seal: Arc<dyn Seal>,
    base: Option<Url>,
}

impl SignedLinks {
    /// None without something that signs.
    pub(crate) fn new(seal: Option<&Arc<dyn Seal>>, base: Option<&Url>) -> Option<Self> {
        Some(Self {
            seal: Arc::clone(seal?),
            base: base.cloned(),
        })
    }

    /// The link that turns something off; none where nobody knows what this server is called from outside.
    pub(crate) fn unsubscribe(&self, opt_out: &OptOut) -> Option<String> {
        self.link(&opt_out.tenant, "unsubscribe", &self.unsubscribe_token(opt_out))
    }

    /// The link to a recipient's page of preferences; none where nobody knows what this server is called from outside.
    pub(crate) fn preferences(&self, tenant: &TenantId, user: UserId) -> Option<String> {
        self.link(tenant, "preferences", &self.preferences_token(tenant, user))
    }

    fn link(&self, tenant: &TenantId, page: &str, token: &str) -> Option<String> {
        let base = self.base.as_ref()?;
        let prefix = if *tenant == TenantId::default() {
            String::new()
        } else {
            format!("t/{tenant}/")
        };
        base.join(&format!("{prefix}v1/{page}/{token}"))
            .ok()
            .map(String::from)
    }

    /// What the link ends with: recipient, channel, category and tag.
    pub(crate) fn unsubscribe_token(&self, opt_out: &OptOut) -> String {
        let named = format!("{}~{}~{}", opt_out.user, opt_out.channel, opt_out.category);
        tagged(named, &self.seal.tag(UNSUBSCRIBE, &signed(opt_out)))
    }

    /// What the link ends with: recipient and tag.
    pub(crate) fn preferences_token(&self, tenant: &TenantId, user: UserId) -> String {
        tagged(
            user.to_string(),
            &self.seal.tag(PREFERENCES, &signed_user(tenant, user)),
        )
    }

    /// What a token of the tenant turns off; none when it is none of ours.
    pub(crate) fn read_unsubscribe(&self, tenant: &TenantId, token: &str) -> Option<OptOut> {
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
        let ours = parts.next().is_none() && self.seal.is_tag(UNSUBSCRIBE, &signed(&opt_out), &tag);
        ours.then_some(opt_out)
    }

    /// Whose page a token of the tenant opens; none when it is none of ours.
    pub(crate) fn read_preferences(&self, tenant: &TenantId, token: &str) -> Option<UserId> {
        let (user, tag) = token.split_once('~')?;
        let user: UserId = user.parse().ok()?;
        let tag = bytes(tag)?;
        self.seal
            .is_tag(PREFERENCES, &signed_user(tenant, user), &tag)
            .then_some(user)
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

fn signed_user(tenant: &TenantId, user: UserId) -> Vec<u8> {
    format!("{tenant}\n{user}").into_bytes()
}

fn tagged(mut named: String, tag: &[u8; 32]) -> String {
    named.push('~');
    for byte in tag {
        let _ = write!(named, "{byte:02x}");
    }
    named
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

    fn links(base: Option<&str>) -> SignedLinks {
        let seal: Arc<dyn Seal> = Arc::new(OpenSeal);
        let base = base.map(|base| base.parse().expect("a URL"));
        SignedLinks::new(Some(&seal), base.as_ref()).expect("signs")
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
            .unsubscribe(&own)
            .expect("a link");
        assert!(
            link.starts_with("https://bell.example.org/hub/v1/unsubscribe/usr_"),
            "{link}"
        );
        let other = links(Some("https://bell.example.org/"))
            .unsubscribe(&opt_out("acme"))
            .expect("a link");
        assert!(
            other.starts_with("https://bell.example.org/t/acme/v1/unsubscribe/usr_"),
            "{other}"
        );
        assert_eq!(links(None).unsubscribe(&own), None);
    }

    #[test]
    fn only_what_was_signed_is_read() {
        let (links, own) = (links(None), opt_out("default"));
        let token = links.unsubscribe_token(&own);
        assert_eq!(links.read_unsubscribe(&own.tenant, &token), Some(own.clone()));
        assert_eq!(
            links.read_unsubscribe(&"acme".parse().expect("a tenant"), &token),
            None
        );
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
            assert_eq!(links.read_unsubscribe(&own.tenant, &changed), None, "{changed}");
        }
    }

    #[test]
    fn a_link_to_the_page_opens_that_page_alone() {
        let own = opt_out("acme");
        let links = links(Some("https://bell.example.org/"));
        let link = links.preferences(&own.tenant, own.user).expect("a link");
        let token = link
            .strip_prefix("https://bell.example.org/t/acme/v1/preferences/")
            .expect("below the tenant");
        assert_eq!(links.read_preferences(&own.tenant, token), Some(own.user));
        assert_eq!(links.read_preferences(&TenantId::default(), token), None);
        assert_eq!(links.read_unsubscribe(&own.tenant, token), None);
        let other = links.unsubscribe_token(&own);
        let (_, tag) = other.rsplit_once('~').expect("a tag");
        for forged in [
            format!("{}~{tag}", own.user),
            token.replace("usr_0", "usr_1"),
            format!("{token}~"),
            token[..token.len() - 1].to_owned(),
            own.user.to_string(),
        ] {
            assert_eq!(links.read_preferences(&own.tenant, &forged), None, "{forged}");
        }
    }
}
