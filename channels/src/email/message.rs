//! A notification as an email.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use carillon_domain::{
    Timestamp,
    ports::{NotificationMessage, Work},
};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use super::{
    EmailConfig, EmailError,
    address::{canonical, domain_to_ascii},
    dkim::{Signer, Unsigned},
};

/// A link in a header stays on one line, of at most 998 bytes (RFC 5322, 2.1.1).
const MAX_LINK: usize = 900;

/// Makes messages: who they are from is the same in all.
pub(super) struct Composer {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    domain: String,
    signer: Option<Signer>,
}

/// No message can be made of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComposeError {
    #[error("the address cannot be written into a message")]
    Address,
    #[error("the unsubscribe link is not one that fits into a header")]
    Link,
    #[error("the message cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

impl Composer {
    pub(super) fn new(config: &EmailConfig, signer: Option<Signer>) -> Result<Self, EmailError> {
        let from = config.from.as_deref().ok_or(EmailError::Setting("from"))?;
        let address = mailbox_address(from).ok_or(EmailError::Setting("from"))?;
        let reply_to = match config.reply_to.as_deref() {
            Some(text) => Some(mailbox_address(text).ok_or(EmailError::Setting("reply_to"))?),
            None => None,
        };
        let domain = match &config.message_id_domain {
            Some(domain) => domain_to_ascii(domain).map_err(|_| EmailError::Setting("message_id_domain"))?,
            None => address.domain().to_owned(),
        };
        let name = config.from_name.clone().filter(|name| !name.trim().is_empty());
        Ok(Self {
            from: Mailbox::new(name, address),
            reply_to: reply_to.map(|address| Mailbox::new(None, address)),
            domain,
            signer,
        })
    }

    /// The domain in each `Message-ID`.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// The whole message, lines ended by CRLF, signed. Every attempt of a delivery gives the same bytes.
    pub(super) fn compose(
        &self,
        work: &Work,
        notification: &NotificationMessage,
    ) -> Result<Vec<u8>, ComposeError> {
        let to = mailbox_address(work.address.as_str()).ok_or(ComposeError::Address)?;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject(notification))
            .date(system_time(work.created_at))
            .message_id(Some(format!("<{}@{}>", work.delivery, self.domain)))
            .raw_header(raw("Auto-Submitted", "auto-generated".to_owned()));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        if let Some(link) = &notification.unsubscribe {
            let fits = link.len() <= MAX_LINK
                && link
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
            if !fits {
                return Err(ComposeError::Link);
            }
            builder = builder.raw_header(raw("List-Unsubscribe", format!("<{link}>")));
            // One click is for https alone (RFC 8058, 3.1); over http the link is still one to open.
            if link.starts_with("https://") {
                builder = builder.raw_header(raw(
                    "List-Unsubscribe-Post",
                    "List-Unsubscribe=One-Click".to_owned(),
                ));
            }
        }
        let forms = &notification.forms;
        let text = forms
            .text
            .as_deref()
            .map_or_else(|| Cow::Owned(plain_text(notification)), Cow::Borrowed);
        // A template with a text alone wants to be text alone.
        let html = match (&forms.html, &forms.text) {
            (Some(html), _) => Some(Cow::Borrowed(html.as_str())),
            (None, Some(_)) => None,
            (None, None) => Some(Cow::Owned(html_text(notification))),
        };
        let text = part(ContentType::TEXT_PLAIN, &text);
        let message = match html {
            None => builder.singlepart(text)?,
            Some(html) => builder.multipart(
                MultiPart::alternative()
                    // "=_" occurs in no encoded text (RFC 2045, 6.7).
                    .boundary(format!("=_{}", work.delivery))
                    .singlepart(text)
                    .singlepart(part(ContentType::TEXT_HTML, &html)),
            )?,
        };
        let bytes = message.formatted();
        match &self.signer {
            None => Ok(bytes),
            Some(signer) => {
                let mut signed = signer.sign(&bytes, work.created_at)?;
                signed.extend_from_slice(&bytes);
                Ok(signed)
            }
        }
    }
}

fn mailbox_address(text: &str) -> Option<Address> {
    canonical(text).ok()?.as_str().parse().ok()
}

fn part(kind: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(lines(text))
}

