//! How much one planning transaction takes. Each recipient's log has the whole content, so a notification of 50 KiB to
//! a thousand users writes 100 MB: what is too much for one transaction is planned in several.

use carillon_domain::{TopicName, UserId};

use crate::{
    config::PlannerConfig,
    store::{PlanJob, PlanPart},
};

/// About what a recipient's rows hold beside the content, in bytes.
const RECIPIENT: usize = 1_024;
/// About what a publication holds beside the content, in bytes.
const PUBLICATION: usize = 512;

/// How many recipients and topics, and how many bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    recipients: usize,
    bytes: usize,
}

impl Weight {
    /// What planning a job writes.
    pub(crate) fn of(job: &PlanJob) -> Self {
        let recipients = job.users.len() + job.topics.len();
        let bytes = job.users.len() * recipient(job) + job.topics.len() * publication(job);
        Self { recipients, bytes }
    }

    /// Both together, where one transaction may hold them.
    pub(crate) fn with(self, other: Self, config: &PlannerConfig) -> Option<Self> {
        let both = Self {
            recipients: self.recipients + other.recipients,
            bytes: self.bytes.saturating_add(other.bytes),
        };
        (both.recipients <= config.batch_recipients && both.bytes <= config.batch_bytes.as_usize())
            .then_some(both)
    }
}

/// The content stands in the entry and in the log.
fn recipient(job: &PlanJob) -> usize {
    2 * job.notification.content.len() + RECIPIENT
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
    let most = |weight: usize| {
        (config.batch_bytes.as_usize() / weight)
            .min(config.batch_recipients)
            .max(1)
    };
    let part = |users: &[UserId], topics: &[(TopicName, bool)]| PlanJob {
        lease: job.lease.clone(),
        notification: job.notification.clone(),
        users: users.to_vec(),
        topics: topics.to_vec(),
        part: PlanPart::More,
    };
    let users = job.users.chunks(most(recipient(&job)));
    let topics = job.topics.chunks(most(publication(&job)));
    let mut parts: Vec<PlanJob> = users
        .map(|users| part(users, &[]))
        .chain(topics.map(|topics| part(&[], topics)))
        .collect();
    match parts.as_mut_slice() {
        [only] => only.part = PlanPart::Whole,
        [.., last] => last.part = PlanPart::Last,
        [] => {}
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use carillon_domain::{NotificationId, NotificationState, TenantId, Timestamp};
    use carillon_runtime::config::ByteSize;

    use super::*;
    use crate::store::{Lease, NotificationRow};

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
                content: "x".repeat(content).into(),
                targets: Vec::new(),
                created_at: now,
                send_at: now,
                expires_at: now,
                topics: None,
            }),
            users: (0..users).map(|_| UserId::at(now)).collect(),
            topics: (0..topics)
                .map(|n| (format!("t.{n}").parse().expect("a topic"), true))
                .collect(),
            part: PlanPart::Whole,
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
        let users: HashSet<UserId> = parts.iter().flat_map(|part| part.users.clone()).collect();
        assert_eq!(users, job.users.iter().copied().collect());
        let topics: Vec<_> = parts.iter().flat_map(|part| part.topics.clone()).collect();
        assert_eq!(topics, job.topics);
        let (last, others) = parts.split_last().expect("parts");
        assert_eq!(last.part, PlanPart::Last);
        assert!(others.len() > 1 && others.iter().all(|part| part.part == PlanPart::More));
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
