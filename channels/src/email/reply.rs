//! What an SMTP server answers (RFC 5321, 4.2), and the enhanced status code in it (RFC 3463).

use std::fmt;

/// The longest answer that is read, all its lines together. RFC 5321 allows 512 bytes a line.
pub(super) const MAX_REPLY: usize = 16 * 1_024;

/// What is kept of an answer's text.
const MAX_TEXT: usize = 1_000;

/// One answer, all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Three digits, 200 to 599.
    pub(super) code: u16,
    /// The text without the codes, lines joined by a space, control characters replaced, cut after 1,000 bytes.
    pub(super) text: String,
    /// The enhanced status code, if there is one.
    pub(super) status: Option<Status>,
}

/// An enhanced status code: class, subject and detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u8, pub(super) u16, pub(super) u16);

/// The answer is not SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not SMTP")]
pub(super) struct Malformed;

impl Reply {
    /// The answer at the beginning of `input` and its length in bytes; nothing while its end has not come yet.
    pub(super) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut first = None;
        let mut text = String::new();
        let mut status = None;
        let mut length = 0;
        for line in input.split_inclusive(|byte| *byte == b'\n') {
            let Some(content) = line.strip_suffix(b"\n") else {
                break;
            };
            length += line.len();
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            let (code, last, rest) = split_line(content)?;
            if *first.get_or_insert(code) != code {
                return Err(Malformed);
            }
            let rest = String::from_utf8_lossy(rest);
            let mut rest = rest.trim();
            // Each line may begin with it again.
            if let Some((found, after)) = Status::lead(rest) {
                status.get_or_insert(found);
                rest = after;
            }
            append(&mut text, rest);
            if last {
                return Ok(Some((Self { code, text, status }, length)));
            }
        }
        if input.len() > MAX_REPLY {
            Err(Malformed)
        } else {
            Ok(None)
        }
    }

    /// 2yz or 3yz.
    pub(super) const fn is_positive(&self) -> bool {
        self.code < 400
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

/// The code, whether the line is the last, and its text.
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), Malformed> {
    let (digits, rest) = line.split_at_checked(3).ok_or(Malformed)?;
    if !matches!(digits, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
        return Err(Malformed);
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Ok((code, true, rest)),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(Malformed),
    }
}

fn append(text: &mut String, line: &str) {
    if !text.is_empty() && !line.is_empty() && text.len() < MAX_TEXT {
        text.push(' ');
    }
    for c in line.chars() {
        if text.len() + c.len_utf8() > MAX_TEXT {
            return;
        }
        text.push(if c.is_control() { '\u{fffd}' } else { c });
    }
}

impl Status {
    /// From exactly `5.1.1`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = |digits: std::ops::RangeInclusive<usize>| {
            let part = parts.next()?;
            (digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u16>().ok())
                .flatten()
        };
        let (class, subject, detail) = (number(1..=1)?, number(1..=3)?, number(1..=3)?);
        let class = u8::try_from(class)
            .ok()
            .filter(|class| matches!(class, 2 | 4 | 5))?;
        parts.next().is_none().then_some(Self(class, subject, detail))
    }

    /// The code that `text` begins with, and what follows it.
    pub(super) fn lead(text: &str) -> Option<(Self, &str)> {
        let end = text.find([' ', '\t']).unwrap_or(text.len());
        let status = Self::parse(&text[..end])?;
        Some((status, text[end..].trim_start()))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_of_one_line_and_of_several_are_read() {
        let one = b"250 2.0.0 Ok: queued as 4Xq\r\n250 next";
        let (reply, length) = Reply::parse(one).expect("SMTP").expect("whole");
        assert_eq!(
            (reply.code, reply.status, length),
            (250, Some(Status(2, 0, 0)), 29)
        );
        assert_eq!(reply.text, "Ok: queued as 4Xq");
        let several =
            b"550-5.1.1 The account does not exist.\r\n550-5.1.1 Check it\r\n550 5.1.1 once more\r\n";
        let (reply, length) = Reply::parse(several).expect("SMTP").expect("whole");
        assert_eq!((reply.code, length), (550, several.len()));
        assert_eq!(
            reply.to_string(),
            "550 5.1.1 The account does not exist. Check it once more"
        );
    }

    #[test]
    fn an_unfinished_answer_waits_and_what_is_no_answer_ends() {
        for unfinished in [&b""[..], b"2", b"250", b"250 ok", b"250-a\r\n", b"250-a\r\n250"] {
            assert_eq!(Reply::parse(unfinished), Ok(None));
        }
        for wrong in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25 ok\r\n",
            b"199 a\r\n",
            b"650 a\r\n",
            b"250_a\r\n",
            b"250-a\r\n251 b\r\n",
        ] {
            assert_eq!(Reply::parse(wrong), Err(Malformed));
        }
        assert_eq!(Reply::parse(&vec![b'2'; MAX_REPLY + 1]), Err(Malformed));
    }

    #[test]
    fn an_enhanced_code_is_three_numbers() {
        assert_eq!(Status::parse("5.1.10"), Some(Status(5, 1, 10)));
        for wrong in [
            "", "5.1", "5.1.1.1", "3.1.1", "5.1.1234", "5..1", "+5.1.1", "5.+1.1", "1.2.3",
        ] {
            assert_eq!(Status::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_text_has_control_characters(input in proptest::collection::vec(any::<u8>(), 0..200), code in 200..600_u16) {
            let _ = Reply::parse(&input);
            let mut line = format!("{code} ").into_bytes();
            line.extend(input.iter().filter(|b| **b != b'\n'));
            line.extend(b"\r\n");
            let (reply, length) = Reply::parse(&line).expect("SMTP").expect("whole");
            prop_assert_eq!(length, line.len());
            prop_assert!(!reply.text.chars().any(char::is_control) && reply.text.len() <= MAX_TEXT);
        }
    }
}
