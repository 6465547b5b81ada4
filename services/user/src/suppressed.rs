//! Which of a user's addresses nothing is sent to.

use std::sync::Arc;

use carillon_domain::{
    PlainAddress, TenantId,
    ports::{Suppressed, Unavailable},
};

use crate::Users;

impl Users {
    /// Registers who knows which addresses are not written to; without one, nothing is known of any.
    pub fn suppresses(&self, suppressed: Arc<dyn Suppressed>) {
        *self.suppressed.write() = Some(suppressed);
    }

    /// Why nothing goes to each of these, in their order.
    pub(crate) async fn suppressed_of(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, Unavailable> {
        let known = self.suppressed.read().clone();
        match known.filter(|_| !addresses.is_empty()) {
            Some(known) => known.reasons(tenant, addresses).await,
            None => Ok(vec![None; addresses.len()]),
        }
    }
}
