//! What a publication carries so that its arrival proves something: its number within its topic, and the time at which it
//! should have left. Both have a fixed width, so that they are written and found by position.

/// What a mark begins with.
const MARK: &[u8] = b"seq=";
const NUMBER: usize = 10;
const TIME: usize = 19;
const WHOLE: usize = MARK.len() + NUMBER + 1 + TIME;

/// Data of `length` bytes (at least a mark's) with a mark that is still blank.
pub(crate) fn blank(length: usize) -> String {
    let mark = format!("seq={:0NUMBER$}@{:0TIME$}", 0, 0);
    let padding = length.saturating_sub(mark.len());
    mark + &"x".repeat(padding)
}

/// Where marks begin in `bytes`.
pub(crate) fn places(bytes: &[u8]) -> Vec<usize> {
    let mut finder = Finder::default();
    let (mut places, mut from) = (Vec::new(), 0);
    while let Found::Mark { end, .. } = finder.find(bytes, from) {
        places.push(end - WHOLE);
        from = end;
    }
    places
}

/// Writes number and time (nanoseconds since 1970) into the mark that begins at `place`.
pub(crate) fn stamp(bytes: &mut [u8], place: usize, number: u64, time: u64) {
    let begin = place + MARK.len();
    write(&mut bytes[begin..begin + NUMBER], number);
    write(&mut bytes[begin + NUMBER + 1..place + WHOLE], time);
}

fn write(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Finds marks; looks first where the last one was, since messages of one topic look alike.
#[derive(Default)]
pub(crate) struct Finder {
    offset: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole mark; what follows it begins at `end`.
    Mark {
        number: u64,
        time: u64,
        end: usize,
    },
    /// A mark may begin here, and is not whole.
    Partial(usize),
    Nothing,
}

impl Finder {
    /// The next mark at or behind `from`.
    pub(crate) fn find(&mut self, bytes: &[u8], from: usize) -> Found {
        let guess = from + self.offset;
        if bytes.len() >= guess + WHOLE
            && bytes[guess..].starts_with(MARK)
            && let Some(found) = read(bytes, guess)
        {
            return found;
        }
        let mut at = from;
        while let Some(step) = bytes[at..].iter().position(|byte| *byte == MARK[0]) {
            at += step;
            let rest = &bytes[at..];
            let begins = rest.starts_with(MARK) || MARK.starts_with(rest);
            if begins && rest.len() < WHOLE {
                return Found::Partial(at);
            }
            if begins && let Some(found) = read(bytes, at) {
                self.offset = at - from;
                return found;
            }
            at += 1;
        }
        Found::Nothing
    }
}

fn read(bytes: &[u8], place: usize) -> Option<Found> {
    let begin = place + MARK.len();
    let end = place + WHOLE;
    let number = value(&bytes[begin..begin + NUMBER])?;
    let time = value(&bytes[begin + NUMBER + 1..end])?;
    (bytes[begin + NUMBER] == b'@').then_some(Found::Mark { number, time, end })
}

fn value(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(number: u64, time: u64) -> Vec<u8> {
        let mut bytes = format!(r#"{{"pub":{{"data":"{}"}}}}"#, blank(60)).into_bytes();
        let place = places(&bytes)[0];
        stamp(&mut bytes, place, number, time);
        bytes
    }

    #[test]
    fn what_is_stamped_is_found_at_the_same_place_and_elsewhere() {
        let mut finder = Finder::default();
        let mut two = stamped(7, 1_795_314_640_123_456_789);
        let first = two.len();
        two.extend_from_slice(b", seq=nothing, ");
        two.extend(stamped(8, 5));
        let Found::Mark { number, time, end } = finder.find(&two, 0) else {
            panic!("no mark");
        };
        assert_eq!((number, time), (7, 1_795_314_640_123_456_789));
        assert!(end < first);
        assert!(matches!(
            finder.find(&two, end),
            Found::Mark {
                number: 8,
                time: 5,
                ..
            }
        ));
        let again = stamped(9, 1);
        assert!(matches!(finder.find(&again, 0), Found::Mark { number: 9, .. }));
    }

    #[test]
    fn a_mark_that_is_cut_anywhere_is_partial() {
        let bytes = blank(34).into_bytes();
        for cut in 1..bytes.len() {
            assert_eq!(
                Finder::default().find(&bytes[..cut], 0),
                Found::Partial(0),
                "{cut}"
            );
        }
        assert_eq!(Finder::default().find(b"what else says", 0), Found::Partial(13));
        assert_eq!(Finder::default().find(b":\n\n", 0), Found::Nothing);
    }
}
