use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{KeyId, Scope, Timestamp};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope};
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::tokens::NO_STORE;
use crate::{
    Auth, CreateKeyError,
    store::{KeyOwner, KeyRecord},
};

/// Names the list in its cursors.
const LIST: &str = "keys";

/// A key to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// What it may do; all but `keys:write` and the channels unless given.
    #[serde(default)]
    scopes: Option<Vec<Scope>>,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeyAnswer {
    /// Its id.
    id: KeyId,
    /// What it is for.
    name: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last used, to about a minute; null: never.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked; null: it works.
    #[schema(required)]
    revoked_at: Option<Timestamp>,
}

/// An API key that was just made.
// No `Debug`: it holds a secret.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct NewKeyAnswer {
    /// The key itself, shown this once.
    key: String,
    /// What is known of it.
    #[serde(flatten)]
    about: KeyAnswer,
}

impl From<KeyRecord> for KeyAnswer {
    fn from(record: KeyRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            scopes: record.scopes,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// Makes an API key with any scopes. Needs the scope `keys:write`, which is therefore as good as all of them.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "Identity",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown this once", body = NewKeyAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `keys:write`"),
        (status = 409, description = "The tenant has too many keys"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn create(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<KeyRequest>,
) -> Result<Made, Problem> {
    require_scope(&principal, Scope::KeysWrite)?;
    let scopes = request.scopes.unwrap_or_else(|| Scope::BACKEND.to_vec());
    make(&auth, &KeyOwner::Tenant(principal.tenant), &request.name, &scopes).await
}

/// The tenant's API keys, oldest first, revoked ones for a while. Needs the scope `keys:write`.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "Identity",
    params(Page),
    responses(
        (status = 200, description = "The keys", body = Listing<KeyAnswer>),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `keys:write`"),
    ),
)]
pub(crate) async fn list(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<KeyAnswer>>, Problem> {
    require_scope(&principal, Scope::KeysWrite)?;
    page_of(&auth, &KeyOwner::Tenant(principal.tenant), LIST, &page).await
}

/// Revokes an API key, at once. Needs the scope `keys:write`.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "Identity",
    params(("id" = KeyId, Path, description = "The key's id")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `keys:write`"),
        (status = 404, description = "No such key"),
    ),
)]
pub(crate) async fn revoke(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<KeyId>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::KeysWrite)?;
    end(&auth, &KeyOwner::Tenant(principal.tenant), id).await
}

/// The answer to the making of a key.
pub(super) type Made = (StatusCode, [(HeaderName, HeaderValue); 1], Json<NewKeyAnswer>);

/// Makes a key of `owner`'s.
pub(super) async fn make(
    auth: &Auth,
    owner: &KeyOwner,
    name: &str,
    scopes: &[Scope],
) -> Result<Made, Problem> {
    let (record, key) = auth.make_key(owner, name, scopes).await?;
    let answer = NewKeyAnswer {
        key: key.expose_secret().to_owned(),
        about: record.into(),
    };
    Ok((StatusCode::CREATED, [NO_STORE], Json(answer)))
}

/// A page of `owner`'s keys; `list` names the list in its cursors.
pub(super) async fn page_of(
    auth: &Auth,
    owner: &KeyOwner,
    list: &'static str,
    page: &Page,
) -> Result<Json<Listing<KeyAnswer>>, Problem> {
    let keys = auth.store.keys(owner, page.after(list)?, page.fetch()).await;
    let keys = keys.map_err(carillon_domain::ports::Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        list,
        page,
        keys,
        |key| key.id,
        KeyAnswer::from,
    )))
}

/// Revokes a key of `owner`'s.
pub(super) async fn end(auth: &Auth, owner: &KeyOwner, id: KeyId) -> Result<StatusCode, Problem> {
    if auth.revoke_key(owner, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

impl From<CreateKeyError> for Problem {
    fn from(error: CreateKeyError) -> Self {
        match error {
            CreateKeyError::Name => Self::invalid(vec![FieldError::new("/name", error.to_string())]),
            CreateKeyError::NoScope | CreateKeyError::TooManyChannels | CreateKeyError::OnlyChannels => {
                Self::field("/scopes", error.to_string())
            }
            CreateKeyError::TooMany => Self::new(StatusCode::CONFLICT, "conflict", error.to_string()),
            CreateKeyError::Random => Self::internal(&error),
            CreateKeyError::Unavailable(cause) => cause.into(),
        }
    }
}
