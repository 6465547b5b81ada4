//! What an SMTP answer means for a delivery. One table, for the answers of our relay and for what bounces quote.

use std::time::Duration;

use carillon_domain::{Fault, Outcome};

use super::reply::{Reply, Status};

/// How far the conversation was when an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, TLS included.
    Connect,
    /// The server's first words.
    Greeting,
    /// `EHLO`, `STARTTLS`.
    Hello,
    /// `AUTH`.
    SignIn,
    /// `MAIL`: the sender.
    Sender,
    /// `RCPT`: the recipient.
    Recipient,
    /// `DATA`.
    Data,
    /// After the message.
    Content,
}

impl Stage {
    /// In words, for a reason: "no answer ...".
    pub(super) const fn during(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Greeting => "to the connection: no greeting",
            Self::Hello => "to EHLO or STARTTLS",
            Self::SignIn => "to AUTH",
            Self::Sender => "to MAIL",
            Self::Recipient => "to RCPT",
            Self::Data => "to DATA",
            Self::Content => "after the message: it may have been taken",
        }
    }
}

/// What lies behind a permanent refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody is at this address, now or later.
    AddressGone,
    /// The mailbox is full, or takes no more just now: that passes.
    MailboxFull,
    /// We may not use the relay: its configuration here is wrong, and every message would fail alike.
    Credentials,
    /// This message, or its sender, is not wanted: ours to fix.
    Unwanted,
}

/// Greylisting asks for some minutes; what asks sooner asks in vain.
const GREYLIST_WAIT: Duration = Duration::from_secs(300);

/// Texts that name a policy, also where the code is that of an unknown user. In lower case.
const POLICY_WORDS: &[&str] = &[
    "relaying",
    "relay access",
    "relay denied",
    "relay not",
    "to relay",
    "not relay",
    "spam",
    "blocked",
    "blocklist",
    "blacklist",
    "block list",
    "denylist",
    "policy",
    "reputation",
    "spf",
    "dkim",
    "dmarc",
    "banned",
    "rejected by",
    "prohibited",
    "not allowed to send",
    "rcpthosts",
    "sender",
    "client host",
    "your host",
];

/// Texts that say that nobody is there, where the code says only "unavailable". In lower case. Each names whom or what: an
/// address is retired for explicit words alone.
const GONE_WORDS: &[&str] = &[
    "user unknown",
    "unknown user",
    "no such user",
    "no such recipient",
    "no such mailbox",
    "no such address",
    "unknown recipient",
    "recipient unknown",
    "unknown address",
    "unknown mailbox",
    "unknown local part",
    "user not found",
    "recipient not found",
    "mailbox not found",
    "address not found",
    "invalid recipient",
    "invalid mailbox",
    "mailbox unavailable",
    "no mailbox here",
    "not a valid recipient",
    "not a valid user",
    "not a valid mailbox",
    "isn't a valid recipient",
    "isn't a valid user",
    "isn't a valid mailbox",
    "account is disabled",
    "account has been disabled",
    "mailbox is disabled",
    "mailbox disabled",
    "unrouteable address",
    "unroutable address",
    "user not local",
    "mailbox name not allowed",
];

/// Texts that say so of whatever stands before them: TLS versions and services are no longer there either.
const ENDED_WORDS: &[&str] = &[
    "does not exist",
    "doesn't exist",
    "no longer",
    "not exist",
    "is disabled",
];

/// What an address is, before [`ENDED_WORDS`].
const MAILBOX_WORDS: &[&str] = &["user", "mailbox", "recipient", "account", "address"];

/// What else may not be there, before [`ENDED_WORDS`]; and whose.
const OTHER_WORDS: &[&str] = &["your", "sender", "client", "service", "domain", "host", "server"];

/// How far before [`ENDED_WORDS`] it is told what ended: about a sentence.
const SENTENCE: usize = 64;

const FULL_WORDS: &[&str] = &[
    "mailbox full",
    "mailbox is full",
    "over quota",
    "overquota",
    "quota exceeded",
    "exceeded storage",
    "out of storage",
];

/// Texts that ask for fewer messages.
const RATE_WORDS: &[&str] = &[
    "too quickly",
    "too many",
    "too much",
    "rate limit",
    "ratelimit",
    "rate that",
    "limit exceeded",
    "throttl",
    "temporarily",
    "try again",
];

/// Whether a text says in so many words that nobody is at the address. In lower case.
fn names_nobody(text: &str) -> bool {
    GONE_WORDS.iter().any(|words| text.contains(words))
        || ENDED_WORDS.iter().any(|words| {
            text.match_indices(words).any(|(at, _)| {
                let begin = text.ceil_char_boundary(at.saturating_sub(SENTENCE));
                let before = &text[begin..at];
                let names = |words: &[&str]| words.iter().any(|word| before.contains(word));
                names(MAILBOX_WORDS) && !names(OTHER_WORDS)
            })
        })
}

