//! WebSocket framing (RFC 6455), as a server needs it: pure, no socket.

use bytes::{BufMut, Bytes, BytesMut};

/// The most frames that one message may be cut into: a flood of empty fragments costs nothing but time, and ends.
const MAX_FRAGMENTS: u32 = 1_024;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A whole text message, valid UTF-8.
    Text(String),
    /// A ping; to be answered with the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close with its code, if it has one. Nothing follows.
    Close(Option<u16>),
}

/// How a client broke the rules; its connection closes with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// 1002: a frame that RFC 6455 forbids.
    Protocol(&'static str),
    /// 1003: binary data where only text is spoken.
    Binary,
    /// 1007: text that is not UTF-8.
    Utf8,
    /// 1009: a message above the limit.
    TooLarge,
}

impl Violation {
    /// The close code (RFC 6455, section 7.4.1).
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Binary => 1003,
            Self::Utf8 => 1007,
            Self::TooLarge => 1009,
        }
    }

    /// For the close frame.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason,
            Self::Binary => "binary data on a text protocol",
            Self::Utf8 => "text is not UTF-8",
            Self::TooLarge => "message size limit exceeded",
        }
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Cuts a client's bytes into messages. Holds memory only while a frame or message is incomplete.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// The text fragments so far.
    message: Option<Box<Fragments>>,
}

#[derive(Debug, Default)]
struct Fragments {
    text: Vec<u8>,
    /// How much of `text` is known to be UTF-8; behind it stands at most one unfinished character.
    checked: usize,
    frames: u32,
}

impl Decoder {
    /// Takes what was read and adds what it completes to `events`. `input` is scratch: it is unmasked in place.
    ///
    /// # Errors
    /// When the client broke the rules; the decoder is then of no further use.
    pub(crate) fn push(
        &mut self,
        input: &mut [u8],
        limit: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        if self.partial.is_empty() {
            let used = self.frames(input, limit, events)?;
            if used < input.len() {
                self.partial = input[used..].to_vec();
            }
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(input);
            let used = self.frames(&mut partial, limit, events)?;
            if used < partial.len() {
                partial.drain(..used);
                self.partial = partial;
            }
        }
        Ok(())
    }

    fn frames(
        &mut self,
        mut input: &mut [u8],
        limit: usize,
        events: &mut Vec<Event>,
    ) -> Result<usize, Violation> {
        let mut used = 0;
        loop {
            let Some(header) = Header::parse(input)? else {
                return Ok(used);
            };
            if header.payload > limit {
                return Err(Violation::TooLarge);
            }
            let whole = header.len + header.payload;
            if input.len() < whole {
                return Ok(used);
            }
            let (frame, rest) = std::mem::take(&mut input).split_at_mut(whole);
            input = rest;
            used += whole;
            let payload = &mut frame[header.len..];
            unmask(payload, header.mask);
            match header.opcode {
                TEXT | CONTINUATION => {
                    if let Some(text) = self.text(header, payload, limit)? {
                        events.push(Event::Text(text));
                    }
                }
                BINARY => return Err(Violation::Binary),
                PING => events.push(Event::Ping(payload.to_vec())),
                PONG => events.push(Event::Pong),
                _ => {
                    events.push(Event::Close(close_code(payload)?));
                    return Ok(used);
                }
            }
        }
    }

