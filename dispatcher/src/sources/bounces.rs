//! Bounces: what mail servers say after they took an email.
//!
//! A bounce comes from anybody who knows where bounces go. So it is believed only where it names a delivery of the tenant,
//! whose id is in the `Message-ID` that we gave, and only where it is about that delivery's own address is that address
//! suppressed.
//!
//! One relay sends for all tenants and a bounce names none. Whoever gets them all hands them over with a worker's key for
//! all tenants: the delivery's id, which nobody guesses, says whose it is.

use std::error::Error;

use axum::extract::{FromRequestParts as _, Request};
use bytes::{Bytes, BytesMut};
use carillon_domain::{
    Caller as Kind, ChannelKind, DeliveryId, Scope, SourceName, TenantId,
    ports::{Bounce, Unavailable},
};
use carillon_runtime::http::{BodyLimit, Caller, Problem, Served, read_body, require_channel, require_scope};
use http::{HeaderValue, StatusCode, header, request::Parts};

use super::{
    register::DSN,
    take::{TakeError, by_secret},
};
use crate::{
    Dispatcher,
    deliverer::settlement::{after_ends, kept},
    store::outside::{About, News, NewsNoted, Says},
};

/// What became of a bounce.
#[derive(Debug, Default)]
pub(crate) struct BouncedIn {
    /// Deliveries of which a failure was told, each with whether its address is suppressed.
    pub(crate) bounced: Vec<(DeliveryId, bool)>,
    /// What tells nothing, and why.
    pub(crate) ignored: Vec<&'static str>,
}

/// Said of what names no delivery that the reporter may tell of.
const UNKNOWN: &str = "there is no such delivery by email";

/// The largest message: most bounces return the whole of what they are about.
pub(crate) const DSN_BODY: BodyLimit = BodyLimit(1024 * 1024);

/// Takes a raw message of RFC 3464 in. Taken in twice, it is as once.
pub(crate) async fn take_bounce(dispatcher: &Dispatcher, incoming: Request) -> Result<BouncedIn, TakeError> {
    let name: SourceName = DSN.parse().map_err(|_| TakeError::NotFound)?;
    let (mut parts, body) = incoming.into_parts();
    let from = reporter(dispatcher, &name, &mut parts).await?;
    let head = head(&parts)?;
    let body = read_body(Request::from_parts(parts, body))
        .await
        .map_err(TakeError::Refused)?;
    let raw = whole(head, body);
    if raw.len() > DSN_BODY.0 {
        return Err(TakeError::Refused(Problem::too_large(DSN_BODY.0)));
    }
    let reader = dispatcher.ports.bounces.as_ref();
    let reader = reader.ok_or_else(|| Unavailable::new("reading a bounce", "nothing reads bounces here"))?;
    let bounces = reader.read(&raw).map_err(|error| {
        TakeError::Refused(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_request",
            format!("The message is not understood: {error}."),
        ))
    })?;
    let mut taken = BouncedIn::default();
    for bounce in bounces {
        match one(dispatcher, &from, bounce).await? {
            Ok(bounced) => taken.bounced.push(bounced),
            Err(why) => taken.ignored.push(why),
        }
    }
    Ok(taken)
}

/// Of whose deliveries a bounce may tell.
async fn reporter(
    dispatcher: &Dispatcher,
    name: &SourceName,
    parts: &mut Parts,
) -> Result<Served, TakeError> {
    if let Some((tenant, _, _)) = by_secret(dispatcher, name, parts).await? {
        return Ok(Served::Tenant(tenant));
    }
    let Caller(principal) = Caller::from_request_parts(parts, &())
        .await
        .map_err(TakeError::Refused)?;
    if matches!(principal.caller, Kind::Worker(_)) {
        return require_channel(&principal, &email()?).map_err(TakeError::Refused);
    }
    require_scope(&principal, Scope::NotificationsWrite).map_err(TakeError::Refused)?;
    Ok(Served::Tenant(principal.tenant))
}

