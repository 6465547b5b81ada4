//! What the store takes and gives for schedules, the same for every backend.

use std::sync::Arc;

use carillon_domain::{NotificationId, ScheduleName, TenantId, Timestamp};

use crate::store::NewNotification;

/// How many of a schedule's latest times are kept.
pub(crate) const KEPT_RUNS: i64 = 50;

/// A schedule to write.
#[derive(Debug, Clone)]
pub(crate) struct ScheduleWrite {
    pub(crate) tenant: TenantId,
    pub(crate) name: ScheduleName,
    pub(crate) cron: Option<String>,
    /// An IANA time zone, where there is `cron`.
    pub(crate) zone: Option<String>,
    /// When it is sent once.
    pub(crate) once_at: Option<Timestamp>,
    /// The request, JSON.
    pub(crate) notification: Arc<str>,
    pub(crate) enabled: bool,
    pub(crate) starts_at: Option<Timestamp>,
    pub(crate) ends_at: Option<Timestamp>,
    /// When it is due first, unless its times are those of before.
    pub(crate) next_at: Option<Timestamp>,
    /// Whether it must not be there yet.
    pub(crate) only_new: bool,
}

/// What became of a schedule that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutSchedule {
    Made,
    Replaced,
    /// It is there already, and was to be new.
    Taken,
    /// The tenant has too many.
    Full,
}

/// A row of `schedules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduleRow {
    pub(crate) tenant: TenantId,
    pub(crate) name: ScheduleName,
    pub(crate) cron: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) once_at: Option<Timestamp>,
    /// The request, JSON.
    pub(crate) notification: Arc<str>,
    pub(crate) enabled: bool,
    pub(crate) starts_at: Option<Timestamp>,
    pub(crate) ends_at: Option<Timestamp>,
    /// When it is due next; never when there is none.
    pub(crate) next_at: Option<Timestamp>,
    /// How many of its times went by without being sent.
    pub(crate) skipped: u64,
    /// Counts changes.
    pub(crate) revision: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// One of a schedule's times, or somebody's word, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduleRun {
    /// The time that it was for.
    pub(crate) due_at: Timestamp,
    pub(crate) at: Timestamp,
    /// Whether somebody asked for it.
    pub(crate) manual: bool,
    pub(crate) notification: Option<NotificationId>,
    /// Why nothing was sent.
    pub(crate) error: Option<String>,
}

/// What is to happen to a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Firing {
    pub(crate) tenant: TenantId,
    pub(crate) name: ScheduleName,
    /// The schedule as it was read.
    pub(crate) revision: u64,
    /// None where somebody asked for it: then its times stay what they are.
    pub(crate) step: Option<ScheduleStep>,
    /// What is sent; none where nothing is, because its time is too long ago.
    pub(crate) run: Option<FiringRun>,
}

/// A schedule that goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScheduleStep {
    /// When it was due as it was read.
    pub(crate) from: Timestamp,
    /// When it is due next.
    pub(crate) to: Option<Timestamp>,
    /// How many times went by without being sent.
    pub(crate) skipped: u64,
}

/// One time of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct FiringRun {
    pub(crate) due_at: Timestamp,
    /// What is sent, or why nothing can be.
    pub(crate) sent: Result<NewNotification, String>,
}

/// What became of a [`Firing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Written; what it sends is accepted.
    Done,
    /// Written; this time of it was sent before.
    Before,
    /// The schedule was changed, moved on or removed since it was read.
    Stale,
}
