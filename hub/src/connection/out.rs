//! What waits for a peer that does not read fast enough: bounded, shared with the other connections, and no memory
//! at all while the peer keeps up.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Frames in their order; the first one may be sent in part.
#[derive(Default)]
pub(crate) struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Whether some bytes of the first frame are out already: then its rest must follow.
    begun: bool,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.frames.front()
    }

    /// Fills `slices` from the front; answers how many.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices
            .iter_mut()
            .zip(&self.frames)
            .map(|(slot, frame)| *slot = IoSlice::new(frame));
        filled.count()
    }

    pub(crate) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Queues the rest of a frame whose beginning is out.
    pub(crate) fn push_rest(&mut self, rest: Bytes) {
        self.begun = true;
        self.push(rest);
    }

    /// Takes the first frame, or `most` bytes of it.
    pub(crate) fn take(&mut self, most: usize) -> Option<Bytes> {
        let part = self.frames.front()?.clone();
        let part = part.slice(..part.len().min(most));
        self.advance(part.len());
        Some(part)
    }

    /// `written` bytes of the front are out.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = self.frames.front_mut() {
            if written < front.len() {
                if written > 0 {
                    front.advance(written);
                    self.begun = true;
                }
                return;
            }
            written -= front.len();
            self.frames.pop_front();
            self.begun = false;
        }
        self.release();
    }

    /// Drops what can be dropped without breaking the framing: all but the rest of a frame that has begun.
    pub(crate) fn cut(&mut self) {
        let keep = usize::from(self.begun);
        self.frames.truncate(keep);
        self.bytes = self.frames.iter().map(Bytes::len).sum();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn release(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_only_the_rest_of_a_frame_that_has_begun() {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"first"));
        queue.push(Bytes::from_static(b"second"));
        queue.advance(2);
        assert_eq!(queue.bytes(), 9);
        queue.cut();
        assert_eq!(
            (queue.front().map(Bytes::as_ref), queue.bytes()),
            (Some(&b"rst"[..]), 3)
        );
        queue.advance(3);
        queue.push(Bytes::from_static(b"third"));
        queue.cut();
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_long_frame_is_taken_in_parts_and_a_cut_keeps_its_rest() {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"first"));
        queue.push(Bytes::from_static(b"second"));
        assert_eq!(queue.take(3), Some(Bytes::from_static(b"fir")));
        queue.cut();
        assert_eq!(queue.take(3), Some(Bytes::from_static(b"st")));
        assert_eq!((queue.take(3), queue.bytes()), (None, 0));
    }
}
