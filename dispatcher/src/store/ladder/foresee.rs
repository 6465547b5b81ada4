//! What a notification would do now for somebody, without writing anything.

use carillon_domain::{ChannelKind, Timestamp};
use carillon_policy::{Alert, DigestName, InApp, Move, Reason, Stand, Verdict};

use super::climb::{Decided, decide, said};
use crate::store::{
    outside::Bars,
    records::{Addressee, NO_ADDRESS, PlanJob},
};

/// What somebody would get.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    pub(crate) steps: Vec<ForeseenStep>,
    pub(crate) deliveries: Vec<ForeseenDelivery>,
}

/// A step of somebody's plan.
#[derive(Debug)]
pub(crate) struct ForeseenStep {
    pub(crate) channels: Vec<ChannelKind>,
    /// `starts`, `held`, `passed` or `later`.
    pub(crate) state: &'static str,
    pub(crate) why: Option<Reason>,
    pub(crate) until: Option<Timestamp>,
}

/// A way that it would go, or not.
#[derive(Debug)]
pub(crate) struct ForeseenDelivery {
    pub(crate) channel: ChannelKind,
    pub(crate) address: String,
    /// `pending`, `gathered`, `skipped` or `later`.
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    /// The digest that it would wait in, and until when.
    pub(crate) digest: Option<(DigestName, Timestamp)>,
}

/// What a job would do now for one of its recipients.
pub(crate) fn foresee(now: Timestamp, bars: &Bars, job: &PlanJob, addressee: &Addressee) -> Foreseen {
    let Decided { plan, ways, moves } = decide(now, bars, job, addressee, &Stand::default());
    let mut foreseen = Foreseen::default();
    for step in &plan.steps {
        foreseen.steps.push(ForeseenStep {
            channels: step.channels.clone(),
            state: "later",
            why: None,
            until: None,
        });
    }
    let mut inbox = None;
    let mut alerts: Vec<Alert> = Vec::new();
    for made in moves {
        let (number, state, why, until, in_app) = match made {
            Move::Start(start) => {
                alerts.extend(start.alerts);
                (start.step, "starts", None, start.deadline_at, start.in_app)
            }
            Move::Pass {
                step,
                reason,
                skipped,
            } => {
                alerts.extend(skipped);
                (step, "passed", Some(reason), None, None)
            }
            Move::Hold {
                step,
                until,
                reason,
                in_app,
            } => (step, "held", Some(reason), Some(until), in_app),
            Move::Wait { .. } | Move::End(_) => continue,
        };
        inbox = inbox.or(in_app);
        if let Some(step) = foreseen.steps.get_mut(number) {
            (step.state, step.why, step.until) = (state, why, until);
        }
    }
    if addressee.in_app {
        let (state, reason) = match &inbox {
            None => ("later", None),
            Some(InApp::Write { .. }) => ("pending", None),
            Some(InApp::Skip(reason)) => ("skipped", Some(said(reason).into_owned())),
        };
        foreseen.deliveries.push(ForeseenDelivery {
            channel: ChannelKind::in_app(),
            address: "inbox".to_owned(),
            state,
            reason,
            digest: None,
        });
    }
    for outgoing in &addressee.outside {
        let verdict = ways
            .iter()
            .position(|way| std::ptr::eq(*way, outgoing))
            .and_then(|place| alerts.iter().find(|alert| alert.address == place))
            .map(|alert| &alert.verdict);
        let (state, reason) = match verdict {
            _ if outgoing.leads_nowhere() => {
                ("skipped", Some(outgoing.skip.unwrap_or(NO_ADDRESS).to_owned()))
            }
            None => ("later", None),
            Some(Verdict::Send) => ("pending", None),
            Some(Verdict::Digest { .. }) => ("gathered", None),
            Some(Verdict::Skip(reason)) => ("skipped", Some(said(reason).into_owned())),
        };
        let digest = match verdict {
            Some(Verdict::Digest { name, joining }) => Some((name.clone(), joining.closes_at)),
            _ => None,
        };
        foreseen.deliveries.push(ForeseenDelivery {
            channel: outgoing.channel.clone(),
            address: outgoing.address.to_string(),
            state,
            reason,
            digest,
        });
    }
    foreseen
}