/// The text with each line ended by CRLF, and of all control characters only these and tabs. A server that takes a bare CR
/// for a line end would see the message end where the sender wants it to, and commands behind it. In one pass: whoever
/// finds a bare LF later inserts each CR on its own, which costs the square of the text.
fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' | '\n' => {
                if c == '\r' {
                    chars.next_if_eq(&'\n');
                }
                out.push_str("\r\n");
            }
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A header whose value is ASCII and needs no encoding.
fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.clone(), value)
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_seconds()).unwrap_or(0))
}

/// One line: the template's, else the title.
fn subject(notification: &NotificationMessage) -> String {
    let text = notification
        .forms
        .subject
        .as_deref()
        .filter(|subject| !subject.trim().is_empty())
        .unwrap_or(&notification.content.title);
    let line = text.replace(
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'),
        " ",
    );
    line.trim().to_owned()
}

/// Text and link of everything that can be clicked. A path within the app leads nowhere from an email.
fn links(notification: &NotificationMessage) -> impl Iterator<Item = (&str, &str)> {
    let content = &notification.content;
    let own = content.url.as_deref().map(|url| ("", url));
    let actions = content
        .actions
        .iter()
        .filter_map(|action| Some((action.title.as_str(), action.url.as_deref()?)));
    own.into_iter()
        .chain(actions)
        .filter(|(_, url)| url.starts_with("https://") || url.starts_with("http://"))
}

fn plain_text(notification: &NotificationMessage) -> String {
    let content = &notification.content;
    let mut text = content.body.as_deref().unwrap_or(&content.title).to_owned();
    text.push_str("\r\n");
    for (title, url) in links(notification) {
        let colon = if title.is_empty() { "" } else { ": " };
        let _ = write!(text, "\r\n{title}{colon}{url}\r\n");
    }
    if let Some(link) = &notification.unsubscribe {
        let _ = write!(text, "\r\n-- \r\nUnsubscribe: {link}\r\n");
        if let Some(link) = &notification.preferences {
            let _ = write!(text, "Choose what you get: {link}\r\n");
        }
    }
    text
}