    fn text(&mut self, header: Header, payload: &[u8], limit: usize) -> Result<Option<String>, Violation> {
        match (header.opcode, &self.message) {
            (TEXT, Some(_)) => return Err(Violation::Protocol("a new message inside a fragmented one")),
            (CONTINUATION, None) => return Err(Violation::Protocol("a continuation of nothing")),
            (TEXT, None) if header.fin => {
                return String::from_utf8(payload.to_vec())
                    .map(Some)
                    .map_err(|_| Violation::Utf8);
            }
            _ => {}
        }
        let message = self.message.get_or_insert_default();
        message.frames += 1;
        if message.text.len() + payload.len() > limit || message.frames > MAX_FRAGMENTS {
            return Err(Violation::TooLarge);
        }
        message.text.extend_from_slice(payload);
        // Fail at the first bad byte, not at the end of the message.
        match std::str::from_utf8(&message.text[message.checked..]) {
            Ok(_) => message.checked = message.text.len(),
            Err(error) if error.error_len().is_none() && !header.fin => {
                message.checked += error.valid_up_to()
            }
            Err(_) => return Err(Violation::Utf8),
        }
        if !header.fin {
            return Ok(None);
        }
        let text = self
            .message
            .take()
            .map(|message| message.text)
            .unwrap_or_default();
        String::from_utf8(text).map(Some).map_err(|_| Violation::Utf8)
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    payload: usize,
    len: usize,
}

impl Header {
    /// `None` until the whole header is there.
    fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, ..] = *input else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("a client's frame is not masked"));
        }
        let short = second & 0x7F;
        match opcode {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if fin && short <= 125 => {}
            CLOSE | PING | PONG => {
                return Err(Violation::Protocol("a control frame is fragmented or too long"));
            }
            _ => return Err(Violation::Protocol("an unknown opcode")),
        }
        let (payload, at) = match short {
            126 => {
                let Some(bytes) = input.get(2..4) else {
                    return Ok(None);
                };
                let length = u16::from_be_bytes([bytes[0], bytes[1]]);
                if length < 126 {
                    return Err(Violation::Protocol("a length is not in its shortest form"));
                }
                (usize::from(length), 4)
            }
            127 => {
                let Some(bytes) = input.get(2..10).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) else {
                    return Ok(None);
                };
                let length = u64::from_be_bytes(bytes);
                if length <= u64::from(u16::MAX) || length >> 63 != 0 {
                    return Err(Violation::Protocol("a length is not in its shortest form"));
                }
                (usize::try_from(length).unwrap_or(usize::MAX / 2), 10)
            }
            length => (usize::from(length), 2),
        };
        let Some(mask) = input
            .get(at..at + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            fin,
            opcode,
            mask,
            payload,
            len: at + 4,
        }))
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let masked = <[u8; 8]>::try_from(&*chunk)
            .map(u64::from_ne_bytes)
            .unwrap_or_default();
        chunk.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol("a close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::Protocol("a close code that must not be sent"));
            }
            std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
            Ok(Some(code))
        }
    }
}

/// A text message as one unmasked frame, header and payload in one buffer that many connections can share.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    frame(TEXT, payload)
}

/// A pong.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, payload)
}

