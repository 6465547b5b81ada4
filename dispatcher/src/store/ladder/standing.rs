//! Where recipients stand, from their rows.

use std::collections::HashSet;

use carillon_domain::{Address, ChannelKind, Timestamp};
use carillon_policy::{Came, Plan, Reason, Stand, StepStand};
use carillon_sql::StoreError;
use serde_json::value::RawValue;

use super::{
    climb::climb,
    records::{ClimbLease, Decision},
};
use crate::store::{
    ledger::Ledger,
    outside::small,
    plan::{Entries, Known},
    records::{PlanJob, RecipientPhase},
    rows::{recipient_phase, word},
};

/// Where an open recipient stands, as its rows say.
#[derive(Debug, Default)]
pub(in crate::store) struct Standing {
    pub(in crate::store) stand: Stand,
    /// The step that waits, and what for.
    pub(in crate::store) held: Option<(u32, Reason)>,
    /// Steps of which it was told that their inbox entry is skipped.
    pub(in crate::store) without_entry: HashSet<u32>,
    /// Deliveries that are there.
    pub(in crate::store) written: HashSet<(u32, ChannelKind, Address)>,
    /// Since when it stands in its step.
    pub(in crate::store) since: Option<Timestamp>,
    /// Of the lease under which it is looked at.
    pub(in crate::store) token: i64,
}

/// A lease's place; whether its recipient is open and its notification neither withdrawn nor answered for all; step, since
/// when, whether it counted, whether it was seen; phase.
pub(in crate::store) type StandingColumns = (i64, i64, Option<i64>, Option<i64>, i64, i64, Option<String>);

/// A lease's place, a delivery's step, channel, address and state; [`super::under_way`].
pub(in crate::store) type StandingDelivery = (i64, i64, String, String, String, Option<i64>);

/// A lease's place, a decision's step and body.
pub(in crate::store) type StandingDecision = (i64, Option<i64>, String);

/// What becomes of a lease.
#[derive(Debug)]
pub(in crate::store) enum Place {
    /// Somebody else has it.
    Lost,
    /// Nothing is to be decided any more.
    Over,
    Stands(Box<Standing>),
}

/// Where recipients stand, in the order of their jobs.
pub(in crate::store) fn standings(
    jobs: &[PlanJob],
    rows: Vec<StandingColumns>,
    deliveries: Vec<StandingDelivery>,
    decisions: Vec<StandingDecision>,
) -> Result<Vec<Place>, StoreError> {
    let mut places: Vec<Place> = jobs.iter().map(|_| Place::Lost).collect();
    let mut of: Vec<(Vec<StandingDelivery>, Vec<StandingDecision>)> =
        jobs.iter().map(|_| Default::default()).collect();
    let index = |place: i64| usize::try_from(place).unwrap_or(usize::MAX);
    for row in deliveries {
        if let Some((deliveries, _)) = of.get_mut(index(row.0)) {
            deliveries.push(row);
        }
    }
    for row in decisions {
        if let Some((_, decisions)) = of.get_mut(index(row.0)) {
            decisions.push(row);
        }
    }
    for row in rows {
        let at = index(row.0);
        let (Some(job), Some(place), Some((deliveries, decisions))) =
            (jobs.get(at), places.get_mut(at), of.get_mut(at))
        else {
            continue;
        };
        *place = if row.1 == 0 {
            Place::Over
        } else {
            let plan = match job.users.first().and_then(|addressee| addressee.plain.as_ref()) {
                None => job.plan.plan.clone(),
                Some(plain) => Plan::of_address(plain.channel.clone()),
            };
            let (deliveries, decisions) = (std::mem::take(deliveries), std::mem::take(decisions));
            Place::Stands(Box::new(standing(&row, &plan, deliveries, decisions)?))
        };
    }
    Ok(places)
}

