//! The ladder: what happens to one recipient now, and when to ask again.

use std::time::Duration;

use carillon_domain::Timestamp;

use crate::{Alert, Condition, Facts, InApp, Plan, Reason, Step, Verdict, decide::active};

/// How long one waits on for digests that close later than was foreseen.
const GATHERED: Duration = Duration::from_secs(60);

/// Where a recipient stands, as the store has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// The step that started last; none before the first.
    pub step: Option<StepStand>,
    /// Behind the step that started last: the first one that may still start, which is the one that a [`Move::Hold`] named,
    /// or the one after a [`Move::Pass`]. Those before it were decided, and stay so: what was passed over does not start
    /// when its condition holds later. Less than that, also 0, where nothing was passed over since.
    pub ahead: usize,
    /// Whether the inbox entry is written.
    pub in_app: bool,
    /// Whether a delivery of any step arrived: accepted or delivered.
    pub arrived: bool,
    /// Whether a delivery of any step is still to be made, a digest's member among them.
    pub open: bool,
    /// Whether a delivery of any step failed for good.
    pub dead: bool,
    /// Whether the notification's alert was counted for this user.
    pub counted: bool,
    /// Whether the user saw it.
    pub seen: bool,
    /// Whether an acknowledgement that counts was made.
    pub acknowledged: bool,
    /// Whether the sender withdrew it.
    pub cancelled: bool,
    /// Once the time to live is over: until when an attempt that began before may take. What it comes to counts.
    pub under_way: Option<Timestamp>,
}

/// The step in which a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepStand {
    /// Its index in the plan.
    pub index: usize,
    /// As [`Start::deadline_at`] said; none when it lasts as long as the notification lives.
    pub deadline_at: Option<Timestamp>,
    /// What its deliveries came to.
    pub came: Came,
}

/// What a step's deliveries came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Some are still to be made, and none arrived.
    Open,
    /// Those that are still to be made wait in digests, and none arrived: the step's time runs once they went out.
    Gathered,
    /// One arrived, or the inbox entry is written.
    Arrived,
    /// None arrived, and none will.
    Failed,
}

/// One thing to do, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// A step starts.
    Start(Start),
    /// A step is passed over.
    Pass {
        /// Which.
        step: usize,
        /// Why.
        reason: Reason,
        /// Its addresses, each with why it was skipped.
        skipped: Vec<Alert>,
    },
    /// A step would start, and waits. The recipient stands where it stood; what is decided at the end is decided anew.
    Hold {
        /// Which.
        step: usize,
        /// Until when at most; never later than the notification lives.
        until: Timestamp,
        /// Why.
        reason: Reason,
        /// What becomes of the inbox entry, which is not held.
        in_app: Option<InApp>,
    },
    /// The step that started last has its time.
    Wait {
        /// When to ask again; none when nothing is due before the notification's time to live ends.
        until: Option<Timestamp>,
    },
    /// The recipient's ladder is over.
    End(End),
}

/// A step that starts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub step: usize,
    /// What becomes of the inbox entry; none when the step has none, or it is written already.
    pub in_app: Option<InApp>,
    /// Its addresses with what was decided about each: the best reached first, at least one to send or for a digest,
    /// unless the entry is what it starts with.
    pub alerts: Vec<Alert>,
    /// When the next step starts; none when it lasts as long as the notification lives. It runs from the start; where all
    /// alerts go out with digests, from when the last of these closes.
    pub deadline_at: Option<Timestamp>,
    /// Whether this is the notification's first alert that counts: to be put among [`Facts::taken`] with now.
    pub counts: bool,
}

/// How a ladder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Acknowledged by somebody whose acknowledgement counts.
    Acknowledged,
    /// All steps are over, or the time is, and something arrived.
    Completed,
    /// The time is over, and nothing arrived.
    Expired,
    /// Withdrawn by the sender.
    Cancelled,
    /// Nothing was to be sent.
    Skipped,
    /// All that was sent failed for good.
    Dead,
}

impl End {
    /// As written in answers and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }
}

