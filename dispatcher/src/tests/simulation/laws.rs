//! What must be true, whatever happens and whoever dies.

use std::collections::{HashMap, HashSet};

use carillon_domain::{Change, NotificationId, Position, Timestamp, UserId, ports::Operation};
use carillon_policy::{Condition, Plan, Step};

use super::{
    picture::{Key, Picture, picture},
    script::SECOND,
    stage::CHANNELS,
    work::failed,
    world::{Lawful, World},
};
use crate::store::outside::{Brings, LeasedDelivery};

const LATE: i64 = SECOND as i64;
/// Decisions that a step is passed over. Nobody here has an inbox turned off, which is told as `skipped` too.
const PASSED: &[&str] = &["passed", "skipped", "capped"];

/// Why a commit was made.
pub(super) enum Cause {
    /// Planning; with whoever is active, as it read.
    Plan(HashSet<UserId>),
    /// A climb.
    Climb {
        /// Whoever is active, as it read.
        there: HashSet<UserId>,
        /// Its node's time.
        wall: i64,
        /// Whose lease it had no longer.
        lost: HashSet<Key>,
    },
    /// A user's deed; whose answer to what it was, if it was one.
    Answer(Option<Key>),
    Cancel(Option<NotificationId>),
    /// Whatever else goes on by itself.
    Time,
}

/// What went from one moment to the next.
pub(super) fn changed(world: &mut World<'_>, after: &Picture, cause: &Cause) -> Lawful {
    world.narrate(after);
    let before = std::mem::take(&mut world.before);
    let lawful = states(world, &before, after)
        .and_then(|()| starts(world, &before, after, cause))
        .and_then(|()| steps(world, &before, after, cause))
        .and_then(|()| promises(world, &before, after, cause));
    world.before = before;
    failures(world, after);
    lawful
}

/// Notes whose step failed for good: of what it sent nothing arrived, and nothing will.
fn failures(world: &mut World<'_>, after: &Picture) {
    let planned = after.notes.iter().filter(|(_, row)| row.state == "planned");
    for (id, _) in planned {
        world.planned.entry(*id).or_insert(world.now);
    }
    let mut failed = HashMap::new();
    for (key, is) in &after.recipients {
        let Some(step) = is.step.filter(|_| is.state == "open") else {
            continue;
        };
        let mut sent = after.sent(*key, step).peekable();
        let some = sent.peek().is_some();
        if some && sent.all(|state| ["dead", "skipped"].contains(&state)) {
            // Where an earlier step's delivery is still tried, its end or the end of the time to live is waited for.
            let mut ways = after.deliveries.iter();
            let waits = ways.any(|((of, ..), state)| of == key && state == "pending");
            let new = if waits { u64::MAX } else { world.now };
            let since = world.failed.get(key).copied().unwrap_or(new);
            failed.insert(*key, since);
        }
    }
    world.failed = failed;
}

/// Nobody is lost, and who came to an end stays there; a late answer alone counts.
fn states(world: &mut World<'_>, before: &Picture, after: &Picture) -> Lawful {
    for (key, was) in &before.recipients {
        let Some(is) = after.state(key) else {
            return Err(format!("{} is no recipient any more", world.called(key)));
        };
        let was = was.state.as_str();
        let lawful = was == is || was == "open" || (was == "completed" && is == "acknowledged");
        if !lawful {
            return Err(format!("{} went from {was} to {is}", world.called(key)));
        }
        if was != is && is == "acknowledged" {
            world.figures.acknowledged += 1;
        }
    }
    for (key, is) in &after.recipients {
        let open = is.state == "open";
        if open == is.phase.is_empty() {
            return Err(format!(
                "{} is {} and {:?}",
                world.called(key),
                is.state,
                is.phase
            ));
        }
        if !open && after.climbs.contains_key(key) && was_open(before, key) {
            return Err(format!("{} is {}, and is due still", world.called(key), is.state));
        }
    }
    for note in &world.script.notes {
        let planned = after
            .notes
            .get(&note.new.id)
            .is_some_and(|row| row.state == "planned");
        let there = after.recipients.keys().filter(|(id, _)| *id == note.new.id);
        let (there, wanted) = (there.count(), note.recipients.len());
        if planned && there != wanted {
            return Err(format!("{} has {there} recipients of {wanted}", note.name));
        }
    }
    Ok(())
}

