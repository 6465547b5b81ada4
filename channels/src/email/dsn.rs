//! What a bounce says: delivery status notifications (RFC 3464) out of raw messages.
//!
//! Bounces come from anybody, so nothing here believes their structure: parts are split one level deep, and header
//! fields are all that a parser sees.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use carillon_domain::DeliveryId;
use mail_parser::{HeaderValue, MessageParser, MimeHeaders as _};

use super::{
    address::canonical,
    classify::{Refusal, refusal},
    reply::Status,
};

/// The largest message that is read, in bytes: most bounces return the whole message that they are about.
pub const MAX_DSN: usize = 1 << 20;

/// Recipients that one bounce may tell of. Ours have one.
const MAX_RECIPIENTS: usize = 100;

/// Parts that are looked at: the report is the second, the returned message the third.
const MAX_PARTS: usize = 16;

/// Bytes of a part's own header, and of the returned message's, that are looked at.
const MAX_HEAD: usize = 64 * 1_024;

/// What is kept of a server's words.
const MAX_DIAGNOSTIC: usize = 1_000;

/// What became of one recipient's message, as a mail server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounce {
    /// Which delivery, from our own `Message-ID` or envelope id in it. Nothing when it returns neither.
    pub delivery: Option<DeliveryId>,
    /// Whose mailbox it is about, in the channel's canonical spelling if it is an address. Of what its recipient forwarded,
    /// that is not whom we wrote to.
    pub address: String,
    /// What the server did.
    pub action: BounceAction,
    /// The enhanced status code, such as `5.1.1`.
    pub status: Option<String>,
    /// The far server's own words: at most 1,000 bytes without control characters.
    pub diagnostic: Option<String>,
    /// Whether the address is dead: it failed, and not for a full mailbox or somebody's policy.
    pub hard: bool,
}

/// The field `Action` (RFC 3464, 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BounceAction {
    /// It could not be delivered, and is not tried again.
    Failed,
    /// Not yet delivered; the server goes on trying.
    Delayed,
    /// It is in the mailbox.
    Delivered,
    /// It went on to a server that sends no reports.
    Relayed,
    /// It went on to several addresses.
    Expanded,
}

/// The message is no bounce that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// More than [`MAX_DSN`].
    #[error("the message has more than 1 MiB")]
    TooLarge,
    /// Another kind of message.
    #[error(
        "the message is no delivery status notification (RFC 3464): multipart/report with message/delivery-status"
    )]
    NotADsn,
    /// No recipient's fields in it.
    #[error("the delivery status names no recipient with an action")]
    NoRecipient,
    /// More recipients than are read.
    #[error("the delivery status names more than 100 recipients")]
    TooManyRecipients,
}

/// What a raw message of RFC 3464 says, a bounce per recipient.
///
/// # Errors
/// When the message is too large or no delivery status notification.
pub fn parse_dsn(raw: &[u8]) -> Result<Vec<Bounce>, DsnError> {
    if raw.len() > MAX_DSN {
        return Err(DsnError::TooLarge);
    }
    let boundary = report_boundary(raw).ok_or(DsnError::NotADsn)?;
    let mut report = None;
    let mut delivery = None;
    for part in parts(raw, boundary.as_bytes()) {
        let (head, body) = split_head(part);
        let kind = content_type(head);
        match kind.as_deref() {
            Some("message/delivery-status" | "message/global-delivery-status") if report.is_none() => {
                report = Some(decoded(head, body));
            }
            Some("message/rfc822" | "message/global" | "text/rfc822-headers" | "message/global-headers")
                if delivery.is_none() =>
            {
                delivery = returned_id(&decoded(head, body));
            }
            _ => {}
        }
    }
    let report = report.ok_or(DsnError::NotADsn)?;
    let mut groups = groups(&report);
    let about = groups.next().unwrap_or_default();
    let delivery = delivery.or_else(|| about.get("original-envelope-id")?.trim().parse().ok());
    let mut bounces = Vec::new();
    // Some servers leave the first group out.
    let recipients = Some(about).into_iter().chain(groups);
    for group in recipients.filter(|group| group.get("action").is_some()) {
        if bounces.len() == MAX_RECIPIENTS {
            return Err(DsnError::TooManyRecipients);
        }
        bounces.extend(bounce(&group, delivery));
    }
    if bounces.is_empty() {
        return Err(DsnError::NoRecipient);
    }
    Ok(bounces)
}