/// What happens to a recipient at `now`. The list ends with a [`Move::Hold`], [`Move::Wait`] or [`Move::End`], and only
/// there; before it stand the steps that start or are passed over, each at most once.
///
/// To be asked at the start, when what an earlier answer waited for is due, when the last delivery of the step in which the
/// recipient stands failed, and after an acknowledgement or a cancellation. Asking without cause does no harm.
pub fn climb(plan: &Plan, stand: &Stand, facts: &Facts<'_>, now: Timestamp) -> Vec<Move> {
    if let Some(reason) = facts.ended(stand, now) {
        let withdrawn = matches!(reason, Reason::Cancelled | Reason::Acknowledged);
        let undecided = !withdrawn && !stand.in_app && !stand.arrived;
        if let Some(until) = stand.under_way.filter(|until| undecided && *until > now) {
            return vec![Move::Wait { until: Some(until) }];
        }
        return vec![Move::End(match reason {
            Reason::Cancelled => End::Cancelled,
            Reason::Acknowledged => End::Acknowledged,
            _ if stand.in_app || stand.arrived => End::Completed,
            _ => End::Expired,
        })];
    }
    let mut climb = Climb {
        plan,
        facts,
        now,
        stand: stand.clone(),
        moves: Vec::new(),
    };
    let last = climb.go();
    climb.moves.push(last);
    climb.moves
}

struct Climb<'a> {
    plan: &'a Plan,
    facts: &'a Facts<'a>,
    now: Timestamp,
    /// With what the moves so far make of it.
    stand: Stand,
    moves: Vec<Move>,
}