fn was_open(before: &Picture, key: &Key) -> bool {
    before.state(key).is_none_or(|state| state == "open")
}

/// Why nothing may start for a recipient any more.
fn over(before: &Picture, key: &Key) -> Option<String> {
    let row = before.notes.get(&key.0);
    if row.is_some_and(|row| row.state == "cancelled") {
        return Some("it was cancelled".to_owned());
    }
    if let Some(by) = row.and_then(|row| answered(before, key.0, row.plan.as_ref()?)) {
        return Some(format!("{by} answered for all"));
    }
    let state = before.state(key)?;
    (state != "open").then(|| format!("it is {state}"))
}

/// Who answered, where one answer is enough.
fn answered(picture: &Picture, note: NotificationId, plan: &Plan) -> Option<UserId> {
    if plan.acknowledged_by != carillon_policy::AcknowledgedBy::Any {
        return None;
    }
    let mut all = picture.recipients.iter();
    all.find(|((of, _), recipient)| *of == note && recipient.state == "acknowledged")
        .map(|((_, user), _)| *user)
}

/// What is written to be sent: by planning and climbs alone, and never after the end.
fn starts(world: &mut World<'_>, before: &Picture, after: &Picture, cause: &Cause) -> Lawful {
    for (way, state) in &after.deliveries {
        if state == "skipped" || before.deliveries.contains_key(way) {
            continue;
        }
        world.figures.starts += 1;
        let (key, step, channel, _) = way;
        let what = format!("step {step} of {} over {channel}", world.called(key));
        if let Some(why) = over(before, key) {
            return Err(format!("{what} starts, and {why}"));
        }
        if !matches!(cause, Cause::Plan(_) | Cause::Climb { .. }) {
            return Err(format!("{what} starts out of nothing"));
        }
    }
    Ok(())
}

/// Steps start in their order, each once, none before its time and none after it.
fn steps(world: &mut World<'_>, before: &Picture, after: &Picture, cause: &Cause) -> Lawful {
    for ((key, kind, step), count) in &after.decisions {
        if kind == "escalated" && *count > 1 {
            let name = world.called(key);
            return Err(format!("step {step:?} of {name} started {count} times"));
        }
    }
    let mut moved: Vec<&Key> = after
        .recipients
        .iter()
        .filter(|(key, is)| is.step != before.recipients.get(key).and_then(|was| was.step))
        .map(|(key, _)| key)
        .collect();
    moved.sort();
    for key in moved {
        let (was, is) = (before.recipients.get(key), after.recipients[key].step);
        let from = was.and_then(|was| was.step);
        if from >= is {
            let name = world.called(key);
            return Err(format!("{name} went from step {from:?} to {is:?}"));
        }
        if is.is_some_and(|step| before.decided(*key, PASSED, step)) {
            let name = world.called(key);
            return Err(format!("step {is:?} of {name} starts, and it was passed over"));
        }
        if let (None, Cause::Plan(there)) = (was, cause) {
            held_at_first(world, after, *key, is, there)?;
        }
        if let (Some(was), Some(from)) = (was, from) {
            world.figures.escalations += 1;
            let since = was.step_at.unwrap_or_default();
            in_time(world, before, *key, (from, since), cause)?;
        }
    }
    Ok(())
}

/// Whoever is there is given the time of the inbox before anything else begins.
fn held_at_first(
    world: &World<'_>,
    after: &Picture,
    key: Key,
    step: Option<i64>,
    there: &HashSet<UserId>,
) -> Lawful {
    let Some(first) = step_of(after, key, 0).filter(|first| first.when.is_empty()) else {
        return Ok(());
    };
    let is_user = world.script.users.iter().any(|(user, _)| *user == key.1);
    let alone = first.is_in_app_alone() && !waited_for_nobody(world, key, first, there);
    if is_user && alone && step > Some(0) {
        return Err(format!(
            "{} is there, and step {step:?} starts",
            world.called(&key)
        ));
    }
    Ok(())
}

