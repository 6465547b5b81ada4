//! What makes notifications of domain events.

use crate::notification::word;

word!(
    /// A rule's name within its tenant: 1-64 characters of `a-z 0-9 . _ -`.
    RuleName,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a rule's name is 1-64 characters of a-z, 0-9, ., _ and -"
);
