use std::time::Duration;

use carillon_domain::{NotificationId, NotificationState, UserId};

use super::fixture::Fixture;
use crate::store::{
    Addressee, Lease, PlanJob, PlanOutcome, PlanPart,
    broadcasts::{BroadcastPage, BroadcastRow, BroadcastState, BroadcastStep},
};

impl Fixture {
    /// A page for these users of the only notification that is due.
    async fn page(&self, users: &[&str], page: BroadcastPage) -> PlanJob {
        let leases = self.lease().await;
        assert_eq!(leases.len(), 1, "it is due");
        let job = self.jobs(&leases).await.remove(0);
        self.for_users(job, users, page)
    }

    fn for_users(&self, job: PlanJob, users: &[&str], page: BroadcastPage) -> PlanJob {
        PlanJob {
            users: users
                .iter()
                .map(|user| Addressee::in_app(self.user(user)))
                .collect(),
            part: if page == BroadcastPage::Last {
                PlanPart::Last
            } else {
                PlanPart::More
            },
            broadcast: Some(BroadcastStep {
                started_at: self.now(),
                page,
                held: None,
            }),
            ..job
        }
    }

    async fn plan_page(&self, job: &PlanJob) -> PlanOutcome {
        let jobs = std::slice::from_ref(job);
        self.store.plan(self.now(), jobs).await.expect("plans").value[0]
    }

    async fn broadcast(&self, id: NotificationId) -> BroadcastRow {
        let rows = self.store.broadcasts(&[(self.tenant.clone(), id)]).await;
        rows.expect("reads").pop().expect("is there")
    }

    fn through(&self, user: &str) -> BroadcastPage {
        BroadcastPage::Through(self.user(user))
    }

    async fn everybody(&self, id: NotificationId) -> Vec<UserId> {
        let found = self.store.recipients(&self.tenant, id, None, 100).await;
        found.expect("reads").iter().map(|detail| detail.user).collect()
    }

    /// Accepts one for a topic.
    async fn accept_one(&self) -> NotificationId {
        let notification = self.notification(&["#news"]);
        self.accept(std::slice::from_ref(&notification)).await;
        notification.id
    }
}

pub(super) async fn a_page_moves_the_cursor_and_makes_the_next_one_due_behind_what_waits(f: Fixture) {
    let id = f.accept_one().await;
    let started_at = f.now();
    let first = f.page(&["a", "b"], f.through("b")).await;
    f.advance(Duration::from_secs(1));
    let waiting = f.accept_one().await;
    assert_eq!(f.plan_page(&first).await, PlanOutcome::Partly);
    let row = f.broadcast(id).await;
    assert_eq!(
        (row.state, row.cursor, row.planned),
        (BroadcastState::Running, Some(f.user("b")), 2)
    );
    assert_eq!(row.started_at, started_at);
    assert_eq!(f.state(id).await, NotificationState::Accepted);
    assert_eq!(f.plan_page(&first).await, PlanOutcome::Stale, "its lease is over");
    let until = f.now().after(Duration::from_secs(30));
    let mut order = Vec::new();
    for _ in 0..2 {
        let leases = f.store.lease_outbox(f.now(), 1, until).await.expect("leases");
        order.extend(leases);
    }
    let ids: Vec<_> = order.iter().map(|lease| lease.notification).collect();
    assert!(ids.contains(&waiting) && ids.contains(&id), "due again");
    let lease = order
        .into_iter()
        .find(|lease| lease.notification == id)
        .expect("due");
    let last = f.for_users(f.jobs(&[lease]).await.remove(0), &["c"], BroadcastPage::Last);
    f.advance(Duration::from_secs(1));
    let last = PlanJob {
        broadcast: Some(BroadcastStep {
            started_at: f.now(),
            page: BroadcastPage::Last,
            held: None,
        }),
        ..last
    };
    assert_eq!(f.plan_page(&last).await, PlanOutcome::Planned);
    let row = f.broadcast(id).await;
    assert_eq!((row.state, row.planned), (BroadcastState::Done, 3));
    assert_eq!(row.started_at, started_at, "the first one stays");
    assert_eq!(row.updated_at, f.now());
    assert_eq!(f.state(id).await, NotificationState::Planned);
    assert_eq!(f.everybody(id).await.len(), 3);
}