fn bounce(group: &Group, delivery: Option<DeliveryId>) -> Option<Bounce> {
    let action = match group
        .get("action")?
        .split([' ', '(', ';'])
        .next()?
        .to_ascii_lowercase()
        .as_str()
    {
        "failed" => BounceAction::Failed,
        "delayed" => BounceAction::Delayed,
        "delivered" => BounceAction::Delivered,
        "relayed" => BounceAction::Relayed,
        "expanded" => BounceAction::Expanded,
        _ => return None,
    };
    // The original one is whom we wrote to, also where somebody forwarded it to the one that failed.
    let recipient = group
        .get("final-recipient")
        .or_else(|| group.get("original-recipient"))?;
    let recipient = after_type(recipient);
    let recipient = recipient.trim_start_matches('<').trim_end_matches('>');
    let address = canonical(recipient).map_or_else(|_| clean(recipient, 320), |address| address.to_string());
    let status = group.get("status").and_then(|text| {
        let text = text.trim();
        Status::lead(text).map(|(status, _)| status)
    });
    let diagnostic = group
        .get("diagnostic-code")
        .map(|text| clean(after_type(text), MAX_DIAGNOSTIC))
        .filter(|text| !text.is_empty());
    let said = diagnostic.as_deref().unwrap_or_default();
    let hard = action == BounceAction::Failed && is_dead(status, said);
    Some(Bounce {
        delivery,
        address,
        action,
        status: status.map(|status| status.to_string()),
        diagnostic,
        hard,
    })
}

/// Whether a failure means that nobody is at the address. The far server's own code counts more than that of the server
/// that reports it, which often knows only that it failed (5.0.0).
fn is_dead(status: Option<Status>, diagnostic: &str) -> bool {
    let (code, rest) = match diagnostic.split_at_checked(3) {
        Some((digits, rest)) if digits.bytes().all(|b| b.is_ascii_digit()) => (digits.parse().ok(), rest),
        _ => (None, diagnostic),
    };
    let quoted = Status::lead(rest.trim_start_matches([' ', '-', '#'])).map(|(status, _)| status);
    let status = quoted.or(status);
    // Given up after days of trying: nothing is known about the address.
    if status.is_some_and(|status| status.0 != 5) || code.is_some_and(|code: u16| code / 100 != 5) {
        return false;
    }
    (status.is_some() || code.is_some()) && refusal(code, status, diagnostic) == Refusal::AddressGone
}

/// The boundary of a `multipart/report`.
fn report_boundary(raw: &[u8]) -> Option<String> {
    let (head, _) = split_head(raw);
    let message = MessageParser::new().with_mime_headers().parse_headers(head)?;
    let kind = message.content_type()?;
    let is_report = kind.ctype().eq_ignore_ascii_case("multipart")
        && kind
            .subtype()
            .is_some_and(|subtype| subtype.eq_ignore_ascii_case("report"))
        && kind
            .attribute("report-type")
            .is_none_or(|kind| kind.to_ascii_lowercase().ends_with("delivery-status"));
    let boundary = kind.attribute("boundary")?;
    (is_report && matches!(boundary.len(), 1..=200)).then(|| boundary.to_owned())
}

/// Type and subtype in lower case.
fn content_type(head: &[u8]) -> Option<String> {
    let message = MessageParser::new().with_mime_headers().parse_headers(head)?;
    let kind = message.content_type()?;
    Some(format!("{}/{}", kind.ctype(), kind.subtype()?).to_ascii_lowercase())
}

/// The delivery that the returned message was: from the `Message-ID` that we gave it.
fn returned_id(message: &[u8]) -> Option<DeliveryId> {
    let (head, _) = split_head(message);
    let message = MessageParser::new().with_message_ids().parse_headers(head)?;
    let id = match message.header("Message-ID")? {
        HeaderValue::Text(id) => id,
        HeaderValue::TextList(ids) => ids.first()?,
        _ => return None,
    };
    id.split_once('@')?.0.parse().ok()
}

/// The parts between lines `--boundary`, of this level alone.
fn parts<'m>(raw: &'m [u8], boundary: &[u8]) -> impl Iterator<Item = &'m [u8]> {
    let mut found = Vec::new();
    let mut begin = None;
    let mut at = 0;
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let after = at + line.len();
        if let Some(rest) = line
            .strip_prefix(b"--")
            .and_then(|rest| rest.strip_prefix(boundary))
        {
            let rest = rest.trim_ascii_end();
            if rest.is_empty() || rest == b"--" {
                if let Some(begin) = begin.replace(after) {
                    found.push(&raw[begin..at]);
                }
                if !rest.is_empty() || found.len() == MAX_PARTS {
                    begin = None;
                    break;
                }
            }
        }
        at = after;
    }
    // A message that was cut off: what is there of the last part.
    if let Some(begin) = begin {
        found.push(&raw[begin..]);
    }
    found.into_iter()
}

