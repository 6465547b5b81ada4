//! What is left of a suppressed address when its owner is erased: enough to know it again, not enough to read it.

use std::{collections::HashSet, fmt, fmt::Write as _, sync::Arc};

use carillon_domain::ports::Seal;

use super::outside::Candidate;
use crate::digest::sha256;

/// What the tags are for.
const PURPOSE: &str = "suppressed address";
/// What they begin with in the list of suppressions.
pub(super) const ERASED: &str = "erased:";

/// Makes fingerprints of addresses: tags under the master key, so that nobody who has only the database can try
/// addresses out.
#[derive(Clone)]
pub(crate) struct Fingerprints(Option<Arc<dyn Seal>>);

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints")
    }
}

impl Fingerprints {
    /// Without something that signs they are plain digests.
    pub(crate) fn new(seal: Option<Arc<dyn Seal>>) -> Self {
        Self(seal)
    }

    /// An address's, as it stands in `suppressions`.
    pub(super) fn of(&self, tenant: &str, channel: &str, address: &str) -> String {
        // Neither a tenant nor a channel holds a line's end.
        let named = format!("{tenant}\n{channel}\n{address}");
        let tag = match &self.0 {
            Some(seal) => seal.tag(PURPOSE, named.as_bytes()),
            None => sha256(named.as_bytes()),
        };
        let mut text = String::from(ERASED);
        for byte in tag {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Tenant, channel and fingerprint of the candidates that nothing stands against yet.
    pub(super) fn of_candidates(&self, candidates: &[Candidate]) -> Vec<(String, String, String)> {
        candidates
            .iter()
            .filter_map(|one| self.of_candidate(one))
            .collect()
    }

    /// Notes of candidates that their fingerprints were found.
    pub(super) fn mark(&self, candidates: &mut [Candidate], found: &HashSet<String>) {
        if found.is_empty() {
            return;
        }
        for candidate in candidates {
            let is_found = self
                .of_candidate(candidate)
                .is_some_and(|(_, _, print)| found.contains(&print));
            if let Some(delivery) = candidate.delivery.as_mut().filter(|_| is_found) {
                delivery.suppressed = true;
            }
        }
    }

    fn of_candidate(&self, candidate: &Candidate) -> Option<(String, String, String)> {
        let delivery = candidate.delivery.as_ref()?;
        let leased = delivery.leased.as_ref().filter(|_| !delivery.suppressed)?;
        let (tenant, channel) = (leased.key.tenant.as_str(), leased.key.channel.as_str());
        let print = self.of(tenant, channel, leased.address.as_str());
        Some((tenant.to_owned(), channel.to_owned(), print))
    }
}
