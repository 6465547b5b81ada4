//! A receiver of webhooks: counts the different `webhook-id`s, and answers 204 at once.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::far_end::Service;

const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FAILURE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
/// What a title begins with whose number is kept with the time of its arrival.
pub(crate) const MARK: &str = "mark ";

/// How a host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers 204 at once.
    Well,
    /// Answers 500 at once.
    Fails,
    /// Never answers.
    Hangs,
}

/// What came.
#[derive(Default)]
pub(crate) struct Receiver {
    seen: HashSet<Vec<u8>>,
    requests: usize,
    unsigned: usize,
    sample: Vec<u8>,
    /// How each host behaves; those beyond behave well.
    manners: Vec<Manner>,
    /// When each marked title arrived first, by its number.
    pub(crate) marks: BTreeMap<u64, Instant>,
}

impl Receiver {
    /// With hosts that behave so.
    pub(crate) fn with(manners: Vec<Manner>) -> Self {
        Self {
            manners,
            ..Self::default()
        }
    }

    /// All requests, repeats included.
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// Requests without a signature.
    pub(crate) fn unsigned(&self) -> usize {
        self.unsigned
    }

    /// The first request, whole.
    pub(crate) fn sample(&self) -> &[u8] {
        &self.sample
    }
}

impl Service for Receiver {
    type Talk = ();

    fn greeting(&self) -> &'static [u8] {
        b""
    }

    fn take(&mut self, host: usize, (): &mut (), input: &mut Vec<u8>, output: &mut Vec<u8>) -> Result<()> {
        let mut used = 0;
        while let Some(request) = Request::parse(&input[used..])? {
            self.requests += 1;
            if self.sample.is_empty() {
                self.sample = input[used..used + request.length].to_vec();
            }
            let manner = self.manners.get(host).copied().unwrap_or(Manner::Well);
            if manner == Manner::Well {
                self.unsigned += usize::from(!request.signed);
                if let Some(number) = mark(&input[used..used + request.length]) {
                    self.marks.entry(number).or_insert_with(Instant::now);
                }
                if !self.seen.contains(request.id) {
                    self.seen.insert(request.id.to_vec());
                }
            }
            match manner {
                Manner::Well => output.extend_from_slice(NO_CONTENT),
                Manner::Fails => output.extend_from_slice(FAILURE),
                Manner::Hangs => {}
            }
            used += request.length;
        }
        input.drain(..used);
        Ok(())
    }

    fn distinct(&self) -> usize {
        self.seen.len()
    }
}

struct Request<'a> {
    id: &'a [u8],
    signed: bool,
    length: usize,
}

impl<'a> Request<'a> {
    /// The first whole request.
    fn parse(bytes: &'a [u8]) -> Result<Option<Self>> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let (mut id, mut signed, mut body) = (None, false, 0);
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"webhook-id") {
                id = Some(value);
            } else if name.eq_ignore_ascii_case(b"webhook-signature") {
                signed = value.starts_with(b"v1");
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let text = std::str::from_utf8(value)?;
                body = text.parse().context("a content-length")?;
            }
        }
        let length = end + 4 + body;
        if bytes.len() < length {
            return Ok(None);
        }
        Ok(Some(Self {
            id: id.context("a request without webhook-id")?,
            signed,
            length,
        }))
    }
}

/// Where `wanted` begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The number of a marked title.
fn mark(request: &[u8]) -> Option<u64> {
    let begin = find(request, MARK.as_bytes())? + MARK.len();
    let digits = request[begin..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits: String = digits.map(|byte| char::from(*byte)).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST /h HTTP/1.1\r\nWebhook-Id: dlv_7\r\nwebhook-signature: v1,abc\r\n\
        Content-Length: 25\r\n\r\n{\"content\":\"mark 15 of\" }";

    #[test]
    fn requests_are_taken_whole_and_counted_once() -> Result<()> {
        let mut receiver = Receiver::default();
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for byte in POST {
            input.push(*byte);
            receiver.take(0, &mut (), &mut input, &mut output)?;
        }
        input.extend_from_slice(POST);
        receiver.take(0, &mut (), &mut input, &mut output)?;
        assert!(input.is_empty());
        assert_eq!(output, NO_CONTENT.repeat(2));
        assert_eq!(
            (receiver.distinct(), receiver.requests(), receiver.unsigned()),
            (1, 2, 0)
        );
        assert!(receiver.marks.keys().eq(&[15]));
        assert_eq!(receiver.sample(), POST);
        Ok(())
    }

    #[test]
    fn a_bad_host_answers_badly_or_not_and_counts_nothing() -> Result<()> {
        let mut receiver = Receiver::with(vec![Manner::Fails, Manner::Hangs]);
        for (host, answer) in [(0, FAILURE), (1, b"".as_slice())] {
            let mut output = Vec::new();
            receiver.take(host, &mut (), &mut POST.to_vec(), &mut output)?;
            assert_eq!(output, answer);
        }
        assert_eq!((receiver.distinct(), receiver.requests()), (0, 2));
        Ok(())
    }
}