impl Climb<'_> {
    /// What it comes to rest with.
    fn go(&mut self) -> Move {
        if let Some(rest) = self.stand.step.and_then(|step| self.lasts(step)) {
            return rest;
        }
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate().skip(self.next()) {
            if let Some(rest) = self.enter(index, step) {
                return rest;
            }
        }
        self.finish()
    }

    /// The first step that may still start.
    fn next(&self) -> usize {
        let behind = self.stand.step.map_or(0, |step| step.index + 1);
        behind.max(self.stand.ahead)
    }

    /// Whether the step in which the recipient stands is not over, and until when.
    fn lasts(&self, stand: StepStand) -> Option<Move> {
        let step = self.plan.steps.get(stand.index)?;
        let over = stand.deadline_at.is_some_and(|deadline| deadline <= self.now);
        if over && stand.came == Came::Gathered {
            let until = Some(self.now.after(GATHERED)).filter(|at| *at < self.facts.closes_at);
            return Some(Move::Wait { until });
        }
        if stand.came == Came::Failed || over {
            return None;
        }
        if !step.is_in_app_alone() || stand.index + 1 >= self.plan.steps.len() {
            let until = stand.deadline_at.filter(|at| *at < self.facts.closes_at);
            return Some(Move::Wait { until });
        }
        // In the app alone: only somebody who is there is given the time.
        if self.facts.critical {
            return None;
        }
        let active = active(self.facts.active_until, self.now)?;
        let until = stand.deadline_at.map_or(active, |deadline| deadline.min(active));
        let next = self.next();
        // Where all that follows was decided, nothing waits for it.
        let alerts = self.facts.alerts(self.plan.steps.get(next)?, self.now);
        // Quiet hours come before activity: where they will hold the next step's alerts anyway, they are the reason.
        let quiet = self.facts.quiet(self.now).filter(|_| sends(&alerts));
        Some(self.hold(next, quiet.unwrap_or(Reason::Active { until }), None))
    }

    fn hold(&self, step: usize, reason: Reason, in_app: Option<InApp>) -> Move {
        let until = reason.until().unwrap_or(self.facts.closes_at);
        Move::Hold {
            step,
            until: until.min(self.facts.closes_at),
            reason,
            in_app,
        }
    }

    /// Passes over a step or starts it; what the climb comes to rest with, if it does here.
    fn enter(&mut self, index: usize, step: &Step) -> Option<Move> {
        let (facts, now) = (self.facts, self.now);
        let mut alerts = facts.alerts(step, now);
        if let Some(condition) = step.when.iter().find(|when| !self.holds(**when, step, &alerts)) {
            let condition = *condition;
            self.pass(index, Reason::Condition { condition }, Vec::new());
            return None;
        }
        let entry = (step.has_in_app() && !self.stand.in_app).then(|| facts.in_app(self.stand.counted, now));
        if sends(&alerts) && !facts.critical {
            if let Some(reason) = facts.quiet(now) {
                return Some(self.hold(index, reason, entry));
            }
            if self.stand.in_app || matches!(entry, Some(InApp::Write { .. })) {
                self.spare_active_devices(&mut alerts);
            }
            if sends(&alerts) && !self.stand.counted {
                if let Some(reason) = facts.throttled(now) {
                    return Some(self.hold(index, reason, entry));
                }
                if let Some(reason) = facts.capped(now) {
                    skip_sends(&mut alerts, &reason);
                }
            }
        }
        let shown = step.has_in_app() && !matches!(entry, Some(InApp::Skip(_)));
        let digest_closes = alerts.iter().filter_map(|alert| match alert.verdict {
            Verdict::Digest { joining, .. } => Some(joining.closes_at),
            _ => None,
        });
        let digest_closes = digest_closes.max();
        let sent = sends(&alerts);
        if !shown && !sent && digest_closes.is_none() {
            let reason = why_nobody(&alerts, entry);
            self.pass(index, reason, alerts);
            return None;
        }
        let from = if shown || sent {
            now
        } else {
            digest_closes.unwrap_or(now)
        };
        let deadline_at = step.lasts().map(|lasts| from.after(lasts));
        let counts = sent && !facts.critical && !self.stand.counted;
        let start = StepStand {
            index,
            deadline_at,
            came: if shown { Came::Arrived } else { Came::Open },
        };
        self.stand.step = Some(start);
        self.stand.in_app |= shown;
        self.stand.open |= sent || digest_closes.is_some();
        self.stand.counted |= counts;
        self.moves.push(Move::Start(Start {
            step: index,
            in_app: entry,
            alerts,
            deadline_at,
            counts,
        }));
        self.lasts(start)
    }

    fn holds(&self, condition: Condition, step: &Step, alerts: &[Alert]) -> bool {
        match condition {
            // Otherwise nobody would be here.
            Condition::Unacknowledged => true,
            Condition::Unseen => !self.stand.seen,
            Condition::Inactive => active(self.facts.active_until, self.now).is_none(),
            Condition::Reachable => {
                let usable = |alert: &Alert| !matches!(alert.verdict, Verdict::Skip(_));
                step.has_in_app() || alerts.iter().any(usable)
            }
        }
    }

    /// Whose app shows it needs no alert beside.
    fn spare_active_devices(&self, alerts: &mut [Alert]) {
        for alert in alerts.iter_mut().filter(|alert| alert.verdict == Verdict::Send) {
            let address = &self.facts.addresses[alert.address];
            if active(address.active_until, self.now).is_some() {
                alert.verdict = Verdict::Skip(Reason::DeviceActive);
            }
        }
    }

    fn pass(&mut self, step: usize, reason: Reason, skipped: Vec<Alert>) {
        self.moves.push(Move::Pass {
            step,
            reason,
            skipped,
        });
    }

    /// No further step starts. What is still to be delivered is waited for: until it fails, or the time is over.
    fn finish(&self) -> Move {
        if self.stand.open {
            return Move::Wait { until: None };
        }
        Move::End(if self.stand.in_app || self.stand.arrived {
            End::Completed
        } else if self.stand.dead {
            End::Dead
        } else {
            End::Skipped
        })
    }
}

fn sends(alerts: &[Alert]) -> bool {
    alerts.iter().any(|alert| alert.verdict == Verdict::Send)
}

fn skip_sends(alerts: &mut [Alert], reason: &Reason) {
    for alert in alerts.iter_mut().filter(|alert| alert.verdict == Verdict::Send) {
        alert.verdict = Verdict::Skip(reason.clone());
    }
}

/// The reason that all have in common, if they have one.
fn why_nobody(alerts: &[Alert], entry: Option<InApp>) -> Reason {
    let mut reasons = alerts.iter().filter_map(|alert| match &alert.verdict {
        Verdict::Skip(reason) => Some(reason.clone()),
        _ => None,
    });
    let first = match entry {
        Some(InApp::Skip(reason)) => Some(reason),
        _ => reasons.next(),
    };
    match first {
        None => Reason::NoAddress,
        Some(first) if reasons.all(|reason| reason == first) => first,
        Some(_) => Reason::NothingToSend,
    }
}

#[cfg(test)]
mod tests;