/// Whether the step that a recipient leaves was over, and not for longer than a second.
fn in_time(
    world: &mut World<'_>,
    before: &Picture,
    key: Key,
    (from, since): (i64, i64),
    cause: &Cause,
) -> Lawful {
    let name = world.called(&key);
    let Cause::Climb { there, wall, lost } = cause else {
        return Err(format!("{name} leaves step {from} without a climb"));
    };
    if lost.contains(&key) {
        return Err(format!("{name} leaves step {from} under a lease that was lost"));
    }
    let Some(step) = step_of(before, key, from) else {
        return Err(format!("{name} has no step {from}"));
    };
    let arrived = before
        .sent(key, from)
        .any(|state| ["pending", "accepted", "delivered"].contains(&state));
    let over_at = step.lasts().map(|lasts| since + lasts.as_micros() as i64);
    if let Some(over_at) = over_at.filter(|at| at <= wall) {
        if arrived && !waited_for_nobody(world, key, step, there) {
            punctually(world, key, over_at)?;
        }
        return Ok(());
    }
    if !arrived || waited_for_nobody(world, key, step, there) {
        return Ok(());
    }
    Err(format!("{name} leaves step {from} before its time"))
}

/// In the app alone, where nobody looks at it.
fn waited_for_nobody(world: &World<'_>, key: Key, step: &Step, there: &HashSet<UserId>) -> bool {
    let critical = world
        .script
        .notes
        .iter()
        .any(|note| note.new.id == key.0 && note.new.critical);
    step.is_in_app_alone() && (critical || !there.contains(&key.1))
}

/// How late the next step starts, less what a dead or a standing dispatcher and a clock that jumped excuse.
fn punctually(world: &mut World<'_>, key: Key, over_at: i64) -> Lawful {
    // Its own commit hung, or it stood still over it.
    if world.climber_is_gone(&key) {
        return Ok(());
    }
    let late = u64::try_from(world.wall(0) - over_at).unwrap_or(0);
    let lost = world.lost.get(&key).map_or(late, |lost| world.now - lost);
    let late = late.min(lost).min(world.calm_for());
    world.figures.latest = world.figures.latest.max(late);
    if late <= SECOND {
        return Ok(());
    }
    let name = world.called(&key);
    Err(format!("{name} escalates {late} microseconds after its deadline"))
}

fn step_of(picture: &Picture, key: Key, step: i64) -> Option<&Step> {
    let plan = picture.notes.get(&key.0)?.plan.as_ref()?;
    plan.steps.get(usize::try_from(step).ok()?)
}

