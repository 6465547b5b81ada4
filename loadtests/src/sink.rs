//! A mail server that takes everything: `PIPELINING`, `SIZE`, `DSN` and enhanced codes as a real one has them. Counts the
//! different `Message-ID`s.

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};

use crate::{far_end::Service, receiver::find};

const GREETING: &[u8] = b"220 sink.example ESMTP\r\n";
const OFFERS: &[u8] =
    b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-ENHANCEDSTATUSCODES\r\n\
    250-8BITMIME\r\n250 DSN\r\n";
const END: &[u8] = b"\r\n.\r\n";

/// What came.
#[derive(Default)]
pub(crate) struct Sink {
    seen: HashSet<Vec<u8>>,
    signed: usize,
    commands: Vec<u8>,
    sample: Vec<u8>,
}

/// Where a conversation stands.
#[derive(Default)]
pub(crate) struct Talk {
    reads_message: bool,
}

impl Sink {
    /// Messages with a DKIM signature, repeats included.
    pub(crate) fn signed(&self) -> usize {
        self.signed
    }

    /// What the first message was offered with: from `MAIL` to `DATA`, line ends included.
    pub(crate) fn commands(&self) -> &[u8] {
        &self.commands
    }

    /// The first message as it came: dots stuffed, with its end.
    pub(crate) fn sample(&self) -> &[u8] {
        &self.sample
    }

    fn message(&mut self, message: &[u8]) -> Result<()> {
        let name = b"\r\nMessage-ID: ";
        let begin = find(message, name).context("a message without Message-ID")? + name.len();
        let length = find(&message[begin..], b"\r\n").unwrap_or_default();
        let id = &message[begin..begin + length];
        if !self.seen.contains(id) {
            self.seen.insert(id.to_vec());
        }
        self.signed += usize::from(message.starts_with(b"DKIM-Signature:"));
        if self.sample.is_empty() {
            self.sample = message.to_vec();
        }
        Ok(())
    }

    fn command(&mut self, line: &[u8], talk: &mut Talk, output: &mut Vec<u8>) {
        let verb = line[..line.len().min(4)].to_ascii_uppercase();
        let is_part = matches!(verb.as_slice(), b"MAIL" | b"RCPT" | b"DATA");
        if is_part && !self.commands.ends_with(b"DATA\r\n") {
            self.commands.extend_from_slice(line);
        }
        let answer: &[u8] = match verb.as_slice() {
            b"EHLO" => OFFERS,
            b"MAIL" => b"250 2.1.0 Ok\r\n",
            b"RCPT" => b"250 2.1.5 Ok\r\n",
            b"RSET" => b"250 2.0.0 Ok\r\n",
            b"QUIT" => b"221 2.0.0 Bye\r\n",
            b"DATA" => {
                talk.reads_message = true;
                b"354 End data with <CR><LF>.<CR><LF>\r\n"
            }
            _ => b"500 5.5.2 Error: command not recognized\r\n",
        };
        output.extend_from_slice(answer);
    }
}

impl Service for Sink {
    type Talk = Talk;

    fn greeting(&self) -> &'static [u8] {
        GREETING
    }

    fn take(&mut self, _: usize, talk: &mut Talk, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Result<()> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if talk.reads_message {
                let Some(end) = find(rest, END) else { break };
                let length = end + END.len();
                self.message(&rest[..length])?;
                talk.reads_message = false;
                output.extend_from_slice(b"250 2.0.0 Ok: queued as 4Xq7Yt0000000000\r\n");
                used += length;
            } else {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    ensure!(rest.len() < 1_024, "a command line without an end");
                    break;
                };
                let line = rest[..=end].to_vec();
                self.command(&line, talk, output);
                used += end + 1;
            }
        }
        input.drain(..used);
        Ok(())
    }

    fn distinct(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALK: &[u8] = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\
        DKIM-Signature: v=1\r\nMessage-ID: <dlv_1@b>\r\n\r\nhello\r\n.\r\nMAIL FROM:<a@b>\r\n";

    #[test]
    fn a_conversation_is_answered_line_by_line_however_it_arrives() -> Result<()> {
        let mut answers = Vec::new();
        for step in [1, 7, TALK.len()] {
            let (mut sink, mut talk) = (Sink::default(), Talk::default());
            let (mut input, mut output) = (Vec::new(), Vec::new());
            for part in TALK.chunks(step) {
                input.extend_from_slice(part);
                sink.take(0, &mut talk, &mut input, &mut output)?;
            }
            assert_eq!((sink.distinct(), sink.signed()), (1, 1));
            assert_eq!(sink.commands(), b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
            assert!(sink.sample().starts_with(b"DKIM") && sink.sample().ends_with(END));
            answers.push(String::from_utf8(output)?);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(answers[0].matches("\r\n").count(), 6 + 5);
        Ok(())
    }
}
