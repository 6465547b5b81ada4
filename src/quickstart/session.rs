//! `GET /dev/session`: what the page works with.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Json, extract::State};
use carillon_domain::{DeviceName, ExternalUserId, TenantId, ports::Unavailable};
use carillon_runtime::http::{ApiQuery, Problem};
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

/// Who the page is when nobody says otherwise.
const SOMEBODY: &str = "ada";

/// How long the page's tokens live; it fetches new ones when they have expired.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// What the page needs of identity, always in the tenant `default`.
#[async_trait]
pub(crate) trait Guests: Send + Sync + 'static {
    /// An API key that may send notifications and read what became of them; the same one every time.
    async fn key(&self) -> Result<String, Unavailable>;

    /// A token for `user` on `device`.
    async fn token(
        &self,
        user: &ExternalUserId,
        device: &DeviceName,
        life: Duration,
    ) -> Result<String, Unavailable>;
}

#[derive(Debug, Deserialize)]
pub(super) struct Who {
    user: Option<ExternalUserId>,
}

/// A development session.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    tenant: TenantId,
    user: ExternalUserId,
    /// For the form, and for the `curl` line beside it.
    key: String,
    browser: Device,
    app: Device,
    /// Where webhooks reach the page's own receiver.
    receiver: Option<String>,
}

/// What a session is made of.
pub(super) struct Opening {
    pub(super) guests: Arc<dyn Guests>,
    pub(super) receiver: Option<String>,
}

#[derive(Debug, Serialize)]
struct Device {
    device: DeviceName,
    token: String,
}

pub(super) async fn open(
    State(opening): State<Arc<Opening>>,
    ApiQuery(who): ApiQuery<Who>,
) -> Result<([(HeaderName, HeaderValue); 2], Json<Session>), Problem> {
    let user = match who.user {
        Some(user) => user,
        None => SOMEBODY.parse().expect("a user id"),
    };
    let guests = &opening.guests;
    let device = async |name: &str| -> Result<Device, Unavailable> {
        let device: DeviceName = name.parse().expect("a device's name");
        let token = guests.token(&user, &device, TOKEN_LIFE).await?;
        Ok(Device { device, token })
    };
    let session = Session {
        tenant: TenantId::default(),
        key: guests.key().await?,
        browser: device("browser").await?,
        app: device("app").await?,
        receiver: opening.receiver.clone(),
        user,
    };
    let private = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    Ok((private, Json(session)))
}
