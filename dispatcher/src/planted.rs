//! Bugs by which the crash tests show that they would notice. They exist only with the feature `planted-bugs`, which no
//! release has, and are chosen at run time by `CARILLON_PLANT`.

/// 202 leaves before the transaction commits.
pub(crate) const ACK_BEFORE_COMMIT: &str = "ack_before_commit";
/// What was leased once never comes back.
pub(crate) const NO_REQUEUE: &str = "no_requeue";
/// The relay remembers the last id that it saw and asks for larger ones; ids are made before the commit, so that some
/// commit behind it.
pub(crate) const CURSOR: &str = "cursor_skips_late_commits";

/// An outcome is written down before its attempt is made.
pub(crate) const SETTLE_BEFORE_SEND: &str = "settle_before_send";
/// Each attempt has an id of its own.
pub(crate) const ID_PER_ATTEMPT: &str = "id_per_attempt";

/// Whether this bug was asked for.
pub(crate) fn is(bug: &str) -> bool {
    std::env::var("CARILLON_PLANT").is_ok_and(|plant| plant == bug)
}