/// Up to the first empty line, and what follows it. Line ends may be bare: some keep messages so.
fn split_head(message: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        let after = at + line.len();
        if line.trim_ascii().is_empty() {
            return (&message[..at.min(MAX_HEAD)], &message[after..]);
        }
        at = after;
    }
    (&message[..message.len().min(MAX_HEAD)], &[])
}

/// A part's body without its transfer encoding.
fn decoded<'m>(head: &[u8], body: &'m [u8]) -> Cow<'m, [u8]> {
    let message = MessageParser::new().with_mime_headers().parse_headers(head);
    let encoding = message
        .as_ref()
        .and_then(|message| message.content_transfer_encoding());
    match encoding.map(str::to_ascii_lowercase).as_deref() {
        Some("base64") => {
            let text: Vec<u8> = body
                .iter()
                .copied()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            BASE64_STANDARD
                .decode(text)
                .map_or(Cow::Borrowed(body), Cow::Owned)
        }
        Some("quoted-printable") => mail_parser::decoders::quoted_printable::quoted_printable_decode(body)
            .map_or(Cow::Borrowed(body), Cow::Owned),
        _ => Cow::Borrowed(body),
    }
}

/// The fields of a delivery status, names in lower case, folds undone.
#[derive(Default)]
struct Group(Vec<(String, String)>);

impl Group {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        Some(value)
    }
}

