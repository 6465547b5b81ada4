//! Plans: in which order channels are tried, and for how long each.

use std::time::Duration;

use carillon_domain::ChannelKind;
use serde::{Deserialize, Serialize};

use crate::PolicyFault;

/// The most steps of a plan.
pub const MOST_STEPS: usize = 8;
/// The most channels of a step.
pub const MOST_CHANNELS: usize = 8;
/// The longest deadline: 30 days.
pub const LONGEST_DEADLINE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The channels that reach an app or a browser outside of its own connection.
pub const PUSH_CHANNELS: [&str; 3] = ["apns", "fcm", "webpush"];

/// The ordered steps that a notification climbs for each recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whose acknowledgement ends it.
    #[serde(default)]
    pub acknowledged_by: AcknowledgedBy,
    /// One after the other: 1 to 8.
    pub steps: Vec<Step>,
}

/// Whose acknowledgement ends a notification's ladders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedBy {
    /// Each recipient's own ends their own.
    #[default]
    Each,
    /// The first one ends everybody's.
    Any,
}

impl AcknowledgedBy {
    /// As written in requests and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Any => "any",
        }
    }
}

/// One step: channels that are tried together, and how long they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Which: 1 to 8, each once in the whole plan.
    pub channels: Vec<ChannelKind>,
    /// How long after its start the next step begins, in seconds: 1 to 30 days. Without one it lasts as long as the
    /// notification lives; the next one then starts only if this one reached nobody or failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u32>,
    /// What must hold at its start, all of it; else it is passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
}

/// What must hold for a step to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The user did not acknowledge the notification. Holds of every step, written or not.
    Unacknowledged,
    /// The user did not see it.
    Unseen,
    /// None of the user's devices is active.
    Inactive,
    /// A device of the step's channels may be used.
    Reachable,
}

impl Condition {
    /// As written in requests and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unacknowledged => "unacknowledged",
            Self::Unseen => "unseen",
            Self::Inactive => "inactive",
            Self::Reachable => "reachable",
        }
    }
}

impl Plan {
    /// The plan of a list of channels: in-app for `hold`, then push for `push_deadline`, then all others at once. What the
    /// list does not name falls away, and the last step has no deadline.
    pub fn of_channels(channels: &[ChannelKind], hold: Duration, push_deadline: Duration) -> Self {
        let is_push = |channel: &ChannelKind| PUSH_CHANNELS.contains(&channel.as_str());
        let of = |wanted: &dyn Fn(&ChannelKind) -> bool, deadline: Option<Duration>| Step {
            channels: channels
                .iter()
                .enumerate()
                .filter(|(index, channel)| wanted(channel) && !channels[..*index].contains(channel))
                .map(|(_, channel)| channel.clone())
                .collect(),
            deadline: deadline.map(|deadline| {
                let seconds = deadline.min(LONGEST_DEADLINE).as_secs().max(1);
                u32::try_from(seconds).unwrap_or(u32::MAX)
            }),
            when: Vec::new(),
        };
        let mut steps = vec![
            of(&ChannelKind::is_in_app, Some(hold)),
            of(&is_push, Some(push_deadline)),
            of(&|channel| !channel.is_in_app() && !is_push(channel), None),
        ];
        steps.retain(|step| !step.channels.is_empty());
        if let Some(last) = steps.last_mut() {
            last.deadline = None;
        }
        Self {
            acknowledged_by: AcknowledgedBy::Each,
            steps,
        }
    }

    /// The plan of a plain address, which is a recipient of its own: one step with its channel.
    pub fn of_address(channel: ChannelKind) -> Self {
        Self {
            acknowledged_by: AcknowledgedBy::Each,
            steps: vec![Step {
                channels: vec![channel],
                deadline: None,
                when: Vec::new(),
            }],
        }
    }

    /// The same plan for somebody without an inbox; steps that were in-app alone fall away.
    #[must_use]
    pub fn without_in_app(&self) -> Self {
        let mut plan = self.clone();
        for step in &mut plan.steps {
            step.channels.retain(|channel| !channel.is_in_app());
        }
        plan.steps.retain(|step| !step.channels.is_empty());
        plan
    }

    /// All channels, in the order in which they are tried.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelKind> {
        self.steps.iter().flat_map(|step| &step.channels)
    }

    /// What is wrong with it; `known` says which channels there are. The pointers are relative to the plan.
    pub fn check(&self, known: impl Fn(&ChannelKind) -> bool) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        if !(1..=MOST_STEPS).contains(&self.steps.len()) {
            faults.push(PolicyFault::new(
                "/steps",
                format!("must have from 1 to {MOST_STEPS} steps"),
            ));
        }
        let mut named: Vec<(&ChannelKind, String)> = Vec::new();
        for (index, step) in self.steps.iter().enumerate().take(MOST_STEPS) {
            let at = format!("/steps/{index}");
            if !(1..=MOST_CHANNELS).contains(&step.channels.len()) {
                faults.push(PolicyFault::new(
                    format!("{at}/channels"),
                    format!("must name from 1 to {MOST_CHANNELS} channels"),
                ));
            }
            for (number, channel) in step.channels.iter().enumerate().take(MOST_CHANNELS) {
                let at = format!("{at}/channels/{number}");
                if let Some((_, earlier)) = named.iter().find(|(other, _)| *other == channel) {
                    faults.push(PolicyFault::new(at, format!("repeats {earlier}")));
                    continue;
                }
                if !channel.is_in_app() && !known(channel) {
                    faults.push(PolicyFault::new(at.clone(), "there is no such channel"));
                }
                named.push((channel, at));
            }
            faults.extend(step.check().into_iter().map(|fault| fault.under(&at)));
        }
        faults
    }
}

impl Step {
    /// How long it has; none means as long as the notification lives.
    pub fn lasts(&self) -> Option<Duration> {
        self.deadline.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether it writes the inbox entry.
    pub fn has_in_app(&self) -> bool {
        self.channels.iter().any(ChannelKind::is_in_app)
    }

    /// Whether it writes the inbox entry and does nothing else.
    pub fn is_in_app_alone(&self) -> bool {
        self.channels.iter().all(ChannelKind::is_in_app)
    }

    fn check(&self) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        if self
            .lasts()
            .is_some_and(|lasts| lasts.is_zero() || lasts > LONGEST_DEADLINE)
        {
            faults.push(PolicyFault::new("/deadline", "must be from 1 second to 30 days"));
        }
        for (index, condition) in self.when.iter().enumerate() {
            if let Some(earlier) = self.when[..index].iter().position(|other| other == condition) {
                faults.push(PolicyFault::new(
                    format!("/when/{index}"),
                    format!("repeats when/{earlier} of this step"),
                ));
            }
        }
        // A list of four words needs no more than that many faults.
        faults.truncate(8);
        faults
    }
}

#[cfg(test)]
mod tests;
