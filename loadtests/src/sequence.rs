//! Whether a connection got each publication once and in order. Numbers of a topic begin anywhere and rise by one.

use serde::{Deserialize, Serialize};

/// What one connection expects next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) next: u64,
}

/// What went wrong over all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Numbers that were passed over.
    pub(crate) lost: u64,
    /// The last one once more.
    pub(crate) doubled: u64,
    /// An earlier one: late, or once more.
    pub(crate) disordered: u64,
    /// Connections that did not come as far as they should.
    pub(crate) behind: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
}

impl Sequence {
    /// Takes note of an arrival; answers whether it was the expected one.
    pub(crate) fn arrive(&mut self, number: u64, faults: &mut Faults) -> bool {
        if number == self.next {
            self.next += 1;
            return true;
        }
        if number > self.next {
            faults.lost += number - self.next;
            self.next = number + 1;
        } else if number + 1 == self.next {
            faults.doubled += 1;
        } else {
            faults.disordered += 1;
        }
        false
    }
}

impl Faults {
    /// Whether all is well.
    pub(crate) fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds those of other connections.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.behind += other.behind;
        self.closed += other.closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u64]) -> (u64, Faults) {
        let (mut sequence, mut faults) = (Sequence { next: 5 }, Faults::default());
        for number in numbers {
            sequence.arrive(*number, &mut faults);
        }
        (sequence.next, faults)
    }

    #[test]
    fn each_once_and_in_order_is_no_fault() {
        assert_eq!(after(&[5, 6, 7]), (8, Faults::default()));
    }

    #[test]
    fn a_dropped_a_doubled_and_a_late_one_are_found() {
        let (next, faults) = after(&[5, 7, 8]);
        assert_eq!((next, faults.lost), (9, 1));
        assert_eq!(after(&[5, 6, 6, 7]).1.doubled, 1);
        let (_, faults) = after(&[5, 7, 6, 8]);
        assert_eq!((faults.lost, faults.disordered), (1, 1));
        assert!(!faults.none());
    }
}
