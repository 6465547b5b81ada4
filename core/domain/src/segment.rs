//! Saved filters over users.

use crate::notification::word;

word!(
    /// A segment's name within its tenant: 1-64 characters of `a-z 0-9 . _ -`.
    SegmentName,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a segment's name is 1-64 characters of a-z, 0-9, ., _ and -"
);