fn standing(
    row: &StandingColumns,
    plan: &Plan,
    deliveries: Vec<StandingDelivery>,
    decisions: Vec<StandingDecision>,
) -> Result<Standing, StoreError> {
    let (_, _, step, since, counted, seen, phase) = row;
    let step = step.map(small).transpose()?;
    let since = since.map(Timestamp::from_micros);
    let held = phase.as_deref().map(recipient_phase).transpose()? == Some(RecipientPhase::Held);
    let mut standing = Standing {
        since,
        ..Standing::default()
    };
    let stand = &mut standing.stand;
    (stand.counted, stand.seen) = (*counted != 0, *seen != 0);
    let mut came = Came::Failed;
    for (_, of, channel, address, state, under_way) in deliveries {
        stand.under_way = stand.under_way.max(under_way.map(Timestamp::from_micros));
        let of = small(of)?;
        let own = Some(of) == step;
        let channel: ChannelKind = word(&channel)?;
        match state.as_str() {
            "accepted" | "delivered" => {
                stand.in_app |= channel.is_in_app();
                stand.arrived |= !channel.is_in_app();
                if own {
                    came = Came::Arrived;
                }
            }
            "pending" => {
                stand.open = true;
                if own && came != Came::Arrived {
                    came = Came::Open;
                }
            }
            "gathered" => {
                stand.open = true;
                if own && came == Came::Failed {
                    came = Came::Gathered;
                }
            }
            "dead" => stand.dead = true,
            _ => {}
        }
        standing.written.insert((of, channel, word(&address)?));
    }
    stand.step = step.map(|step| {
        let lasts = plan.steps.get(step as usize).and_then(|step| step.lasts());
        StepStand {
            index: step as usize,
            deadline_at: since.zip(lasts).map(|(since, lasts)| since.after(lasts)),
            came,
        }
    });
    let own = step;
    let mut ahead = 0;
    for (_, step, body) in decisions {
        let Some(step) = step.map(small).transpose()? else {
            continue;
        };
        // What another version wrote is no reason to stop.
        match serde_json::from_str(&body) {
            // Of a step that started, attempts are held, and not the recipient.
            Ok(Decision::Held(why)) if held && own.is_none_or(|own| step > own) => {
                standing.held = Some((step, why.reason));
            }
            Ok(Decision::Skipped(skip)) if skip.channel.is_some() => {
                standing.without_entry.insert(step);
            }
            Ok(Decision::Passed(_) | Decision::Skipped(_) | Decision::Capped(_)) => {
                ahead = ahead.max(step + 1);
            }
            _ => {}
        }
    }
    let held = standing.held.as_ref().map(|(step, _)| *step);
    standing.stand.ahead = held.map_or(ahead, |held| held.max(ahead)) as usize;
    Ok(standing)
}

/// Looks at recipients as they stand, and writes what follows. Answers how many it looked at.
pub(in crate::store) fn climb_on(
    ledger: &mut Ledger,
    mut known: Known,
    leases: &[ClimbLease],
    jobs: &[PlanJob],
    places: Vec<Place>,
) -> Result<u64, StoreError> {
    let mut entries = Entries::new();
    let mut looked = 0;
    for ((lease, job), place) in leases.iter().zip(jobs).zip(places) {
        match place {
            Place::Lost => {}
            Place::Over => ledger.writes.climb_ends.push(lease.clone()),
            Place::Stands(mut standing) => {
                standing.token = lease.token;
                let content: &RawValue =
                    serde_json::from_str(&job.notification.content).map_err(|error| {
                        StoreError::Corrupt(format!("content of {}: {error}", job.notification.id))
                    })?;
                for addressee in &job.users {
                    climb(
                        ledger,
                        &mut known,
                        &mut entries,
                        job,
                        addressee,
                        content,
                        Some(&standing),
                    )?;
                }
                looked += 1;
            }
        }
    }
    ledger.writes.entries.extend(entries.into_values());
    Ok(looked)
}
