//! Email over one SMTP relay, and what bounces say.
//!
//! The conversation is our own, on tokio and rustls, because its answers are what the outcome is made of: whether a
//! refusal was to the sender, the recipient or the message, and in which words. lettre writes the messages.

mod address;
mod classify;
mod config;
mod dkim;
mod dsn;
mod message;
mod pool;
mod reply;
mod smtp;
mod tls;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{
    Capabilities, ChannelKind, Fault, Invalid, Outcome,
    ports::{Channel, CheckedAddress, Lane, Message, Operation, Report, Work},
};
use tokio::time::timeout;

use self::{
    address::canonical,
    classify::{Stage, classify},
    dkim::Signer,
    message::Composer,
    pool::{Pool, QUEUE},
    smtp::{Envelope, Failure},
};
pub use self::{
    config::{AuthMechanism, DkimConfig, EmailConfig, Security},
    dsn::{Bounce, BounceAction, DsnError, MAX_DSN, parse_dsn},
};

/// What an attempt may take beyond the configured time: making the message, and dropping the connection.
const MARGIN: Duration = Duration::from_secs(1);

/// The channel `email`.
pub struct EmailChannel {
    kind: ChannelKind,
    composer: Composer,
    pool: Arc<Pool>,
    lane: Lane,
    /// Where bounces go.
    return_path: String,
    timeout: Duration,
    verified: bool,
}

/// The channel cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// A value that [`EmailConfig::validate`] refuses.
    #[error("channels.email.{0} cannot be used")]
    Setting(&'static str),
    /// A file that cannot be used.
    #[error("channels.email.{key}: {}: {reason}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it; never its content.
        reason: String,
    },
    /// The DKIM key cannot sign.
    #[error("channels.email.dkim.key: {0}")]
    Dkim(String),
    /// TLS cannot be set up.
    #[error("channels.email: TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl EmailChannel {
    /// The channel as configured; none when no relay is. Reads files, and opens no connection.
    ///
    /// # Errors
    /// A file or a key that cannot be used.
    pub fn new(config: &EmailConfig) -> Result<Option<Self>, EmailError> {
        let Some(host) = &config.host else {
            return Ok(None);
        };
        let composer = Composer::new(config, signer(&config.dkim)?)?;
        let pool = Arc::new(Pool::new(config, host, composer.domain())?);
        let return_path = config.return_path.as_ref().or(config.from.as_ref());
        let return_path = return_path
            .and_then(|text| canonical(text).ok())
            .ok_or(EmailError::Setting("return_path"))?;
        Ok(Some(Self {
            kind: ChannelKind::EMAIL
                .parse()
                .map_err(|_| EmailError::Setting("host"))?,
            composer,
            lane: Lane::from(pool.lane()),
            pool,
            return_path: return_path.to_string(),
            timeout: config.timeout.duration(),
            verified: config.verified,
        }))
    }
}

fn signer(config: &DkimConfig) -> Result<Option<Signer>, EmailError> {
    let (Some(domain), Some(selector)) = (&config.domain, &config.selector) else {
        return Ok(None);
    };
    let domain = address::domain_to_ascii(domain).map_err(|_| EmailError::Setting("dkim.domain"))?;
    let from_file;
    let pem = match (&config.key, &config.key_file) {
        (Some(key), _) => key.expose(),
        (None, Some(path)) => {
            from_file = std::fs::read_to_string(path).map_err(|error| EmailError::File {
                key: "dkim.key_file",
                path: path.clone(),
                reason: error.to_string(),
            })?;
            &from_file
        }
        (None, None) => return Err(EmailError::Setting("dkim.key")),
    };
    Signer::new(&domain, selector, pem)
        .map(Some)
        .map_err(|error| EmailError::Dkim(error.to_string()))
}

#[async_trait]
impl Channel for EmailChannel {
    fn kind(&self) -> ChannelKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            replace: false,
            recall: false,
            verified: self.verified,
        }
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        Ok(CheckedAddress {
            address: canonical(address)?,
            lane: Arc::clone(&self.lane),
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        let rejected = |reason: String| Report::new(Outcome::Rejected { reason });
        let Message::Notification(notification) = &work.message else {
            return rejected("email brings notifications to people, not events to programs".to_owned());
        };
        if work.operation != Operation::Deliver {
            return rejected("an email that was sent can be neither replaced nor recalled".to_owned());
        }
        let content = match self.composer.compose(work, notification) {
            Ok(content) => content,
            Err(error) => return rejected(error.to_string()),
        };
        let envelope = Envelope {
            from: &self.return_path,
            to: work.address.as_str(),
            id: &work.delivery.to_string(),
        };
        let slot = match self.pool.slot().await {
            Ok(slot) => slot,
            Err(busy) => return queued(busy.to_string()),
        };
        let mut stage = Stage::Connect;
        let sending = self.pool.send(&slot, &envelope, &content, &mut stage);
        let sent = timeout(self.timeout, sending).await;
        match sent {
            Ok(Ok(reply)) => answered(Stage::Content, &reply),
            Ok(Err(Failure::Refused { stage, reply })) => answered(stage, &reply),
            Ok(Err(failure @ (Failure::TooLarge { .. } | Failure::Lines))) => rejected(failure.to_string()),
            Ok(Err(Failure::Broken { stage, error })) => {
                troubled(format!("the relay gave no answer {}: {error}", stage.during()))
            }
            Ok(Err(failure)) => troubled(failure.to_string()),
            Err(_) => troubled(format!(
                "the relay gave no answer {} within {} s",
                stage.during(),
                self.timeout.as_secs()
            )),
        }
    }

    fn patience(&self) -> Duration {
        QUEUE + self.timeout + MARGIN
    }

    fn width(&self) -> Option<usize> {
        Some(self.pool.width())
    }
}

fn answered(stage: Stage, reply: &reply::Reply) -> Report {
    Report {
        outcome: classify(stage, reply),
        status: Some(reply.code),
        excerpt: Some(reply.to_string()),
        acknowledged: None,
    }
}

/// Our own queue: nobody was asked, and nobody failed.
fn queued(reason: String) -> Report {
    Report::new(Outcome::Retry {
        after: None,
        reason,
        fault: Fault::Address,
    })
}

/// The relay's trouble, or that of the way to it.
fn troubled(reason: String) -> Report {
    Report::new(Outcome::Retry {
        after: None,
        reason,
        fault: Fault::Provider,
    })
}
