//! A look at a request's head as it comes, for what hyper forgives and an intermediary may read differently.
//!
//! Which of `Content-Length` and `Transfer-Encoding` counts, where a line ends: wherever two readers can disagree, a
//! second request can be hidden in the first (request smuggling). RFC 9112 lets a server refuse all of it, and so we
//! do. A head that came in one piece with the end of an earlier body is not looked at; hyper closes the connection
//! after a request with both lengths in any case.

/// The longer of the two names, with its colon.
const NAME: usize = "transfer-encoding:".len();

/// What has been seen of one head.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadScan {
    /// The beginning of the current line in lower case.
    line: [u8; NAME],
    /// Bytes of it, as far as they are kept.
    length: usize,
    after_cr: bool,
    lengths: u8,
    encodings: u8,
    bare_line_end: bool,
    /// The request line has come.
    began: bool,
    /// The empty line has come: the rest is none of the head's.
    done: bool,
}

impl HeadScan {
    /// Takes the next bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        // Line by line: behind its name a line is not looked at, and every request passes here.
        while !self.done && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.go_on(line);
            if end.is_none() {
                return;
            }
            self.end_line();
            bytes = &rest[1..];
        }
    }

    /// More of the current line.
    fn go_on(&mut self, piece: &[u8]) {
        // A carriage return that is not a line's end is hyper's to refuse.
        if let Some(last) = piece.last() {
            self.after_cr = *last == b'\r';
        }
        for byte in piece.iter().filter(|byte| **byte != b'\r') {
            if self.length >= NAME {
                break;
            }
            self.line[self.length] = byte.to_ascii_lowercase();
            self.length += 1;
        }
    }

    fn end_line(&mut self) {
        self.bare_line_end |= !self.after_cr;
        let line = &self.line[..self.length];
        // Empty lines before a request are allowed (RFC 9112, 2.2): they are no head yet.
        self.done = line.is_empty() && self.began;
        self.began |= !line.is_empty();
        if line.starts_with(b"content-length:") {
            self.lengths = self.lengths.saturating_add(1);
        }
        if line.starts_with(b"transfer-encoding:") {
            self.encodings = self.encodings.saturating_add(1);
        }
        (self.length, self.after_cr) = (0, false);
    }

    /// Whether two readers could disagree about where this request ends.
    pub(super) const fn is_ambiguous(&self) -> bool {
        self.bare_line_end
            || self.lengths > 1
            || self.encodings > 1
            || (self.lengths > 0 && self.encodings > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(head: &str) -> bool {
        // In one piece and byte by byte.
        let mut whole = HeadScan::default();
        whole.read(head.as_bytes());
        let mut pieces = HeadScan::default();
        head.as_bytes().chunks(1).for_each(|piece| pieces.read(piece));
        assert_eq!(whole.is_ambiguous(), pieces.is_ambiguous());
        whole.is_ambiguous()
    }

    #[test]
    fn a_head_has_one_length_and_one_kind_of_line_end() {
        for good in [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\nContent-Length: 3\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx-content-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-lengths: 1\r\ncontent-length: 1\r\n\r\n",
        ] {
            assert!(!ambiguous(good), "{good:?}");
        }
        for bad in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTRANSFER-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length:3\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\n\n",
        ] {
            assert!(ambiguous(bad), "{bad:?}");
        }
    }
}
