//! What users, operators and fate do, through the entrances that they have.

use std::sync::Arc;

use carillon_domain::Timestamp;

use super::{
    laws::Cause,
    script::{Deed, SECOND, Told, later},
    stage::CHANNELS,
    work::failed,
    world::{Event, Lawful, World, letter},
};
use crate::{
    remote::{Receipt, ReceiptKind},
    store::{
        AcceptReply, AcceptRequest, Cancelled, EntryAction, MailboxCommand, Operation, OperationResult,
        Which, outside::About,
    },
};

impl World<'_> {
    pub(super) async fn deed(&mut self, deed: Deed) -> Lawful {
        match deed {
            Deed::Focus(user, device, lasts) => {
                let until = self.stage.people.clock_after(lasts);
                self.tell(format!("{} is there for {lasts} s", self.script.users[user].1));
                self.stage.people.with(self.script.users[user].0, |person| {
                    if let Some(device) = person.devices.get_mut(device) {
                        device.active_until = Some(until);
                    }
                    person.active_until = person.active_until.max(Some(until));
                });
            }
            Deed::Leave(user) => {
                self.tell(format!("{} leaves", self.script.users[user].1));
                self.stage.people.with(self.script.users[user].0, |person| {
                    person.active_until = None;
                    for device in &mut person.devices {
                        device.active_until = None;
                    }
                });
            }
            Deed::Lose(user, device) => {
                let gone = self.stage.people.with(self.script.users[user].0, |person| {
                    let there = device < person.devices.len();
                    let gone = there.then(|| person.devices.remove(device));
                    let address = gone.as_ref().map(|device| device.address.clone());
                    person.lost.extend(gone);
                    address
                });
                let name = self.script.users[user].1;
                self.tell(format!("{name} loses {:?}", gone.flatten()));
            }
            Deed::Find(user) => {
                let found = self.stage.people.with(self.script.users[user].0, |person| {
                    let found = person.lost.pop();
                    let address = found.as_ref().map(|device| device.address.clone());
                    person.devices.extend(found);
                    address
                });
                let name = self.script.users[user].1;
                self.tell(format!("{name} has {:?} again", found.flatten()));
            }
            Deed::Jump(by) => {
                self.tell(format!("the clocks jump by {} s", by / SECOND));
                self.jumped += by;
                let now = self.now;
                for node in &mut self.nodes {
                    node.calm_from = node.calm_from.max(now);
                }
            }
            Deed::Kill(node) => {
                self.tell(format!("{} is killed", letter(node)));
                let dead = &mut self.nodes[node];
                (dead.up, dead.paused_until) = (false, 0);
                dead.life += 1;
                self.no_looks(node);
            }
            Deed::Start(node) => return self.start(node).await,
            // The dead stand still already.
            Deed::Pause(node, _) if !self.nodes[node].up => {}
            Deed::Pause(node, lasts) => {
                self.tell(format!("{} stands still for {} s", letter(node), lasts / SECOND));
                let until = self.nodes[node].paused_until.max(self.now + lasts);
                let paused = &mut self.nodes[node];
                paused.paused_until = until;
                paused.calm_from = until;
                self.no_looks(node);
            }
            Deed::Send(_) | Deed::Act(..) | Deed::Receipt(..) | Deed::Cancel(_) => {
                return self.ask(deed).await;
            }
        }
        Ok(())
    }

    /// What a node must answer; without one it is asked again.
    async fn ask(&mut self, deed: Deed) -> Lawful {
        let Some(node) = self.somebody() else {
            let later = self.now + SECOND;
            self.at(later, Event::Deed(deed));
            return Ok(());
        };
        match deed {
            Deed::Send(note) => self.send(node, note).await,
            Deed::Act(user, note, action) => self.act(node, user, note, action).await,
            Deed::Receipt(user, note, told) => self.receipt(node, user, note, told).await,
            Deed::Cancel(note) => self.cancel(node, note).await,
            _ => Ok(()),
        }
    }

    async fn start(&mut self, node: usize) -> Lawful {
        if self.nodes[node].up {
            return Ok(());
        }
        self.tell(format!("{} starts", letter(node)));
        let (now, at) = (self.now_of(node), self.now);
        let started = &mut self.nodes[node];
        (started.up, started.calm_from, started.paused_until) = (true, at, 0);
        if self.serial && self.script.nodes == 1 {
            // As a process does that finds what another left.
            let store = Arc::clone(self.stage.store());
            store.release_leases(now).await.map_err(failed)?;
            let kinds = super::stage::Stage::kinds();
            store.release_deliveries(now, &kinds).await.map_err(failed)?;
            self.attempts.clear();
        }
        self.observe(&Cause::Time).await
    }

    async fn send(&mut self, node: usize, note: usize) -> Lawful {
        let now = self.now_of(node);
        let known = &mut self.script.notes[note];
        let after = |at: Timestamp, since: Timestamp| at.since(since).as_micros() as u64;
        let new = &mut known.new;
        new.send_at = later(now, after(new.send_at, new.created_at));
        new.expires_at = later(new.send_at, after(new.expires_at, new.created_at));
        new.created_at = now;
        let request = AcceptRequest {
            tenant: self.tenant.clone(),
            notifications: vec![new.clone()],
            claim: None,
        };
        let line = format!(
            "{} is sent to {} recipients: {} {} key {:?} critical {}",
            known.name,
            known.recipients.len(),
            new.plan.as_deref().unwrap_or("-"),
            new.channels.as_deref().unwrap_or("-"),
            new.collapse_key,
            new.critical,
        );
        self.sent.insert(new.id);
        self.tell(line);
        let store = Arc::clone(self.stage.store());
        let replies = store.accept(now, &[request], None).await.map_err(failed)?;
        if replies != [AcceptReply::Accepted] {
            return Err(format!("it was not accepted: {replies:?}"));
        }
        self.observe(&Cause::Time).await
    }

    async fn act(&mut self, node: usize, user: usize, note: usize, action: EntryAction) -> Lawful {
        let (user, name) = self.script.users[user];
        let id = self.script.notes[note].new.id;
        let acknowledges = matches!(
            action,
            EntryAction::Read | EntryAction::Archive | EntryAction::Delete | EntryAction::Acted { .. }
        );
        let line = format!("{name} at {}: {action:?}", self.script.notes[note].name);
        self.tell(line);
        let command = MailboxCommand {
            tenant: self.tenant.clone(),
            user,
            name: name.parse().ok(),
            device: "phone".parse().ok(),
            channel: None,
            answering: Vec::new(),
            operations: vec![Operation::Entry(Which::Notification(id), action)],
        };
        let mailboxes = &self.stage.nodes[node].dispatcher.mailboxes;
        let reply = mailboxes.submit(command).await.map_err(failed)?;
        let done = reply.results == [OperationResult::Ok];
        self.tell(format!("    {:?}", reply.results));
        let key = (id, user);
        self.observe(&Cause::Answer((acknowledges && done).then_some(key)))
            .await
    }

    /// The far end tells of one of the deliveries of a user that arrived, if there is one.
    async fn receipt(&mut self, node: usize, user: usize, note: usize, told: Told) -> Lawful {
        let (user, name) = self.script.users[user];
        let id = self.script.notes[note].new.id;
        let shown = self.stage.store().recipients(&self.tenant, id, None, 100);
        let shown = shown.await.map_err(failed)?;
        let found = shown
            .into_iter()
            .filter(|recipient| recipient.user == user)
            .flat_map(|recipient| recipient.deliveries)
            .find(|delivery| {
                CHANNELS.contains(&delivery.channel.as_str())
                    && ["accepted", "delivered"].contains(&delivery.state.as_str())
            });
        let Some(delivery) = found else { return Ok(()) };
        let line = format!("the far end says of {name}'s {}: {told:?}", delivery.address);
        self.tell(line);
        let kind = match told {
            Told::Delivered => ReceiptKind::Delivered,
            Told::Seen => ReceiptKind::Seen,
            Told::Read => ReceiptKind::Read,
            Told::Failed => ReceiptKind::Failed("lost".to_owned()),
        };
        let receipt = Receipt {
            tenant: self.tenant.clone(),
            about: About::Delivery(delivery.id),
            kind,
        };
        let channel = delivery.channel.parse().map_err(failed)?;
        let remote = &self.stage.nodes[node].dispatcher.remote;
        remote.receive(&channel, vec![receipt]).await.map_err(failed)?;
        self.observe(&Cause::Answer(None)).await
    }

    async fn cancel(&mut self, node: usize, note: usize) -> Lawful {
        let id = self.script.notes[note].new.id;
        let dispatcher = &self.stage.nodes[node].dispatcher;
        let done = dispatcher.cancel(&self.tenant, id).await.map_err(failed)?;
        let line = format!("{} is cancelled: {done:?}", self.script.notes[note].name);
        self.tell(line);
        let done = matches!(done, Cancelled::Done { .. });
        self.observe(&Cause::Cancel(done.then_some(id))).await
    }
}
