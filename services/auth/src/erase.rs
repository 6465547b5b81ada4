use async_trait::async_trait;
use carillon_domain::{
    TenantId, UserId,
    ports::{Erase, Unavailable},
};

use crate::{Auth, digest::Revocable};

#[async_trait]
impl Erase for Auth {
    /// Ends the person's tokens and connections, and forgets tickets and cookies. What stays is a digest of the name
    /// beside a time, until no token of that name can be valid any more.
    async fn erase(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable> {
        let names = self.directory.names(tenant, &[user]).await?;
        let now = self.clock.now();
        // Without a name there is nothing left to revoke, only sessions to forget.
        let what = match names.into_iter().flatten().next() {
            Some(name) => Revocable::user(tenant, &name),
            None => Revocable::token(tenant, &user.to_string()),
        };
        self.store
            .erase(tenant, user, &self.revocation(what, now))
            .await?;
        // Read back rather than learned: an erasure that was carried out before keeps its time.
        self.refresh_revocations(false).await?;
        self.announce_user(tenant, user).await
    }
}
