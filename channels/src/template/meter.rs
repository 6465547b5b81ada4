//! What filters make is paid for. Fuel counts steps, and one step could make any amount of text.

use minijinja::{Error, ErrorKind, State};

/// Bytes that the filters of one form may make together. Four times the largest form.
const BUDGET: usize = 1024 * 1024;

struct Meter(usize);

/// Pays for `bytes` that a filter is about to make.
pub(super) fn charge(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let left = &mut state.get_or_insert_extension_with(|| Meter(BUDGET)).0;
    match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "the filters make more than 1 MiB of text",
        )),
    }
}
