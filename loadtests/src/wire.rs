//! Just enough of RFC 6455 for a client that trusts its server.

use anyhow::{Result, bail};

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// Text or binary.
    Message(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, 1005 where there is none.
    Close(u16),
}

/// The frame that `bytes` begin with and how long it is on the wire; `None` while it is not whole.
///
/// # Errors
/// When it is masked, fragmented or of an unknown kind.
#[inline]
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let (start, length) = match bytes {
        [] | [_] | [_, 126] | [_, 126, _] => return Ok(None),
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        [_, 127, a, b, c, d, e, f, g, h, ..] => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (10, usize::try_from(length)?)
        }
        [_, 127, ..] => return Ok(None),
        [_, short, ..] if *short < 126 => (2, usize::from(*short)),
        [..] => bail!("a masked frame from a server"),
    };
    let Some(payload) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    let frame = match (bytes[0], payload) {
        (0x81 | 0x82, _) => Frame::Message(payload),
        (0x89, _) => Frame::Ping(payload),
        (0x8A, _) => Frame::Pong,
        (0x88, [high, low, ..]) => Frame::Close(u16::from_be_bytes([*high, *low])),
        (0x88, _) => Frame::Close(1005),
        (other, _) => bail!("a frame of kind {other:#04x}"),
    };
    Ok(Some((frame, start + length)))
}

/// A client's text frame; the mask is zero, which is valid and costs nothing.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    masked(0x81, payload)
}

/// A client's answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    masked(0x8A, payload)
}

fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        length if length <= usize::from(u16::MAX) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A server's text frame.
pub(crate) fn from_server(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        length if length <= usize::from(u16::MAX) => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_whole_only_with_their_last_byte() -> Result<()> {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            let bytes = from_server(&vec![b'x'; length]);
            for cut in [1, 2, 3, 9, bytes.len() - 1] {
                assert_eq!(frame(&bytes[..cut.min(bytes.len() - 1)])?, None, "{length} {cut}");
            }
            let Some((Frame::Message(payload), used)) = frame(&bytes)? else {
                panic!("no frame of {length}");
            };
            assert_eq!((payload.len(), used), (length, bytes.len()));
        }
        Ok(())
    }

    #[test]
    fn control_frames_are_told_apart_and_a_masked_one_is_refused() -> Result<()> {
        assert_eq!(frame(&[0x89, 1, b'a'])?, Some((Frame::Ping(b"a"), 3)));
        assert_eq!(frame(&[0x88, 2, 0x0B, 0xC0])?, Some((Frame::Close(3008), 4)));
        assert!(frame(&text(b"abc")).is_err());
        assert_eq!(&text(b"ab")[..2], &[0x81, 0x82]);
        Ok(())
    }
}
