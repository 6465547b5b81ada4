//! Bounces, read by the email channel's parser.

use carillon_channels::email::{BounceAction, DsnError, parse_dsn};
use carillon_domain::{
    Invalid,
    ports::{Bounce, Bounces},
};

/// The email channel's parser.
pub(crate) struct DsnReader;

impl Bounces for DsnReader {
    fn read(&self, raw: &[u8]) -> Result<Vec<Bounce>, Invalid> {
        let bounces = parse_dsn(raw).map_err(|error| {
            Invalid(match error {
                DsnError::TooLarge => "it has more than 1 MiB",
                DsnError::NotADsn => {
                    "it is no delivery status notification (RFC 3464): multipart/report with message/delivery-status"
                }
                DsnError::NoRecipient => "its delivery status names no recipient with an action",
                DsnError::TooManyRecipients => "its delivery status names more than 100 recipients",
            })
        })?;
        let read = bounces.into_iter().map(|bounce| {
            let words: Vec<String> = bounce.status.into_iter().chain(bounce.diagnostic).collect();
            Bounce {
                delivery: bounce.delivery,
                address: bounce.address,
                failed: bounce.action == BounceAction::Failed,
                hard: bounce.hard,
                detail: Some(words.join(" ")).filter(|detail| !detail.is_empty()),
            }
        });
        Ok(read.collect())
    }
}