/// The groups of fields between empty lines.
fn groups(report: &[u8]) -> impl Iterator<Item = Group> {
    let report = String::from_utf8_lossy(report).into_owned();
    let mut groups = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in report.lines() {
        if line.trim().is_empty() {
            if !fields.is_empty() {
                groups.push(Group(std::mem::take(&mut fields)));
            }
            // One more than is read, so that it shows.
            if groups.len() > MAX_RECIPIENTS + 1 {
                break;
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    if !fields.is_empty() {
        groups.push(Group(fields));
    }
    groups.into_iter()
}

/// The value behind `rfc822;` or `smtp;`.
fn after_type(value: &str) -> &str {
    value.split_once(';').map_or(value, |(_, value)| value).trim()
}

/// At most `limit` bytes, without control characters.
fn clean(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.trim().chars() {
        if out.len() + c.len_utf8() > limit {
            break;
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "dlv_0190d6a5c0de70008000000000000001";

    /// A bounce around a delivery status and what is returned, with CRLF line ends.
    fn bounce_message(status: &str, returned: &str) -> Vec<u8> {
        format!(
            "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.net (Mail Delivery System)\nTo: hub@example.org\nSubject: \
             Undelivered\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\nContent-Type: multipart/report; \
             report-type=delivery-status;\n\tboundary=\"4XqT7v.1700000000/mx.example.net\"\n\nThis is a MIME message.\n\n\
             --4XqT7v.1700000000/mx.example.net\nContent-Description: Notification\nContent-Type: text/plain; \
             charset=us-ascii\n\nIt could not be delivered.\n\n--4XqT7v.1700000000/mx.example.net\n{status}\n\
             --4XqT7v.1700000000/mx.example.net\n{returned}\n--4XqT7v.1700000000/mx.example.net--\n"
        )
        .replace('\n', "\r\n")
        .into_bytes()
    }

    fn returned() -> String {
        format!(
            "Content-Description: Undelivered Message\nContent-Type: message/rfc822\n\nReceived: from hub\nFrom: \
             hub@example.org\nMessage-ID: <{ID}@example.org>\nContent-Type: multipart/alternative; boundary=\"=_x\"\n\n\
             --=_x\n\nAction: delivered\n--=_x--\n"
        )
    }

    fn one(raw: &[u8]) -> Bounce {
        let bounces = parse_dsn(raw).expect("a bounce");
        assert_eq!(bounces.len(), 1);
        bounces.into_iter().next().expect("one")
    }

    #[test]
    fn postfix_names_an_unknown_user() {
        let status = "Content-Description: Delivery report\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; \
                      mx.example.org\nX-Postfix-Queue-ID: 4XqT7v\nArrival-Date: Sat, 21 Nov 2026 10:00:00 +0000\n\n\
                      Final-Recipient: rfc822; ada@example.net\nOriginal-Recipient: rfc822;Ada@EXAMPLE.net\nAction: \
                      failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.example.net\nDiagnostic-Code: smtp; 550 5.1.1 \
                      <ada@example.net>: Recipient address\n    rejected: User unknown in virtual mailbox table\n";
        let bounce = one(&bounce_message(status, &returned()));
        assert_eq!(bounce.delivery, ID.parse().ok());
        assert_eq!(bounce.address, "ada@example.net");
        assert_eq!(
            (bounce.action, bounce.status.as_deref()),
            (BounceAction::Failed, Some("5.1.1"))
        );
        assert_eq!(
            bounce.diagnostic.as_deref(),
            Some(
                "550 5.1.1 <ada@example.net>: Recipient address rejected: User unknown in virtual mailbox table"
            )
        );
        assert!(bounce.hard);
    }

    #[test]
    fn a_bounce_of_a_forwarded_copy_names_whose_mailbox_failed() {
        let status = "Content-Type: message/delivery-status\n\nReporting-MTA: dns; forwarder.example.org\n\nOriginal-Recipient: \
                      rfc822;ada@example.net\nFinal-Recipient: rfc822;Bob@dead.example\nAction: failed\nStatus: 5.1.1\n";
        assert_eq!(
            one(&bounce_message(status, &returned())).address,
            "bob@dead.example"
        );
    }

    #[test]
    fn exim_reports_only_a_general_status_and_quotes_the_far_server() {
        let status = "Content-type: message/delivery-status\n\nReporting-MTA: dns; mx.test\n\nAction: failed\n\
                      Final-Recipient: rfc822;unknown@example.net\nStatus: 5.0.0\nRemote-MTA: dns; mx.example.net\n\
                      Diagnostic-Code: smtp; 550 no such user\n";
        let headers = format!(
            "Content-type: text/rfc822-headers\n\nReturn-path: <hub@example.org>\nMessage-ID: <{ID}@example.org>\n"
        );
        let bounce = one(&bounce_message(status, &headers));
        assert_eq!((bounce.delivery, bounce.hard), (ID.parse().ok(), true));
        assert_eq!(bounce.status.as_deref(), Some("5.0.0"));
    }

    #[test]
    fn exchange_encodes_its_report() {
        let fields = "Reporting-MTA: dns;AM0PR01.prod.example.com\r\nReceived-From-MTA: dns;mail.example.org\r\n\r\n\
                      Final-Recipient: rfc822;ada@example.net\r\nAction: failed\r\nStatus: 5.1.10\r\nDiagnostic-Code: \
                      smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient ada@example.net not found by SMTP address \
                      lookup\r\nX-Display-Name: Ada\r\n";
        let status = format!(
            "Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n{}\n",
            BASE64_STANDARD.encode(fields)
        );
        let bounce = one(&bounce_message(&status, &returned()));
        assert_eq!((bounce.status.as_deref(), bounce.hard), (Some("5.1.10"), true));
        assert!(
            bounce
                .diagnostic
                .is_some_and(|text| text.contains("; Recipient ada@example.net"))
        );
        let printable = "Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n\nReporting-MTA: \
                         dns;a\n\nFinal-Recipient: rfc822;ada=40example.net\nAction: failed\nStatus: 5.1.1\n";
        assert_eq!(
            one(&bounce_message(printable, &returned())).address,
            "ada@example.net"
        );
    }

    #[test]
    fn only_a_dead_address_is_hard() {
        for (action, status, diagnostic, hard) in [
            ("failed", "5.1.1", "", true),
            ("failed (bounced)", "5.1.1 (bad mailbox)", "", true),
            ("failed", "5.0.0", "x-local; unknown user", true),
            ("failed", "5.0.0", "smtp; 550-5.1.1 gone", true),
            ("failed", "5.2.2", "smtp; 552 5.2.2 mailbox full", false),
            ("failed", "5.0.0", "smtp; 552 mailbox full", false),
            ("failed", "5.7.1", "smtp; 550 5.7.1 blocked by policy", false),
            ("failed", "5.3.4", "smtp; 552 5.3.4 too big", false),
            ("failed", "4.4.1", "connection timed out", false),
            ("failed", "4.4.7", "smtp; 450 4.1.1 user unknown for now", false),
            ("failed", "", "user unknown", false),
            ("delayed", "4.4.1", "", false),
            ("delivered", "2.0.0", "", false),
        ] {
            let fields = format!(
                "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nFinal-Recipient: rfc822; a@example.net\n\
                 Action: {action}\nStatus: {status}\nDiagnostic-Code: {diagnostic}\n"
            );
            assert_eq!(
                one(&bounce_message(&fields, &returned())).hard,
                hard,
                "{action} {status} {diagnostic}"
            );
        }
    }

    #[test]
    fn the_envelope_id_serves_where_nothing_is_returned() {
        let status = format!(
            "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\nOriginal-Envelope-Id: {ID}\n\nFinal-Recipient: \
             rfc822; a@example.net\nAction: relayed\nStatus: 2.0.0\n\nFinal-Recipient: rfc822; b@example.net\nAction: \
             expanded\nStatus: 2.0.0\n"
        );
        let bounces =
            parse_dsn(&bounce_message(&status, "Content-Type: text/plain\n\nnothing\n")).expect("a bounce");
        assert_eq!(bounces.len(), 2);
        assert!(bounces.iter().all(|bounce| bounce.delivery == ID.parse().ok()));
        // Another system's message.
        let foreign = "Content-Type: message/rfc822\n\nMessage-ID: <1234@example.org>\n\nhi\n";
        let status = "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@example.net\nAction: failed\nStatus: 5.1.1\n";
        assert_eq!(one(&bounce_message(status, foreign)).delivery, None);
    }

    #[test]
    fn bare_line_ends_and_a_cut_message_are_read() {
        let status = "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nFinal-Recipient: rfc822; \
                      a@example.net\nAction: failed\nStatus: 5.1.1\n";
        let whole = bounce_message(status, &returned());
        let bare = String::from_utf8(whole.clone())
            .expect("text")
            .replace("\r\n", "\n");
        assert_eq!(one(bare.as_bytes()), one(&whole));
        let returned_at = bare.find("Content-Type: multipart/alternative").expect("there");
        assert_eq!(one(&bare.as_bytes()[..returned_at]), one(&whole));
    }

    #[test]
    fn what_is_no_bounce_is_refused() {
        let status = |fields: &str| {
            bounce_message(
                &format!("Content-Type: message/delivery-status\n\n{fields}"),
                "Content-Type: text/plain\n\n",
            )
        };
        assert_eq!(parse_dsn(b""), Err(DsnError::NotADsn));
        assert_eq!(
            parse_dsn(b"Subject: hi\r\n\r\nAction: failed\r\n"),
            Err(DsnError::NotADsn)
        );
        assert_eq!(
            parse_dsn(&bounce_message("Content-Type: text/plain\n\n", &returned())),
            Err(DsnError::NotADsn)
        );
        assert_eq!(
            parse_dsn(&status("Reporting-MTA: dns; a\n")),
            Err(DsnError::NoRecipient)
        );
        assert_eq!(
            parse_dsn(&status(
                "Final-Recipient: rfc822; a@b.example\nAction: vanished\n"
            )),
            Err(DsnError::NoRecipient)
        );
        let many = "Final-Recipient: rfc822; a@b.example\nAction: failed\n\n".repeat(101);
        assert_eq!(parse_dsn(&status(&many)), Err(DsnError::TooManyRecipients));
        assert_eq!(parse_dsn(&vec![b'a'; MAX_DSN + 1]), Err(DsnError::TooLarge));
    }

    /// A parser that descends into messages within messages would run out of stack.
    #[test]
    fn deep_nesting_is_not_followed() {
        let nested = "Content-Type: message/rfc822\n\n".repeat(15_000);
        assert_eq!(
            parse_dsn(&bounce_message(&nested, &nested)),
            Err(DsnError::NotADsn)
        );
        let multipart: String = (0..5_000)
            .map(|level| format!("Content-Type: multipart/report; boundary=b{level}\n\n--b{level}\n"))
            .collect();
        assert_eq!(parse_dsn(multipart.as_bytes()), Err(DsnError::NotADsn));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = parse_dsn(&raw);
        }

        #[test]
        fn broken_bounces_never_panic(at in 0..2_000_usize, with in proptest::collection::vec(any::<u8>(), 0..40), cut in 0..2_000_usize, fields in "([A-Za-z-]{0,20}[:;= ]{1,2}[ -~\\r\\n\\t]{0,30}\\n){0,8}") {
            let mut raw = bounce_message(&format!("Content-Type: message/delivery-status\n\n{fields}"), &returned());
            let at = at.min(raw.len());
            raw.splice(at..(at + with.len() / 2).min(raw.len()), with);
            raw.truncate(cut.max(300));
            if let Ok(bounces) = parse_dsn(&raw) {
                for bounce in bounces {
                    prop_assert!(!bounce.address.chars().any(char::is_control));
                    prop_assert!(bounce.diagnostic.is_none_or(|text| text.len() <= MAX_DIAGNOSTIC));
                }
            }
        }
    }
}
