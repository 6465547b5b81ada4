//! Two planted bugs by which the crash tests show that they would notice: commits that are not synced. They exist only
//! with the feature `planted-bugs`, which no release has, and are chosen at run time by `CARILLON_PLANT`.

use sqlx::sqlite::SqliteSynchronous;

#[cfg(feature = "planted-bugs")]
fn plant() -> String {
    std::env::var("CARILLON_PLANT").unwrap_or_default()
}

/// Whether PostgreSQL's settings are meant to be unsafe.
pub(crate) fn is_planted() -> bool {
    #[cfg(feature = "planted-bugs")]
    return plant() == "synchronous_commit_off";
    #[cfg(not(feature = "planted-bugs"))]
    false
}

/// `FULL`: each commit is synced before it is answered.
pub(crate) fn sqlite_synchronous() -> SqliteSynchronous {
    #[cfg(feature = "planted-bugs")]
    if plant() == "synchronous_off" {
        return SqliteSynchronous::Off;
    }
    SqliteSynchronous::Full
}

/// Nothing beside the defaults.
pub(crate) fn postgres_options() -> Vec<(&'static str, &'static str)> {
    if is_planted() {
        vec![("synchronous_commit", "off")]
    } else {
        Vec::new()
    }
}
