//! Firing: what is due is accepted like any request, in the transaction that moves its schedule on. Nobody holds a lease:
//! whoever comes second finds the schedule moved on.

use std::{error::Error, fmt::Write as _};

use carillon_domain::{ScheduleName, TenantId, Timestamp, ports::Unavailable};
use carillon_runtime::http::{FieldError, parse_part};
use carillon_sql::StoreError;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::Timing;
use crate::{
    Dispatcher,
    intake::is_away,
    store::{
        NewNotification,
        schedules::{Fired, Firing, FiringRun, ScheduleRow, ScheduleStep},
    },
    validation::{SendRequest, accept},
};

/// How many due schedules are read at once.
const PAGE: u32 = 100;
/// How often one look begins anew, before the others get a turn.
const ROUNDS: usize = 100;
/// The longest reason that is kept of a run that failed, in bytes, about.
const LONGEST_REASON: usize = 1_000;

/// Why a schedule was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// What it sends could not be written.
    #[error("the schedule could not be moved on")]
    Store(#[from] StoreError),
    /// What it names could not be looked up.
    #[error("what the schedule names could not be looked up")]
    Away(#[from] Unavailable),
    /// Its notification is not fit to be sent now.
    #[error("the schedule's notification does not fit any more")]
    Unfit(Vec<FieldError>),
    /// There is no such schedule, or it was changed while it ran.
    #[error("there is no such schedule any more")]
    Gone,
}

impl RunError {
    fn is_away(&self) -> bool {
        match self {
            Self::Store(error) => is_away(error),
            Self::Away(_) => true,
            Self::Unfit(_) | Self::Gone => false,
        }
    }
}

/// Checks a schedule's request as it would be sent now, with pointers below `/notification`.
pub(crate) async fn prepare(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    request: &RawValue,
    now: Timestamp,
) -> Result<NewNotification, RunError> {
    const AT: &str = "/notification";
    let request: SendRequest = parse_part(request, AT).map_err(|error| RunError::Unfit(vec![error]))?;
    let mut errors = Vec::new();
    if request.has_send_at() {
        errors.push(FieldError::new(
            format!("{AT}/send_at"),
            "must not stand here: the schedule says when",
        ));
    }
    let offer = dispatcher.offer(tenant, std::iter::once(&request)).await?;
    let accepted = accept(request, &offer, now, AT, &mut errors);
    match accepted {
        Some(notification) if errors.is_empty() => Ok(notification),
        _ => Err(RunError::Unfit(errors)),
    }
}

impl Dispatcher {
    /// Sends what is due until `stop`.
    pub(crate) async fn run_schedules(&self, stop: CancellationToken) {
        let poll = self.config.schedules.poll.duration();
        loop {
            let due = match self.fire_due(&stop).await {
                Ok(due) => due,
                Err(error) => {
                    metrics::counter!("carillon_dispatcher_schedule_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        "schedules could not be run; it is tried again"
                    );
                    None
                }
            };
            if !self.scheduler.wait(&stop, &*self.ports.clock, due, poll).await {
                return;
            }
        }
    }

    /// Sends everything that is due; answers when the next will be. An error means that something is away.
    pub(crate) async fn fire_due(&self, stop: &CancellationToken) -> Result<Option<Timestamp>, RunError> {
        for _ in 0..ROUNDS {
            let now = self.ports.clock.now();
            let due = self.store.due_schedules(now, PAGE).await?;
            let mut moved = due.is_empty();
            for row in &due {
                if stop.is_cancelled() {
                    return Ok(None);
                }
                match self.fire(row, now).await {
                    Ok(()) => moved = true,
                    Err(error) if error.is_away() => return Err(error),
                    Err(error) => tracing::error!(
                        error = &error as &dyn Error,
                        tenant = %row.tenant,
                        schedule = %row.name,
                        "a schedule could not be moved on"
                    ),
                }
            }
            // What cannot be moved must not be looked at without a pause.
            if !moved {
                return Ok(None);
            }
            if due.is_empty() {
                return Ok(self.store.next_schedule().await?);
            }
        }
        Ok(Some(self.ports.clock.now()))
    }

    /// Moves one schedule on, and sends what was due if it is not too late.
    async fn fire(&self, row: &ScheduleRow, now: Timestamp) -> Result<(), RunError> {
        let Some(from) = row.next_at else { return Ok(()) };
        let (step, run) = match Timing::of(row) {
            Some(timing) => {
                let step = timing.catch_up(from, now, self.config.schedules.grace.duration());
                let run = match step.fire {
                    None => None,
                    Some(due_at) => Some(FiringRun {
                        due_at,
                        sent: self.sent(row, now).await?,
                    }),
                };
                let step = ScheduleStep {
                    from,
                    to: step.next,
                    skipped: step.skipped,
                };
                (step, run)
            }
            None => {
                let step = ScheduleStep {
                    from,
                    to: None,
                    skipped: 0,
                };
                let sent = Err("its cron expression or time zone is not known any more".to_owned());
                (step, Some(FiringRun { due_at: from, sent }))
            }
        };
        let failed = run.as_ref().is_some_and(|run| run.sent.is_err());
        let sends = run.is_some() && !failed;
        let firing = Firing {
            tenant: row.tenant.clone(),
            name: row.name.clone(),
            revision: row.revision,
            step: Some(step),
            run,
        };
        if self.store.fire(now, &firing).await? == Fired::Done {
            metrics::counter!("carillon_dispatcher_schedule_times_skipped_total").increment(step.skipped);
            if sends {
                metrics::counter!("carillon_dispatcher_schedule_runs_total", "result" => "sent").increment(1);
                metrics::counter!("carillon_dispatcher_accepted_total").increment(1);
                self.relay_again();
            } else if failed {
                metrics::counter!("carillon_dispatcher_schedule_runs_total", "result" => "failed")
                    .increment(1);
            }
        }
        Ok(())
    }

    /// Something was left in the outbox beside the intake.
    fn relay_again(&self) {
        self.handover.leave();
        self.relay.wake();
    }

    /// What a schedule sends now, or why it cannot; an error means that something is away.
    async fn sent(
        &self,
        row: &ScheduleRow,
        now: Timestamp,
    ) -> Result<Result<NewNotification, String>, RunError> {
        let request = match serde_json::from_str::<&RawValue>(&row.notification) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match prepare(self, &row.tenant, request, now).await {
            Ok(notification) => Ok(Ok(notification)),
            Err(RunError::Unfit(errors)) => Ok(Err(told(&errors))),
            Err(error) => Err(error),
        }
    }

    /// Sends a schedule's notification now, whatever its times; they stay what they are.
    pub(crate) async fn run_schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<carillon_domain::NotificationId, RunError> {
        let now = self.ports.clock.now();
        let row = self.store.schedule(tenant, name).await?.ok_or(RunError::Gone)?;
        let request: &RawValue = serde_json::from_str(&row.notification)
            .map_err(|error| StoreError::Corrupt(format!("schedule {name}: {error}")))?;
        let notification = prepare(self, tenant, request, now).await?;
        let id = notification.id;
        let firing = Firing {
            tenant: tenant.clone(),
            name: name.clone(),
            revision: row.revision,
            step: None,
            run: Some(FiringRun {
                due_at: now,
                sent: Ok(notification),
            }),
        };
        match self.store.fire(now, &firing).await? {
            Fired::Done => {}
            Fired::Before | Fired::Stale => return Err(RunError::Gone),
        }
        metrics::counter!("carillon_dispatcher_accepted_total").increment(1);
        self.relay_again();
        Ok(id)
    }
}

/// Faults in one line that is not too long.
fn told(errors: &[FieldError]) -> String {
    let mut text = String::new();
    for error in errors {
        if text.len() > LONGEST_REASON {
            text.push_str("; and more");
            break;
        }
        let between = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{between}{}: {}", error.pointer, error.detail);
    }
    text
}