/// What somebody was told, or can rely on.
fn promises(world: &World<'_>, before: &Picture, after: &Picture, cause: &Cause) -> Lawful {
    match cause {
        Cause::Answer(Some(key))
            if before.state(key) == Some("open") && after.state(key) != Some("acknowledged") =>
        {
            return Err(format!("{} was answered and is not", world.called(key)));
        }
        Cause::Cancel(Some(note)) => {
            let mut of = after.recipients.iter();
            if let Some((key, _)) = of.find(|((id, _), is)| id == note && is.state == "open") {
                return Err(format!("{} is open and was cancelled", world.called(key)));
            }
        }
        Cause::Plan(_) => {
            for (key, is) in &after.recipients {
                let is_new = !before.recipients.contains_key(key);
                if is_new && ["open", "completed"].contains(&is.state.as_str()) {
                    shown(world, after, *key)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whose first step is the inbox has the entry at once.
fn shown(world: &World<'_>, after: &Picture, key: Key) -> Lawful {
    let first = step_of(after, key, 0).filter(|step| step.has_in_app() && step.when.is_empty());
    let is_user = world.script.users.iter().any(|(user, _)| *user == key.1);
    let mut ways = after.deliveries.keys();
    if first.is_some() && is_user && !ways.any(|(of, _, channel, _)| *of == key && channel == "in_app") {
        return Err(format!(
            "{} was planned, and the inbox has nothing",
            world.called(&key)
        ));
    }
    Ok(())
}

/// An attempt begins.
pub(super) fn attempted(
    world: &mut World<'_>,
    now: Timestamp,
    until: Timestamp,
    delivery: &LeasedDelivery,
) -> Lawful {
    let running = world.attempts.insert(delivery.id, (delivery.number(), until));
    if let Some((number, until)) = running
        && until > now
    {
        let name = world.delivery(delivery);
        return Err(format!("{name} begins, and attempt {number} runs until {until}"));
    }
    let (Brings::Notification(note), Some(user)) = (delivery.brings, delivery.user) else {
        return Err("something is sent that nobody asked for".to_owned());
    };
    if delivery.operation == Operation::Recall {
        return Ok(());
    }
    let key = (note, user);
    let Some(why) = over(&world.before, &key) else {
        return Ok(());
    };
    // With clocks that differ, one node may know before the other that its time is over.
    let by_time = ["expired", "completed"].contains(&world.before.state(&key).unwrap_or_default());
    if by_time && world.script.skew != [0, 0] {
        return Ok(());
    }
    let name = world.delivery(delivery);
    Err(format!("an attempt starts after the end: {name}, and {why}"))
}

/// What is due was looked at, by now.
pub(super) fn punctual(world: &World<'_>) -> Lawful {
    if world.calm_for() < SECOND {
        return Ok(());
    }
    // The one that is behind: what it wrote as due now was due for the other one before.
    let wall = world.wall(0);
    let picture = &world.before;
    for (key, (due, lease)) in &picture.climbs {
        if due + LATE < wall {
            let (name, late) = (world.called(key), wall - due);
            return Err(format!(
                "{name} is due for {late} microseconds, lease {lease}, and nobody looks"
            ));
        }
    }
    for (id, row) in &picture.notes {
        let mut open = picture
            .recipients
            .iter()
            .filter(|((of, _), is)| of == id && is.state == "open");
        // It may be planned after its time.
        let known = world.planned.get(id).is_some_and(|at| world.now > at + SECOND);
        if known
            && row.state == "planned"
            && !row.closed
            && row.expires_at + LATE < wall
            && let Some((key, _)) = open.next()
        {
            return Err(format!("{} is open, and its time is over", world.called(key)));
        }
    }
    for (key, is) in &picture.recipients {
        let (Some(at), Some(since)) = (is.step, is.step_at) else {
            continue;
        };
        let lasts = step_of(picture, *key, at).and_then(Step::lasts);
        let over_at = lasts.map(|lasts| since + lasts.as_micros() as i64);
        // Nothing starts behind its time to live; who is open then waits for the end, as long as the rest is planned.
        let lives = picture.notes.get(&key.0).is_some_and(|row| row.expires_at > wall);
        if is.state == "open"
            && lives
            && over_at.is_some_and(|over_at| over_at + LATE < wall)
            && !world.is_excused(key)
            && let Some(next) = startable(world, *key, at)
        {
            let name = world.called(key);
            return Err(format!(
                "{name} stands in step {at}, whose time is over, and step {next} has not started"
            ));
        }
    }
    waits(world)?;
    gives_way(world)
}

/// Who is open waits for something: a look that is due, a delivery that is to be made, or a step that lasts as long as the
/// notification lives.
fn waits(world: &World<'_>) -> Lawful {
    let picture = &world.before;
    if picture.due.withdrawals.is_some() {
        // Somebody comes for them.
        return Ok(());
    }
    for (key, is) in &picture.recipients {
        let is_user = world.script.users.iter().any(|(user, _)| *user == key.1);
        let lives = |row: &super::picture::Row| row.state == "planned" && !row.closed && row.plan.is_some();
        let Some(row) = picture.notes.get(&key.0).filter(|row| lives(row)) else {
            continue;
        };
        if is.state != "open" || !is_user || picture.climbs.contains_key(key) {
            continue;
        }
        let mut ways = picture.deliveries.iter();
        let made = ways.any(|((of, ..), state)| of == key && state == "pending");
        let lasts = is.step.zip(is.step_at).is_some_and(|(step, since)| {
            let lasts = step_of(picture, *key, step).and_then(Step::lasts);
            lasts.is_none_or(|lasts| since + lasts.as_micros() as i64 >= row.expires_at)
        });
        if !made && !lasts {
            let name = world.called(key);
            return Err(format!(
                "{name} is open in step {:?}, and waits for nothing",
                is.step
            ));
        }
    }
    Ok(())
}

/// A step of which nothing arrives is over at once.
fn gives_way(world: &World<'_>) -> Lawful {
    let picture = &world.before;
    for (key, since) in &world.failed {
        // What the one that is ahead makes due now is due for the other one when its clock is there.
        let ahead = world.script.skew[1];
        let long = world.now.saturating_sub(*since).min(world.calm_for()) > SECOND + ahead;
        if long && !world.is_excused(key) {
            let (name, step) = (world.called(key), picture.recipients[key].step);
            return Err(format!(
                "{name} stands in step {step:?}, of which nothing arrives"
            ));
        }
    }
    Ok(())
}

/// A later step that would start now: its conditions hold, it reaches somebody, and it was not passed over.
fn startable(world: &World<'_>, key: Key, after: i64) -> Option<i64> {
    let picture = &world.before;
    let plan = picture.notes.get(&key.0)?.plan.as_ref()?;
    let (_, name) = world.script.users.iter().find(|(user, _)| *user == key.1)?;
    let people = &world.stage.people;
    let inbox = picture
        .deliveries
        .keys()
        .any(|(of, _, channel, _)| *of == key && channel == "in_app");
    for (index, step) in (0_i64..).zip(&plan.steps) {
        let passed = picture.decided(key, PASSED, index);
        if index <= after || passed {
            continue;
        }
        let usable = |channel: &str| {
            let address = format!("{name}@{channel}");
            let suppressed = picture
                .suppressed
                .contains(&(channel.to_owned(), address.clone()));
            let known = people.with(key.1, |person| {
                let mut devices = person.devices.iter();
                devices.any(|device| device.address.as_str() == address && device.active_until.is_none())
            });
            known == Some(true) && !suppressed
        };
        let reaches = CHANNELS
            .iter()
            .any(|channel| step.channels.iter().any(|of| of.as_str() == *channel) && usable(channel));
        let writes = step.has_in_app() && !inbox;
        let holds = step.when.iter().all(|when| match when {
            Condition::Unacknowledged => true,
            Condition::Unseen => !picture.seen.contains(&key),
            Condition::Inactive => !people.is_active(key.1),
            Condition::Reachable => reaches || step.has_in_app(),
        });
        if holds && (reaches || writes) {
            return Some(index);
        }
    }
    None
}

/// When nothing moves any more, nothing is left, and everybody has what he should have, once.
pub(super) async fn at_rest(world: &mut World<'_>) -> Lawful {
    let end = picture(&world.stage.database, &world.tenant).await?;
    if end.waiting > 0 {
        return Err(format!("{} rows wait, and nobody comes", end.waiting));
    }
    if let Some((key, _)) = end.recipients.iter().find(|(_, is)| is.state == "open") {
        return Err(format!("{} is open in the end", world.called(key)));
    }
    let store = world.stage.store();
    for note in world
        .script
        .notes
        .iter()
        .filter(|note| world.sent.contains(&note.new.id))
    {
        let state = end.notes.get(&note.new.id).map(|row| row.state.as_str());
        if !matches!(state, Some("planned" | "cancelled" | "expired")) {
            return Err(format!("{} is {state:?} in the end", note.name));
        }
        let counts = store.recipient_counts(&world.tenant, note.new.id).await;
        let counted: u64 = counts.map_err(failed)?.iter().map(|count| count.count).sum();
        let rows = end.recipients.keys().filter(|(id, _)| *id == note.new.id);
        if counted != rows.count() as u64 {
            return Err(format!("{} counts {counted} recipients", note.name));
        }
    }
    for (user, name) in &world.script.users {
        inbox(world, &end, *user, name).await?;
    }
    Ok(())
}

/// A mailbox's log has no holes, and brought each notification once that was written to it.
async fn inbox(world: &World<'_>, end: &Picture, user: UserId, name: &str) -> Lawful {
    let store = world.stage.store();
    let (position, _) = store.mailbox(&world.tenant, user).await.map_err(failed)?;
    let from = Position {
        epoch: position.epoch,
        seq: 0,
    };
    let since = store
        .since(&world.tenant, user, &from, 10_000)
        .await
        .map_err(failed)?;
    let mut brought: HashMap<NotificationId, u64> = HashMap::new();
    for (item, seq) in since.items.iter().zip(1_u64..) {
        if item.position.seq != seq {
            return Err(format!(
                "the log of {name} has a hole before {}",
                item.position.seq
            ));
        }
        let change: Change = serde_json::from_slice(&item.body).map_err(failed)?;
        if let Change::Added { entry, .. } | Change::Replaced { entry, .. } = change {
            *brought.entry(entry.notification_id).or_default() += 1;
        }
    }
    if since.items.len() as u64 != position.seq {
        return Err(format!("the log of {name} does not end at {}", position.seq));
    }
    for note in &world.script.notes {
        let mut written = end.deliveries.keys();
        let written =
            written.any(|((id, of), _, channel, _)| (*id, *of) == (note.new.id, user) && channel == "in_app");
        let times = brought.get(&note.new.id).copied().unwrap_or_default();
        if times != u64::from(written) {
            return Err(format!("the inbox of {name} got {} {times} times", note.name));
        }
    }
    Ok(())
}
