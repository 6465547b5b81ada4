use carillon_domain::ports::Unavailable;
use carillon_runtime::http::{FieldError, Problem};
use carillon_sql::StoreError;
use http::StatusCode;

use crate::store::outside::{DeliveryState, NotResendable};

/// Why something about an endpoint could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// There is no such endpoint, secret or delivery.
    #[error("there is no such thing")]
    NotFound,
    /// The request does not fit.
    #[error("the request does not fit")]
    Invalid(Vec<FieldError>),
    /// Its owner has as many as there may be.
    #[error("there are too many endpoints")]
    Full,
    /// As many sign as may.
    #[error("too many secrets sign for the endpoint")]
    TooManySecrets,
    /// Nothing would sign any more.
    #[error("it is the last secret")]
    LastSecret,
    /// It is told nothing.
    #[error("the endpoint is disabled")]
    Disabled,
    /// It did not end, it is taken back, or its sender took its notification back.
    #[error("the delivery cannot be sent again")]
    NotResendable(NotResendable),
    /// The store, the seal or the directory did not do what it should.
    #[error(transparent)]
    Unavailable(Unavailable),
}

impl From<StoreError> for EndpointError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<EndpointError> for Problem {
    fn from(error: EndpointError) -> Self {
        let conflict = |detail: String| Self::new(StatusCode::CONFLICT, "conflict", detail);
        match error {
            EndpointError::NotFound => Self::not_found(),
            EndpointError::Invalid(errors) => Self::invalid(errors),
            EndpointError::Full => conflict(
                "There are as many endpoints as there may be: 100 of a tenant, 16 of a user.".to_owned(),
            ),
            EndpointError::TooManySecrets => {
                conflict("Five secrets sign for this endpoint already. Remove one first.".to_owned())
            }
            EndpointError::LastSecret => conflict(
                "No other secret signs for this endpoint without an end. Make another one first.".to_owned(),
            ),
            EndpointError::Disabled => conflict("The endpoint is disabled. Enable it first.".to_owned()),
            EndpointError::NotResendable(NotResendable::Recalled) => {
                conflict("The delivery is being taken back.".to_owned())
            }
            EndpointError::NotResendable(NotResendable::Cancelled) => conflict(
                "Its notification was cancelled: what its sender took back is not sent again.".to_owned(),
            ),
            EndpointError::NotResendable(NotResendable::Acknowledged) => {
                conflict("Its recipient has answered: nothing more is sent to him.".to_owned())
            }
            EndpointError::NotResendable(NotResendable::State(DeliveryState::Pending)) => {
                conflict("The delivery is still being tried.".to_owned())
            }
            EndpointError::NotResendable(NotResendable::State(state)) => conflict(format!(
                "Only what was delivered, accepted or is dead can be sent again; this delivery is {}.",
                state.as_str()
            )),
            EndpointError::Unavailable(error) => error.into(),
        }
    }
}