fn email() -> Result<ChannelKind, Unavailable> {
    ChannelKind::EMAIL
        .parse()
        .map_err(|error| Unavailable::new("naming the channel", error))
}

async fn one(
    dispatcher: &Dispatcher,
    from: &Served,
    bounce: Bounce,
) -> Result<Result<(DeliveryId, bool), &'static str>, Unavailable> {
    let Some(delivery) = bounce.delivery else {
        return Ok(Err("it does not say which delivery"));
    };
    if !bounce.failed {
        return Ok(Err("it is no failure"));
    }
    let tenant = match from {
        Served::Tenant(tenant) => Some(tenant.clone()),
        Served::All => dispatcher
            .store
            .email_tenant(delivery)
            .await
            .map_err(Unavailable::from)?,
    };
    let Some(tenant) = &tenant else {
        return Ok(Err(UNKNOWN));
    };
    // Whoever forwards mail sends us the bounces of where it goes: nothing is known of his own mailbox then.
    let own = is_of(dispatcher, tenant, delivery, &bounce.address).await?;
    let hard = bounce.hard && own;
    let email = email()?;
    let detail = bounce.detail.map(kept);
    let news = News {
        tenant: tenant.clone(),
        about: About::Delivery(delivery),
        says: if own {
            Says::Bounced { hard, detail }
        } else {
            Says::CopyBounced { detail }
        },
    };
    let now = dispatcher.ports.clock.now();
    let received = dispatcher.store.receive_news(now, &email, &[news]).await;
    let NewsNoted { mut noted, ended } = received.map_err(Unavailable::from)?;
    let Some(noted) = noted.pop().flatten() else {
        return Ok(Err(UNKNOWN));
    };
    let directory = dispatcher.ports.directory.as_ref();
    after_ends(directory, &ended).await;
    if !ended.is_empty() {
        // Endpoints may be told.
        dispatcher.deliverer.wake();
    }
    let kind = match (own, hard) {
        (false, _) => "copy",
        (true, false) => "soft",
        (true, true) => "hard",
    };
    metrics::counter!("carillon_delivery_bounced_total", "kind" => kind).increment(1);
    if hard {
        // Suppressed already, so that a directory that is away costs nothing but tidiness.
        let retired = directory.retire(tenant, &email, &noted.address, "bounced").await;
        if let Err(error) = retired {
            tracing::warn!(error = &error as &dyn Error, "an address could not be retired");
        }
    }
    Ok(Ok((delivery, hard)))
}

/// Whether a delivery went to this address, in whatever case.
async fn is_of(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    delivery: DeliveryId,
    address: &str,
) -> Result<bool, Unavailable> {
    let found = dispatcher
        .store
        .delivery(tenant, delivery)
        .await
        .map_err(Unavailable::from)?;
    Ok(found.is_some_and(|(detail, _)| detail.address.eq_ignore_ascii_case(address)))
}

/// The head of a message of which only the body came: its type stands in the request's.
fn head(parts: &Parts) -> Result<Option<HeaderValue>, TakeError> {
    let value = parts.headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "message/rfc822" | "message/global" | "application/octet-stream" => Ok(None),
        "multipart/report" => Ok(value.cloned()),
        _ => Err(TakeError::Refused(Problem::unsupported_media_type(
            "The body must be a whole message as message/rfc822, or the body of one as multipart/report.",
        ))),
    }
}

fn whole(head: Option<HeaderValue>, body: Bytes) -> Bytes {
    let Some(head) = head else { return body };
    let mut raw = BytesMut::with_capacity(body.len() + head.len() + 64);
    for part in [
        b"MIME-Version: 1.0\r\nContent-Type: ",
        head.as_bytes(),
        b"\r\n\r\n",
        &body,
    ] {
        raw.extend_from_slice(part);
    }
    raw.freeze()
}