/// A close; the reason is cut at 123 bytes. Without a code, an empty one.
pub(crate) fn close(code: Option<u16>, reason: &str) -> Bytes {
    let Some(code) = code else {
        return frame(CLOSE, &[]);
    };
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(CLOSE, &payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    out.put_u8(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.put_u8(short as u8),
        medium @ 126..=0xFFFF => {
            out.put_u8(126);
            out.put_u16(medium as u16);
        }
        long => {
            out.put_u8(127);
            out.put_u64(long as u64);
        }
    }
    out.put_slice(payload);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..=125 => out.push(0x80 | short as u8),
            medium @ 126..=0xFFFF => {
                out.push(0x80 | 126);
                out.extend((medium as u16).to_be_bytes());
            }
            long => {
                out.push(0x80 | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        out.extend(mask);
        out.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        out
    }

    fn decode(bytes: &[u8], limit: usize) -> Result<Vec<Event>, Violation> {
        let mut events = Vec::new();
        Decoder::default().push(&mut bytes.to_vec(), limit, &mut events)?;
        Ok(events)
    }

    #[test]
    fn rfc_6455_examples_decode() {
        let masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode(&masked_hello, 64), Ok(vec![Event::Text("Hello".into())]));
        assert_eq!(
            text(b"Hello").as_ref(),
            [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
    }

    #[test]
    fn a_control_frame_may_stand_between_fragments() {
        let bytes = [
            client_frame(0x01, b"Hel"),
            client_frame(0x89, b"?"),
            client_frame(0x80, b"lo"),
        ]
        .concat();
        assert_eq!(
            decode(&bytes, 64),
            Ok(vec![Event::Ping(b"?".to_vec()), Event::Text("Hello".into())])
        );
    }

    #[test]
    fn what_the_rfc_forbids_is_refused_with_its_code() {
        let code = |bytes: &[u8]| decode(bytes, 64).map_err(Violation::code);
        assert_eq!(code(&[0x81, 0x00]), Err(1002), "not masked");
        assert_eq!(code(&client_frame(0xC1, b"")), Err(1002), "reserved bit");
        assert_eq!(code(&client_frame(0x83, b"")), Err(1002), "reserved opcode");
        assert_eq!(
            code(&client_frame(0x09, b"")),
            Err(1002),
            "fragmented control frame"
        );
        assert_eq!(
            code(&client_frame(0x89, &[0; 126])),
            Err(1002),
            "long control frame"
        );
        assert_eq!(
            code(&client_frame(0x80, b"x")),
            Err(1002),
            "continuation of nothing"
        );
        let nested = [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat();
        assert_eq!(code(&nested), Err(1002), "message within a message");
        assert_eq!(code(&client_frame(0x88, &[3])), Err(1002), "half a close code");
        assert_eq!(
            code(&client_frame(0x88, &1005_u16.to_be_bytes())),
            Err(1002),
            "reserved close code"
        );
        assert_eq!(
            code(&[0x81, 0xFE, 0, 5, 0, 0, 0, 0]),
            Err(1002),
            "length not in its shortest form"
        );
        assert_eq!(code(&client_frame(0x82, b"x")), Err(1003), "binary");
        assert_eq!(code(&client_frame(0x81, &[0xFF])), Err(1007), "not UTF-8");
        assert_eq!(code(&client_frame(0x81, &[b'x'; 65])), Err(1009), "too large");
        let two = [client_frame(0x01, &[b'x'; 40]), client_frame(0x80, &[b'x'; 40])].concat();
        assert_eq!(code(&two), Err(1009), "too large together");
        let flood =
            std::iter::once(client_frame(0x01, b"")).chain((0..2_000).map(|_| client_frame(0x00, b"")));
        assert_eq!(
            code(&flood.flatten().collect::<Vec<_>>()),
            Err(1009),
            "flood of empty fragments"
        );
    }

    #[test]
    fn bad_utf8_fails_at_once_and_a_cut_character_does_not() {
        let mut events = Vec::new();
        let mut decoder = Decoder::default();
        let snowman = "\u{2603}".as_bytes();
        assert_eq!(
            decoder.push(&mut client_frame(0x01, &snowman[..1]), 64, &mut events),
            Ok(())
        );
        assert_eq!(
            decoder.push(&mut client_frame(0x80, &snowman[1..]), 64, &mut events),
            Ok(())
        );
        assert_eq!(events, [Event::Text("\u{2603}".into())]);
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.push(&mut client_frame(0x01, &[0xE2, 0x28]), 64, &mut events),
            Err(Violation::Utf8)
        );
    }

    #[test]
    fn nothing_is_held_between_messages() {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for byte in client_frame(0x81, b"dribble") {
            assert_eq!(decoder.push(&mut [byte], 64, &mut events), Ok(()));
        }
        assert_eq!(events, [Event::Text("dribble".into())]);
        assert_eq!(decoder.partial.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_message_survives_any_cut(
            parts in prop::collection::vec("\\PC{0,200}", 1..4),
            cuts in prop::collection::vec(0_usize..2_000, 0..8),
        ) {
            let mut bytes = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                let fin = if i + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(client_frame(fin | u8::from(i == 0), part.as_bytes()));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for window in cuts.windows(2) {
                decoder.push(&mut bytes[window[0]..window[1]].to_vec(), 1 << 20, &mut events).unwrap();
            }
            prop_assert_eq!(events, vec![Event::Text(parts.concat())]);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decoder::default().push(&mut bytes, 1_000, &mut Vec::new());
        }
    }
}
