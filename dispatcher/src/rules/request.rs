use carillon_domain::{TenantId, Timestamp, ports::Unavailable};
use carillon_runtime::http::{FieldError, parse_part};
use serde_json::{Value, value::to_raw_value};

use crate::{
    Dispatcher,
    offer::Offer,
    store::NewNotification,
    validation::{SendRequest, accept},
};

/// The notification of a request that a rule made, with what it may name; or everything that is wrong with it. `at` is the
/// pointer to what it was made of.
pub(crate) async fn request(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    request: &Value,
    now: Timestamp,
    at: &str,
) -> Result<Result<(NewNotification, Offer), Vec<FieldError>>, Unavailable> {
    let read = to_raw_value(request)
        .map_err(|error| FieldError::new(at, error.to_string()))
        .and_then(|raw| parse_part::<SendRequest>(&raw, at));
    let request = match read {
        Ok(request) => request,
        Err(error) => return Ok(Err(vec![error])),
    };
    let offer = dispatcher.offer(tenant, std::iter::once(&request)).await?;
    let mut errors = Vec::new();
    Ok(match accept(request, &offer, now, at, &mut errors) {
        Some(notification) => Ok((notification, offer)),
        None => Err(errors),
    })
}
