//! Registering a source.

use std::sync::Arc;

use carillon_domain::{
    SourceName, TenantId,
    ports::{Seal, Unavailable},
};
use carillon_runtime::http::{FieldError, Problem};
use http::StatusCode;

use super::{Settings, SourceKind};
use crate::{
    Dispatcher,
    store::{PutSource, SourceRow, SourceWrite},
    validation::{SendRequest, accept},
};

/// The most sources of a tenant.
pub(crate) const MOST: u64 = 100;
/// The name under which bounces are taken in.
pub(super) const DSN: &str = "dsn";

/// A source to make or replace.
pub(crate) struct Registration {
    pub(crate) kind: SourceKind,
    pub(crate) settings: Settings,
    pub(crate) secret: Secret,
}

/// What becomes of a source's secret.
pub(crate) enum Secret {
    /// It stays, if there is one.
    Kept,
    /// There is none: only API keys get in.
    None,
    /// This one.
    New(String),
}

/// Why a source was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// The request does not fit.
    #[error("the source is not valid")]
    Invalid(Vec<FieldError>),
    /// The tenant has too many.
    #[error("the tenant has {MOST} sources")]
    Full,
    /// The store is away, or the settings cannot be kept.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Invalid(errors) => Self::invalid(errors),
            RegisterError::Full => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                format!("A tenant has at most {MOST} sources."),
            ),
            RegisterError::Unavailable(cause) => cause.into(),
        }
    }
}

/// Where a source's secret is kept.
pub(super) fn place(tenant: &TenantId, name: &SourceName) -> String {
    format!("dispatcher/sources/{tenant}/{name}")
}

/// What seals the secrets of sources.
pub(super) fn seal(dispatcher: &Dispatcher) -> Result<&Arc<dyn Seal>, Unavailable> {
    let seal = dispatcher.ports.seal.as_ref();
    seal.ok_or_else(|| Unavailable::new("sealing a source's secret", "nothing seals secrets here"))
}

/// Makes or replaces a source. Answers whether it is new, and what stands.
pub(crate) async fn register(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    name: &SourceName,
    registration: Registration,
) -> Result<(bool, SourceRow), RegisterError> {
    let Registration {
        kind,
        settings,
        secret,
    } = registration;
    let mut errors = Vec::new();
    if (kind == SourceKind::Dsn) != (name.as_str() == DSN) {
        errors.push(FieldError::new(
            "/kind",
            "dsn goes with the name dsn, and no other kind does",
        ));
    }
    if kind == SourceKind::Dsn {
        errors.extend(settings.superfluous());
    } else {
        errors.extend(settings.mapping(kind).err().into_iter().flatten());
        let probed = request(dispatcher, tenant, &settings.probe(), "").await?;
        errors.extend(probed.err().into_iter().flatten());
    }
    let known = dispatcher
        .store
        .source(tenant, name)
        .await
        .map_err(Unavailable::from)?;
    let sealed = match secret {
        Secret::Kept => known.and_then(|row| row.sealed),
        Secret::None => None,
        Secret::New(secret) if !is_secret(&secret) => {
            errors.push(FieldError::new(
                "/secret",
                "must be 16 to 256 visible ASCII characters",
            ));
            None
        }
        Secret::New(secret) => Some(seal(dispatcher)?.seal(&place(tenant, name), secret.as_bytes())?),
    };
    if kind.signs() && sealed.is_none() && errors.is_empty() {
        errors.push(FieldError::new(
            "/secret",
            "required: this tool signs what it sends",
        ));
    }
    if !errors.is_empty() {
        return Err(RegisterError::Invalid(errors));
    }
    let write = SourceWrite {
        tenant: tenant.clone(),
        name: name.clone(),
        kind: kind.as_str(),
        settings: serde_json::to_string(&settings)
            .map_err(|error| Unavailable::new("writing a source's settings", error))?,
        sealed,
        at: dispatcher.ports.clock.now(),
    };
    let put = dispatcher
        .store
        .put_source(&write, MOST)
        .await
        .map_err(Unavailable::from)?;
    if put == PutSource::Full {
        return Err(RegisterError::Full);
    }
    let row = dispatcher
        .store
        .source(tenant, name)
        .await
        .map_err(Unavailable::from)?;
    let row = row.ok_or_else(|| Unavailable::new("reading a source", "it was deleted meanwhile"))?;
    Ok((put == PutSource::Made, row))
}

/// What a source is set to, as the store keeps it.
pub(crate) fn read_settings(row: &SourceRow) -> Result<(SourceKind, Settings), Unavailable> {
    let unreadable = |error: &dyn std::error::Error| Unavailable::new("reading a source", error.to_string());
    let kind = row
        .kind
        .parse()
        .map_err(|error: carillon_domain::Invalid| unreadable(&error))?;
    let settings = serde_json::from_str(&row.settings).map_err(|error| unreadable(&error))?;
    Ok((kind, settings))
}

/// The notification of a request that was made here; `at` is the pointer to what it was made of.
pub(super) async fn request(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    request: &serde_json::Value,
    at: &str,
) -> Result<Result<crate::store::NewNotification, Vec<FieldError>>, Unavailable> {
    let read = serde_json::value::to_raw_value(request)
        .map_err(|error| FieldError::new(at, error.to_string()))
        .and_then(|raw| carillon_runtime::http::parse_part::<SendRequest>(&raw, at));
    let request = match read {
        Ok(request) => request,
        Err(error) => return Ok(Err(vec![error])),
    };
    let offer = Arc::new(dispatcher.offer(tenant, std::iter::once(&request)).await?);
    let (now, at) = (dispatcher.ports.clock.now(), at.to_owned());
    let accepted = dispatcher.worked_out(&offer, move |offer| {
        let mut errors = Vec::new();
        accept(request, offer, now, &at, &mut errors).ok_or(errors)
    });
    let refused = |problem: Problem| Unavailable::new("working out a request", problem.detail.into_owned());
    accepted.await.map_err(refused)
}

fn is_secret(secret: &str) -> bool {
    matches!(secret.len(), 16..=256) && secret.bytes().all(|byte| byte.is_ascii_graphic())
}