pub(super) async fn a_page_may_lease_the_next_one_for_its_planner(f: Fixture) {
    let id = f.accept_one().await;
    let mut first = f.page(&["a", "b"], f.through("b")).await;
    let until = f.now().after(Duration::from_secs(30));
    if let Some(step) = &mut first.broadcast {
        step.held = Some(until);
    }
    assert_eq!(f.plan_page(&first).await, PlanOutcome::Partly);
    assert!(f.lease().await.is_empty(), "nobody else gets it");
    let lease = Lease {
        token: first.lease.token + 1,
        ..first.lease.clone()
    };
    let second = f.for_users(
        PlanJob {
            lease,
            ..first.clone()
        },
        &["c"],
        f.through("c"),
    );
    assert_eq!(f.plan_page(&first).await, PlanOutcome::Stale, "its lease is over");
    assert_eq!(f.plan_page(&second).await, PlanOutcome::Partly);
    let mut third = f.page(&["d"], f.through("d")).await;
    if let Some(step) = &mut third.broadcast {
        step.held = Some(f.now().after(Duration::from_secs(30)));
    }
    assert_eq!(f.plan_page(&third).await, PlanOutcome::Partly);
    // Whoever held it ended.
    f.advance(Duration::from_secs(31));
    let last = f.page(&["e"], BroadcastPage::Last).await;
    assert_eq!(f.plan_page(&last).await, PlanOutcome::Planned);
    assert_eq!(f.broadcast(id).await.planned, 5);
}

pub(super) async fn whoever_comes_twice_is_planned_once(f: Fixture) {
    let id = f.accept_one().await;
    let whole = f.page(&["a", "b", "c"], f.through("c")).await;
    let piece = f.for_users(whole.clone(), &["a", "b"], BroadcastPage::Piece);
    assert_eq!(f.plan_page(&piece).await, PlanOutcome::Partly);
    let row = f.broadcast(id).await;
    assert_eq!(
        (row.state, row.cursor, row.planned),
        (BroadcastState::Running, None, 2)
    );
    // Whoever planned it ended here; the page comes again as a whole.
    assert_eq!(f.plan_page(&whole).await, PlanOutcome::Partly);
    assert_eq!(f.broadcast(id).await.planned, 3);
    let next = f.page(&["b", "d"], f.through("d")).await;
    assert_eq!(f.plan_page(&next).await, PlanOutcome::Partly);
    assert_eq!(f.broadcast(id).await.planned, 4);
    let empty = f.page(&[], BroadcastPage::Last).await;
    assert_eq!(f.plan_page(&empty).await, PlanOutcome::Planned);
    let row = f.broadcast(id).await;
    assert_eq!(
        (row.state, row.cursor, row.planned),
        (BroadcastState::Done, Some(f.user("d")), 4)
    );
    for user in ["a", "b", "c", "d"] {
        assert_eq!(f.log(user).await.len(), 1, "{user}");
    }
}

pub(super) async fn cancelling_and_the_time_to_live_end_a_broadcast(f: Fixture) {
    let id = f.accept_one().await;
    let page = f.page(&["a"], f.through("a")).await;
    assert_eq!(f.plan_page(&page).await, PlanOutcome::Partly);
    let page = f.page(&["b"], f.through("b")).await;
    f.store
        .cancel(f.now(), &f.tenant, id, &[])
        .await
        .expect("cancels");
    assert_eq!(f.plan_page(&page).await, PlanOutcome::Stale);
    assert_eq!(f.everybody(id).await, [f.user("a")]);
    assert!(f.lease().await.is_empty());

    let id = f.accept_one().await;
    let page = f.page(&["a"], f.through("a")).await;
    assert_eq!(f.plan_page(&page).await, PlanOutcome::Partly);
    f.advance(Duration::from_secs(3_600));
    let page = f.page(&[], f.through("b")).await;
    assert_eq!(
        f.plan_page(&page).await,
        PlanOutcome::Planned,
        "as far as it went"
    );
    let row = f.broadcast(id).await;
    assert_eq!(
        (row.state, row.cursor, row.planned),
        (BroadcastState::Expired, Some(f.user("a")), 1)
    );
    assert!(f.lease().await.is_empty());
}

pub(super) async fn leases_that_hold_are_extended_and_no_others(f: Fixture) {
    let held = f.accept_one().await;
    let lost = f.accept_one().await;
    let leases = f.lease().await;
    let of = |id| {
        leases
            .iter()
            .find(|lease| lease.notification == id)
            .expect("leased")
    };
    let old = Lease {
        token: of(lost).token - 1,
        ..of(lost).clone()
    };
    let until = f.now().after(Duration::from_secs(300));
    f.store
        .extend_outbox(&[of(held).clone(), old], until)
        .await
        .expect("extends");
    f.advance(Duration::from_secs(60));
    let again = f.lease().await;
    assert_eq!(
        again.iter().map(|lease| lease.notification).collect::<Vec<_>>(),
        [lost]
    );
    f.advance(Duration::from_secs(240));
    assert!(f.lease().await.iter().any(|lease| lease.notification == held));
}
