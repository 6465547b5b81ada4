use async_trait::async_trait;
use carillon_domain::{
    Caller, ExternalUserId, KeyId, Principal, TenantId, UserId,
    ports::{ApiKeys, AuthError, Authenticate, SubscriptionGrant, Unavailable},
};

use crate::{
    Auth, api_key,
    refusal::{Credential, Refusal},
    session::Verified,
    store::KeyOwner,
};

#[async_trait]
impl Authenticate for Auth {
    async fn bearer(&self, tenant: &TenantId, credential: &str) -> Result<Principal, AuthError> {
        let now = self.clock.now();
        if api_key::is_key(credential) {
            let verified = self.keys.verify(&*self.store, tenant, credential, now).await;
            return verified.map_err(|refusal| refusal.audited(tenant, Credential::ApiKey));
        }
        let principal = async {
            let verified = self.token(tenant, credential, now).await?;
            self.principal(tenant, &verified, None).await
        };
        principal
            .await
            .map_err(|refusal| refusal.audited(tenant, Credential::Token))
    }

    async fn ticket(&self, tenant: &TenantId, ticket: &str) -> Result<(Principal, String), AuthError> {
        let used = self.use_ticket(tenant, ticket, self.clock.now()).await;
        used.map_err(|refusal| refusal.audited(tenant, Credential::Ticket))
    }

    async fn stream_cookie(&self, tenant: &TenantId, cookie: &str) -> Result<Principal, AuthError> {
        let session = self.session_of_cookie(tenant, cookie, self.clock.now()).await;
        session
            .map(|(principal, _)| principal)
            .map_err(|refusal| refusal.audited(tenant, Credential::StreamCookie))
    }

    async fn subscription(&self, tenant: &TenantId, token: &str) -> Result<SubscriptionGrant, AuthError> {
        self.subscription_token(tenant, token, self.clock.now())
            .map_err(|refusal| refusal.audited(tenant, Credential::SubscriptionToken))
    }
}

#[async_trait]
impl ApiKeys for Auth {
    async fn stands(&self, tenant: Option<&TenantId>, key: KeyId) -> Result<bool, Unavailable> {
        let owner = tenant.map_or(KeyOwner::AllTenants, |tenant| KeyOwner::Tenant(tenant.clone()));
        self.keys.stands(&*self.store, &owner, key).await
    }
}

impl Auth {
    /// The caller behind a verified session. `before` is the internal id that the session was opened under: a person
    /// who was erased since is another one now, even under the same name.
    pub(crate) async fn principal(
        &self,
        tenant: &TenantId,
        verified: &Verified,
        before: Option<UserId>,
    ) -> Result<Principal, Refusal> {
        let id = self.user_id(tenant, &verified.session.user).await?;
        if before.is_some_and(|before| before != id) {
            return Err(Refusal::Invalid("its user was erased"));
        }
        Ok(Principal {
            tenant: tenant.clone(),
            caller: Caller::User(verified.caller(id)),
        })
    }

    /// The internal id of a user, who begins to exist by this at the latest.
    pub(crate) async fn user_id(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
    ) -> Result<UserId, Unavailable> {
        let ids = self.directory.resolve(tenant, std::slice::from_ref(user)).await?;
        ids.into_iter()
            .next()
            .ok_or_else(|| Unavailable::new("resolving a user", "the directory gave no answer"))
    }
}
