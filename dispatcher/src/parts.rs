//! How much one planning transaction takes. Each recipient's log has the whole content, so a notification of 50 KiB to
//! a thousand users writes 100 MB: what is too much for one transaction is planned in several.

use carillon_domain::TopicName;

use crate::{
    config::PlannerConfig,
    store::{
        Addressee, PlanJob, PlanPart,
        broadcasts::{BroadcastPage, BroadcastStep},
    },
};

/// About what a recipient's rows hold beside the content, in bytes.
const RECIPIENT: usize = 1_024;
/// About what a publication holds beside the content, in bytes.
const PUBLICATION: usize = 512;
/// About what a delivery outside the inbox and its work hold, in bytes.
const OUTSIDE: usize = 768;

/// How many recipients and topics, and how many bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    recipients: usize,
    bytes: usize,
}

impl Weight {
    /// What planning a job writes.
    pub(crate) fn of(job: &PlanJob) -> Self {
        let users = job.users.iter().map(|addressee| addressee_of(job, addressee));
        let topics = Self {
            recipients: job.topics.len(),
            bytes: job.topics.len() * publication(job),
        };
        users.fold(topics, Self::plus)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            recipients: self.recipients + other.recipients,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Both together, where one transaction may hold them.
    pub(crate) fn with(self, other: Self, config: &PlannerConfig) -> Option<Self> {
        let both = self.plus(other);
        (both.recipients <= config.batch_recipients && both.bytes <= config.batch_bytes.as_usize())
            .then_some(both)
    }
}

/// In an inbox the content stands in the entry and in the log. Each way outside beside the first one counts as a recipient
/// of its own: so a page of users with an address each is one transaction.
fn addressee_of(job: &PlanJob, addressee: &Addressee) -> Weight {
    let content = addressee.content.as_ref().unwrap_or(&job.notification.content);
    let inbox = if addressee.in_app { 2 * content.len() } else { 0 };
    Weight {
        recipients: addressee.outside.len().max(1),
        bytes: inbox + RECIPIENT + addressee.outside.len() * OUTSIDE,
    }
}

fn publication(job: &PlanJob) -> usize {
    job.notification.content.len() + PUBLICATION
}

/// The job as it is where one transaction may hold it, else in parts: first its users, then its topics. A single
/// recipient always passes.
pub(crate) fn parts(job: PlanJob, config: &PlannerConfig) -> Vec<PlanJob> {
    if Weight::default().with(Weight::of(&job), config).is_some() {
        return vec![job];
    }
    let most = (config.batch_bytes.as_usize() / publication(&job))
        .min(config.batch_recipients)
        .max(1);
    let part = |users: &[Addressee], topics: &[(TopicName, bool)]| PlanJob {
        lease: job.lease.clone(),
        notification: job.notification.clone(),
        plan: job.plan.clone(),
        critical: job.critical,
        policies: job.policies.clone(),
        users: users.to_vec(),
        topics: topics.to_vec(),
        part: PlanPart::More,
        broadcast: job.broadcast.map(|step| BroadcastStep {
            page: BroadcastPage::Piece,
            ..step
        }),
    };
    let mut groups: Vec<&[Addressee]> = Vec::new();
    let mut rest = job.users.as_slice();
    while !rest.is_empty() {
        let mut weight = Weight::default();
        let fit = rest
            .iter()
            .take_while(
                |addressee| match weight.with(addressee_of(&job, addressee), config) {
                    Some(both) => {
                        weight = both;
                        true
                    }
                    None => false,
                },
            )
            .count();
        let (group, more) = rest.split_at(fit.max(1));
        groups.push(group);
        rest = more;
    }
    let topics = job.topics.chunks(most);
    let mut parts: Vec<PlanJob> = groups
        .into_iter()
        .map(|users| part(users, &[]))
        .chain(topics.map(|topics| part(&[], topics)))
        .collect();
    let one = parts.len() == 1;
    if let Some(last) = parts.last_mut() {
        last.part = match job.part {
            PlanPart::Whole if !one => PlanPart::Last,
            part => part,
        };
        last.broadcast = job.broadcast;
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc, time::Duration};

    use carillon_domain::{ChannelKind, NotificationId, NotificationState, TenantId, Timestamp, UserId};
    use carillon_runtime::config::ByteSize;

    use super::*;
    use carillon_policy::Plan;

    use crate::store::{FixedPlan, Lease, NotificationRow, Outgoing};

    fn in_app() -> Arc<FixedPlan> {
        let plan = Plan::of_channels(&[ChannelKind::in_app()], Duration::ZERO, Duration::ZERO);
        Arc::new(FixedPlan::new(plan).expect("encodes"))
    }

    fn job(content: usize, users: usize, topics: usize) -> PlanJob {
        let now = Timestamp::from_seconds(1_767_323_045);
        let id = NotificationId::at(now);
        PlanJob {
            lease: Lease {
                tenant: TenantId::default(),
                notification: id,
                token: 1,
            },
            notification: Arc::new(NotificationRow {
                tenant: TenantId::default(),
                id,
                state: NotificationState::Accepted,
                category: Default::default(),
                priority: Default::default(),
                collapse_key: None,
                digest_key: None,
                content: "x".repeat(content).into(),
                targets: Vec::new(),
                channels: None,
                template: None,
                plan: None,
                critical: false,
                created_at: now,
                send_at: now,
                expires_at: now,
                digest: None,
                topics: None,
            }),
            plan: in_app(),
            critical: false,
            policies: Default::default(),
            users: (0..users).map(|_| Addressee::in_app(UserId::at(now))).collect(),
            topics: (0..topics)
                .map(|n| (format!("t.{n}").parse().expect("a topic"), true))
                .collect(),
            part: PlanPart::Whole,
            broadcast: None,
        }
    }

    #[test]
    fn what_fits_stays_whole() {
        let config = PlannerConfig::default();
        let parts = parts(job(1_000, 500, 500), &config);
        assert_eq!((parts.len(), parts[0].part), (1, PlanPart::Whole));
    }

    #[test]
    fn what_is_too_much_is_parted_within_the_bounds_and_loses_nobody() {
        let config = PlannerConfig {
            batch_recipients: 120,
            ..PlannerConfig::default()
        };
        let job = job(50 * 1_024, 700, 300);
        let parts = parts(job.clone(), &config);
        for part in &parts {
            let weight = Weight::of(part);
            assert!(weight.bytes <= ByteSize::mib(16).as_usize() && weight.recipients <= 120);
        }
        let users = |job: &PlanJob| job.recipients().map(|(_, user)| user).collect::<Vec<_>>();
        let parted: HashSet<UserId> = parts.iter().flat_map(users).collect();
        assert_eq!(parted, users(&job).into_iter().collect());
        let topics: Vec<_> = parts.iter().flat_map(|part| part.topics.clone()).collect();
        assert_eq!(topics, job.topics);
        let (last, others) = parts.split_last().expect("parts");
        assert_eq!(last.part, PlanPart::Last);
        assert!(others.len() > 1 && others.iter().all(|part| part.part == PlanPart::More));
    }

    #[test]
    fn a_first_way_outside_goes_with_its_recipient_and_each_further_one_counts() {
        let config = PlannerConfig {
            batch_recipients: 120,
            ..PlannerConfig::default()
        };
        let way = Outgoing {
            channel: ChannelKind::in_app(),
            address: "-".parse().expect("an address"),
            device: None,
            lane: Arc::from(""),
            strand: Arc::from(""),
            skip: None,
            replaces: false,
            active_until: None,
        };
        for (ways, expected) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            let mut job = job(100, 120, 0);
            for addressee in &mut job.users {
                addressee.outside = vec![way.clone(); ways];
            }
            assert_eq!(parts(job, &config).len(), expected, "{ways}");
        }
    }

    #[test]
    fn a_single_recipient_always_passes() {
        let config = PlannerConfig {
            batch_bytes: ByteSize::kib(64),
            ..PlannerConfig::default()
        };
        let parts = parts(job(50 * 1_024, 2, 0), &config);
        assert_eq!(
            parts.iter().map(|part| part.users.len()).collect::<Vec<_>>(),
            [1, 1]
        );
    }
}