/// What lies behind a 5yz answer at or after `RCPT`, or behind the status that a bounce gives.
pub(super) fn refusal(code: Option<u16>, status: Option<Status>, text: &str) -> Refusal {
    if matches!(code, Some(530 | 534 | 535 | 538)) {
        return Refusal::Credentials;
    }
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        // X.1: the address.
        Some(Status(_, 1, 1 | 2 | 3 | 6 | 10)) => Refusal::AddressGone,
        Some(Status(_, 2, 2)) => Refusal::MailboxFull,
        // Security, the authentication of us: 7.8 credentials, 7.9 mechanism, 7.13 account.
        Some(Status(_, 7, 8 | 9)) => Refusal::Credentials,
        // Exchange Online's word for an address that its directory does not have.
        Some(Status(_, 4, 1)) if says(&["access denied"]) => Refusal::AddressGone,
        // Too large; other routing, protocol and policy answers.
        Some(Status(_, 2, 3) | Status(_, 3 | 4 | 6 | 7, _)) => Refusal::Unwanted,
        Some(Status(_, 1, 7 | 8)) => Refusal::Unwanted,
        // X.0.0, X.1.0, X.5.0 and the like say nothing: the text may. So must it for 2.1: disabled, for good or for now.
        _ if says(FULL_WORDS) => Refusal::MailboxFull,
        Some(Status(_, 2, 122)) => Refusal::MailboxFull,
        _ if says(RATE_WORDS) && !says(&["hops"]) => Refusal::MailboxFull,
        _ if says(POLICY_WORDS) => Refusal::Unwanted,
        _ if names_nobody(&text) => Refusal::AddressGone,
        // Without a word of why, RFC 5321's own meaning: "user not local".
        None if code == Some(551) => Refusal::AddressGone,
        _ => Refusal::Unwanted,
    }
}

/// What an answer means.
pub(super) fn classify(stage: Stage, reply: &Reply) -> Outcome {
    if reply.is_positive() {
        return Outcome::Accepted {
            provider_id: queue_id(&reply.text),
        };
    }
    let reason = format!("the relay answered {reply}");
    let retry = |fault, after| Outcome::Retry {
        after,
        reason: reason.clone(),
        fault,
    };
    // Until the recipient is named, an answer is about the relay and us: others would hear the same. 421 closes the
    // connection, whenever it comes.
    if reply.code == 421
        || matches!(
            stage,
            Stage::Connect | Stage::Greeting | Stage::Hello | Stage::SignIn
        )
    {
        return retry(Fault::Provider, None);
    }
    if reply.code < 500 {
        let (fault, after) = transient(stage, reply);
        return retry(fault, after);
    }
    // A message that is too large is refused at MAIL already; every other refusal there is of the sender.
    if stage == Stage::Sender && !too_large(reply) {
        return retry(Fault::Provider, None);
    }
    match refusal(Some(reply.code), reply.status, &reply.text) {
        Refusal::AddressGone => Outcome::Gone { reason },
        Refusal::MailboxFull => retry(Fault::Address, None),
        Refusal::Credentials => retry(Fault::Provider, None),
        Refusal::Unwanted
            if stage == Stage::Recipient
                && reply.code == 552
                && reply.status.is_none()
                && !too_large(reply) =>
        {
            retry(Fault::Address, None)
        }
        Refusal::Unwanted => Outcome::Rejected { reason },
    }
}

/// Whose trouble a 4yz answer tells of, and how long to wait.
fn transient(stage: Stage, reply: &Reply) -> (Fault, Option<Duration>) {
    let text = reply.text.to_ascii_lowercase();
    if text.contains("greylist") || text.contains("graylist") || text.contains("grey listed") {
        return (Fault::Address, Some(GREYLIST_WAIT));
    }
    let fault = match (stage, reply.status) {
        // The mailbox, wherever it comes; routes to the recipient's own host.
        (_, Some(Status(_, 1 | 2, _))) => Fault::Address,
        // The relay's own system: full, closing, overloaded; signing in.
        (_, Some(Status(_, 3, _))) => Fault::Provider,
        (Stage::Recipient, _) if reply.code == 454 => Fault::Provider,
        // RFC 5321's own meaning: insufficient system storage.
        (Stage::Content, None) if reply.code == 452 => Fault::Provider,
        // What follows on a message is of this one, or of what a filter found in it: others must not wait for it.
        (Stage::Recipient | Stage::Content, _) => Fault::Address,
        _ => Fault::Provider,
    };
    (fault, None)
}

fn too_large(reply: &Reply) -> bool {
    match reply.status {
        Some(Status(_, 3, 4) | Status(_, 2, 3)) => true,
        Some(Status(_, 2, 2)) => false,
        _ => {
            let text = reply.text.to_ascii_lowercase();
            matches!(reply.code, 523 | 552)
                && ["size", "too big", "too large", "too long"]
                    .iter()
                    .any(|word| text.contains(word))
        }
    }
}

/// The relay's own id of what it took, as the usual servers tell it.
fn queue_id(text: &str) -> Option<String> {
    let after = |mark: &str| text.find(mark).map(|at| &text[at + mark.len()..]);
    let id = after("queued as ")
        .or_else(|| after("id="))
        .or_else(|| text.strip_prefix("Ok ").filter(|rest| !rest.contains(' ')))?;
    let id = id.split([' ', ';', ',', ')', '>']).next()?;
    (!id.is_empty() && id.len() <= 255).then(|| id.to_owned())
}

#[cfg(test)]
mod tests;
