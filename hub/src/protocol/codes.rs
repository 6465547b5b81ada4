//! Centrifugo's error, unsubscribe and close codes. Closes up to 3499 make SDKs reconnect, from 3500 on they stop.

use std::borrow::Cow;

use carillon_domain::ports::RpcError;

/// An error in a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyError {
    /// 100-399.
    pub(crate) code: u32,
    /// Fit to show.
    pub(crate) message: Cow<'static, str>,
    /// Whether the same command may work later; SDKs then try again.
    pub(crate) temporary: bool,
}

impl ReplyError {
    const fn new(code: u32, message: &'static str, temporary: bool) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            temporary,
        }
    }

    pub(crate) const INTERNAL: Self = Self::new(100, "internal server error", true);
    pub(crate) const PERMISSION_DENIED: Self = Self::new(103, "permission denied", false);
    pub(crate) const METHOD_NOT_FOUND: Self = Self::new(104, "method not found", false);
    pub(crate) const ALREADY_SUBSCRIBED: Self = Self::new(105, "already subscribed", false);
    pub(crate) const LIMIT_EXCEEDED: Self = Self::new(106, "limit exceeded", false);
    pub(crate) const BAD_REQUEST: Self = Self::new(107, "bad request", false);
    pub(crate) const NOT_AVAILABLE: Self = Self::new(108, "not available", false);
    pub(crate) const TOKEN_EXPIRED: Self = Self::new(109, "token expired", false);
    pub(crate) const EXPIRED: Self = Self::new(110, "expired", false);
    pub(crate) const TOO_MANY_REQUESTS: Self = Self::new(111, "too many requests", true);
    pub(crate) const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position", false);
}

impl From<RpcError> for ReplyError {
    fn from(error: RpcError) -> Self {
        Self {
            code: error.code,
            message: Cow::Owned(error.message),
            temporary: error.temporary,
        }
    }
}

/// A close code with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    /// The code of the close frame.
    pub(crate) code: u16,
    /// Its reason.
    pub(crate) reason: &'static str,
}

impl Close {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(crate) const SHUTDOWN: Self = Self::new(3001, "shutdown");
    pub(crate) const SERVER_ERROR: Self = Self::new(3004, "internal server error");
    pub(crate) const EXPIRED: Self = Self::new(3005, "connection expired");
    pub(crate) const SLOW: Self = Self::new(3008, "slow");
    pub(crate) const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    pub(crate) const NO_PONG: Self = Self::new(3012, "no pong");
    pub(crate) const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    pub(crate) const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    pub(crate) const BAD_REQUEST: Self = Self::new(3501, "bad request");
    pub(crate) const STALE: Self = Self::new(3502, "stale");
    pub(crate) const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    pub(crate) const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
}

/// Why a subscription ended; from 2500 on SDKs subscribe again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsubscribe {
    /// The code of the push.
    pub(crate) code: u32,
    /// Its reason.
    pub(crate) reason: &'static str,
}

impl Unsubscribe {
    pub(crate) const INSUFFICIENT_STATE: Self = Self {
        code: 2500,
        reason: "insufficient state",
    };
    pub(crate) const EXPIRED: Self = Self {
        code: 2501,
        reason: "subscription expired",
    };
}