fn html_text(notification: &NotificationMessage) -> String {
    let content = &notification.content;
    let mut html = String::with_capacity(512);
    html.push_str("<!doctype html>\r\n<html");
    if let Some(locale) = &notification.locale {
        let _ = write!(html, " lang=\"{}\"", escaped(locale));
    }
    let title = escaped(&content.title);
    let _ = write!(
        html,
        "><head><meta charset=\"utf-8\"><title>{title}</title></head>\r\n<body style=\"font-family:sans-serif\">\r\n\
         <h1 style=\"font-size:1.25em\">{title}</h1>\r\n"
    );
    if let Some(body) = &content.body {
        let _ = write!(
            html,
            "<p style=\"white-space:pre-wrap\">{}</p>\r\n",
            escaped(body)
        );
    }
    for (title, url) in links(notification) {
        let url = escaped(url);
        let title = if title.is_empty() {
            url.clone()
        } else {
            escaped(title)
        };
        let _ = write!(html, "<p><a href=\"{url}\">{title}</a></p>\r\n");
    }
    if let Some(link) = &notification.unsubscribe {
        let _ = write!(html, "<p><small><a href=\"{}\">Unsubscribe</a>", escaped(link));
        if let Some(link) = &notification.preferences {
            let _ = write!(
                html,
                " \u{b7} <a href=\"{}\">Choose what you get</a>",
                escaped(link)
            );
        }
        html.push_str("</small></p>\r\n");
    }
    html.push_str("</body></html>\r\n");
    html
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carillon_domain::{
        Action, Category, Content, DeliveryId, NotificationId, Priority, TenantId,
        ports::{Forms, Message as Outgoing, Operation},
    };
    use mail_parser::{MessageParser, MimeHeaders as _};
    use proptest::prelude::*;

    use super::{
        super::smtp::{has_whole_lines, stuff},
        *,
    };

    const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn composer() -> Composer {
        let config = EmailConfig {
            from: Some("hub@example.org".into()),
            from_name: Some("Größe, \"quoted\"".into()),
            reply_to: Some("desk@example.org".into()),
            ..EmailConfig::default()
        };
        Composer::new(&config, None).expect("a composer")
    }

    fn notification() -> NotificationMessage {
        NotificationMessage {
            notification: NotificationId::at(AT),
            category: Category::default(),
            priority: Priority::Normal,
            collapse_key: None,
            content: Arc::new(Content {
                title: "Build <7> failed".into(),
                body: Some("Two tests & a half\nfailed: größer.".into()),
                url: Some("https://ci.example.org/7?a=1&b=2".into()),
                icon: None,
                actions: vec![
                    Action {
                        id: "again".into(),
                        title: "Try \"again\"".into(),
                        url: Some("https://ci.example.org/7/again".into()),
                    },
                    Action {
                        id: "open".into(),
                        title: "In the app".into(),
                        url: Some("/builds/7".into()),
                    },
                    Action {
                        id: "mute".into(),
                        title: "Mute".into(),
                        url: None,
                    },
                ],
                data: None,
            }),
            forms: Forms::default(),
            locale: Some("de".into()),
            user: None,
            unsubscribe: Some("https://hub.example.org/u/abc".into()),
            preferences: Some("https://hub.example.org/p/abc".into()),
        }
    }

    fn composed(notification: NotificationMessage) -> Vec<u8> {
        let work = Work {
            tenant: "default".parse::<TenantId>().expect("a tenant"),
            delivery: "dlv_0190d6a5c0de70008000000000000001"
                .parse::<DeliveryId>()
                .expect("an id"),
            attempt: 1,
            operation: Operation::Deliver,
            address: "ada@example.net".parse().expect("an address"),
            provider_id: None,
            message: Outgoing::Notification(Box::new(notification.clone())),
            created_at: AT,
            expires_at: AT.after(Duration::from_secs(60)),
            keys: Vec::new(),
        };
        let bytes = composer().compose(&work, &notification).expect("a message");
        assert_eq!(
            composer().compose(&work, &notification).expect("a message"),
            bytes,
            "attempts do not differ"
        );
        bytes
    }

    fn header<'m>(message: &'m mail_parser::Message<'_>, name: &str) -> Option<&'m str> {
        message.header_raw(name.to_owned()).map(str::trim)
    }

    #[test]
    fn a_notification_without_forms_becomes_text_and_html() {
        let bytes = composed(notification());
        let message = MessageParser::default().parse(&bytes).expect("parses");
        assert_eq!(message.subject(), Some("Build <7> failed"));
        assert_eq!(
            message.message_id(),
            Some("dlv_0190d6a5c0de70008000000000000001@example.org")
        );
        assert_eq!(header(&message, "Date"), Some("Fri, 15 Jan 2027 08:00:00 +0000"));
        assert_eq!(header(&message, "Auto-Submitted"), Some("auto-generated"));
        assert_eq!(
            header(&message, "List-Unsubscribe"),
            Some("<https://hub.example.org/u/abc>")
        );
        assert_eq!(
            header(&message, "List-Unsubscribe-Post"),
            Some("List-Unsubscribe=One-Click")
        );
        let from = message.from().and_then(|from| from.first()).expect("a sender");
        assert_eq!(
            (from.name(), from.address()),
            (Some("Größe, \"quoted\""), Some("hub@example.org"))
        );
        assert_eq!(
            message.reply_to().and_then(|to| to.first()?.address()),
            Some("desk@example.org")
        );
        assert!(
            message
                .content_type()
                .is_some_and(|kind| kind.subtype() == Some("alternative"))
        );
        assert_eq!(
            message.body_text(0).expect("text").replace("\r\n", "\n"),
            "Two tests & a half\nfailed: größer.\n\nhttps://ci.example.org/7?a=1&b=2\n\nTry \"again\": \
             https://ci.example.org/7/again\n\n-- \nUnsubscribe: https://hub.example.org/u/abc\n\
             Choose what you get: https://hub.example.org/p/abc\n"
        );
        let html = message.body_html(0).expect("html");
        for expected in [
            "<html lang=\"de\">",
            "Build &lt;7&gt; failed",
            "Two tests &amp; a half",
            "<a href=\"https://ci.example.org/7?a=1&amp;b=2\">",
            ">Try &quot;again&quot;</a>",
            ">Unsubscribe</a>",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
        assert!(!html.contains("/builds/7"), "a path leads nowhere from an email");
    }

    #[test]
    fn a_templates_forms_are_sent_as_they_are() {
        let forms = Forms {
            subject: Some("  Hällo\r\nBcc: eve@example.org ".into()),
            text: Some("Nur Text\n.\nEnde".into()),
            ..Forms::default()
        };
        let bytes = composed(NotificationMessage {
            forms: forms.clone(),
            unsubscribe: None,
            preferences: None,
            ..notification()
        });
        let message = MessageParser::default().parse(&bytes).expect("parses");
        assert_eq!(message.subject(), Some("Hällo Bcc: eve@example.org"));
        assert!(message.bcc().is_none() && header(&message, "List-Unsubscribe").is_none());
        assert_eq!(message.parts.len(), 1, "text alone");
        assert_eq!(
            message
                .body_text(0)
                .expect("text")
                .replace("\r\n", "\n")
                .trim_end(),
            "Nur Text\n.\nEnde"
        );
        let both = composed(NotificationMessage {
            forms: Forms {
                html: Some("<b>Hi</b>".into()),
                ..forms
            },
            ..notification()
        });
        let message = MessageParser::default().parse(&both).expect("parses");
        assert_eq!(
            message.body_html(0).as_deref().map(str::trim_end),
            Some("<b>Hi</b>")
        );
    }

    #[test]
    fn every_line_fits_and_is_ascii() {
        let mut long = notification();
        let content = Arc::make_mut(&mut long.content);
        content.title = "ein sehr langer Titel mit Umlauten äöü ".repeat(20);
        content.body = Some("x".repeat(5_000) + "\u{1f514}\n.\n");
        let bytes = composed(long);
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(
                line.len() <= 998 && line.is_ascii() && !line.contains(&b'\r'),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn one_click_is_offered_over_https_alone() {
        let bytes = composed(NotificationMessage {
            unsubscribe: Some("http://hub.example.org/u/abc".into()),
            ..notification()
        });
        let message = MessageParser::default().parse(&bytes).expect("parses");
        assert_eq!(
            header(&message, "List-Unsubscribe"),
            Some("<http://hub.example.org/u/abc>")
        );
        assert_eq!(header(&message, "List-Unsubscribe-Post"), None);
    }

    #[test]
    fn a_text_of_line_ends_costs_its_length() {
        for end in ["\n", "\r", "\r\n", "\n\r"] {
            let begun = std::time::Instant::now();
            let text = Some(format!("a{}b", end.repeat(256 * 1_024 / end.len())));
            let bytes = composed(NotificationMessage {
                forms: Forms {
                    text: text.clone(),
                    html: text,
                    ..Forms::default()
                },
                ..notification()
            });
            assert!(has_whole_lines(&bytes), "{end:?}");
            // Made twice, unoptimised, on a busy machine; inserting each CR on its own takes a minute.
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{end:?}: {took:?}");
        }
    }

    /// What a server sees that takes CR, LF and CRLF for line ends alike.
    fn lines_of(sent: &[u8]) -> Vec<&[u8]> {
        sent.split(|byte| matches!(byte, b'\r' | b'\n')).collect()
    }

    proptest! {
        #[test]
        fn no_text_ends_the_message_before_its_end(
            body in "(\\PC|[\\x00-\\x1f\\x7f.\\r\\n]){0,60}",
            action in "[a-z.\\r\\n\\x00]{1,20}",
            title in "\\PC{0,10}[.\\r\\n]{0,5}",
            as_form in any::<bool>(),
        ) {
            let mut given = notification();
            let content = Arc::make_mut(&mut given.content);
            content.title = title;
            content.body = Some(body.clone());
            content.actions[0].title = action;
            if as_form {
                given.forms.text = Some(body.clone());
                given.forms.html = Some(body);
            }
            let bytes = composed(given);
            prop_assert!(has_whole_lines(&bytes));
            let mut sent = Vec::new();
            stuff(&bytes, &mut sent);
            let end = sent.strip_suffix(b"\r\n.\r\n");
            prop_assert!(end.is_some());
            for line in lines_of(end.unwrap_or_default()) {
                prop_assert!(!line.starts_with(b".") || line.starts_with(b".."), "{:?}", String::from_utf8_lossy(line));
                prop_assert!(line.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t'));
            }
        }
    }

    #[test]
    fn a_link_that_would_break_out_of_its_header_is_refused() {
        for link in [
            "https://a.example/\r\nBcc: eve@example.org".to_owned(),
            "https://a.example/>".into(),
            "a".repeat(901),
        ] {
            let work = Work {
                tenant: "default".parse().expect("a tenant"),
                delivery: DeliveryId::at(AT),
                attempt: 1,
                operation: Operation::Deliver,
                address: "ada@example.net".parse().expect("an address"),
                provider_id: None,
                message: Outgoing::Notification(Box::new(notification())),
                created_at: AT,
                expires_at: AT,
                keys: Vec::new(),
            };
            let refused = composer().compose(
                &work,
                &NotificationMessage {
                    unsubscribe: Some(link),
                    ..notification()
                },
            );
            assert!(matches!(refused, Err(ComposeError::Link)));
        }
    }
}
