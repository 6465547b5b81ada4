//! Notifications that are sent again and again.

use crate::notification::word;

word!(
    /// A schedule's name within its tenant: 1-64 characters of `a-z 0-9 . _ -`.
    ScheduleName,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a schedule's name is 1-64 characters of a-z, 0-9, ., _ and -"
);
