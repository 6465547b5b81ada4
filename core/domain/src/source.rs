//! Tools whose events become notifications.

use crate::notification::word;

word!(
    /// A source's name within its tenant: 1-64 characters of `a-z 0-9 . _ -`, as a category has, since a source's
    /// notifications belong to the category of its name unless they are given another one.
    SourceName,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a source's name is 1-64 characters of a-z, 0-9, ., _ and -"
);
