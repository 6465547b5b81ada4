use std::{sync::Arc, time::Duration};

use carillon_domain::{ExternalUserId, ScheduleName, Timestamp};

use super::fixture::Fixture;
use crate::store::{
    Erasure,
    schedules::{Fired, Firing, FiringRun, KEPT_RUNS, PutSchedule, ScheduleRow, ScheduleStep, ScheduleWrite},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn name(text: &str) -> ScheduleName {
    text.parse().expect("a name")
}

impl Fixture {
    fn hourly(&self, called: &str) -> ScheduleWrite {
        ScheduleWrite {
            tenant: self.tenant.clone(),
            name: name(called),
            cron: Some("0 * * * *".to_owned()),
            zone: Some("Europe/Berlin".to_owned()),
            once_at: None,
            notification: Arc::from(r#"{"content":{"title":"hello"},"targets":[{"user":"ada"}]}"#),
            enabled: true,
            starts_at: None,
            ends_at: Some(self.now().after(100 * HOUR)),
            next_at: Some(self.now().after(HOUR)),
            only_new: false,
        }
    }

    async fn put(&self, write: &ScheduleWrite) -> PutSchedule {
        self.store
            .put_schedule(self.now(), write, 2)
            .await
            .expect("writes")
    }

    async fn read(&self, called: &str) -> ScheduleRow {
        let row = self.store.schedule(&self.tenant, &name(called)).await;
        row.expect("reads").expect("is there")
    }

    async fn due(&self) -> Vec<ScheduleRow> {
        self.store.due_schedules(self.now(), 10).await.expect("reads")
    }

    /// Its time has come, and the next is an hour later.
    fn firing(&self, row: &ScheduleRow) -> Firing {
        let from = row.next_at.expect("due");
        Firing {
            tenant: row.tenant.clone(),
            name: row.name.clone(),
            revision: row.revision,
            step: Some(ScheduleStep {
                from,
                to: Some(from.after(HOUR)),
                skipped: 3,
            }),
            run: Some(FiringRun {
                due_at: from,
                sent: Ok(self.notification(&["ada"])),
            }),
        }
    }

    async fn fire(&self, firing: &Firing) -> Fired {
        self.store.fire(self.now(), firing).await.expect("writes")
    }
}

pub(super) async fn a_schedule_is_what_was_put_last_and_stays_due_while_its_times_are_the_same(
    fixture: Fixture,
) {
    let first = fixture.hourly("report");
    assert_eq!(fixture.put(&first).await, PutSchedule::Made);
    let row = fixture.read("report").await;
    assert_eq!(
        (
            row.cron.as_deref(),
            row.zone.as_deref(),
            row.revision,
            row.skipped
        ),
        (Some("0 * * * *"), Some("Europe/Berlin"), 1, 0)
    );
    assert_eq!((row.next_at, row.ends_at), (first.next_at, first.ends_at));
    let taken = ScheduleWrite {
        only_new: true,
        ..first.clone()
    };
    assert_eq!(fixture.put(&taken).await, PutSchedule::Taken);
    let said = ScheduleWrite {
        notification: Arc::from(r#"{"targets":[]}"#),
        next_at: Some(fixture.now().after(5 * HOUR)),
        ..first.clone()
    };
    assert_eq!(fixture.put(&said).await, PutSchedule::Replaced);
    let row = fixture.read("report").await;
    assert_eq!(
        (row.next_at, row.revision),
        (first.next_at, 2),
        "still due when it was"
    );
    assert_eq!(&*row.notification, r#"{"targets":[]}"#);
    for change in [
        ScheduleWrite {
            enabled: false,
            next_at: None,
            ..first.clone()
        },
        ScheduleWrite {
            zone: Some("UTC".to_owned()),
            next_at: Some(fixture.now().after(2 * HOUR)),
            ..first.clone()
        },
        ScheduleWrite {
            cron: None,
            zone: None,
            once_at: Some(fixture.now().after(3 * HOUR)),
            next_at: Some(fixture.now().after(3 * HOUR)),
            ..first.clone()
        },
    ] {
        assert_eq!(fixture.put(&change).await, PutSchedule::Replaced);
        assert_eq!(fixture.read("report").await.next_at, change.next_at);
    }
    assert_eq!(fixture.put(&fixture.hourly("b")).await, PutSchedule::Made);
    assert_eq!(fixture.put(&fixture.hourly("c")).await, PutSchedule::Full);
    let listed = |after: Option<ScheduleName>| {
        let store = fixture.store.clone();
        let tenant = fixture.tenant.clone();
        async move {
            let rows = store.schedules(&tenant, after.as_ref(), 10).await.expect("reads");
            rows.into_iter()
                .map(|row| row.name.to_string())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(None).await, ["b", "report"]);
    assert_eq!(listed(Some(name("b"))).await, ["report"]);
    assert!(
        fixture
            .store
            .delete_schedule(&fixture.tenant, &name("b"))
            .await
            .expect("removes")
    );
    assert!(
        !fixture
            .store
            .delete_schedule(&fixture.tenant, &name("b"))
            .await
            .expect("looks")
    );
}

pub(super) async fn each_time_is_sent_once_however_many_try(fixture: Fixture) {
    fixture.put(&fixture.hourly("report")).await;
    assert_eq!(fixture.due().await, [], "not yet");
    let due = fixture.read("report").await.next_at.expect("due");
    assert_eq!(fixture.store.next_schedule().await.expect("reads"), Some(due));
    fixture.advance(HOUR);
    let [row] = &fixture.due().await[..] else {
        panic!("one is due");
    };
    // Each with a notification of its own, as several nodes would.
    let firings: Vec<Firing> = (0..8).map(|_| fixture.firing(row)).collect();
    let mut tries = tokio::task::JoinSet::new();
    for firing in firings.clone() {
        let (store, now) = (fixture.store.clone(), fixture.now());
        tries.spawn(async move { (store.fire(now, &firing).await.expect("writes"), firing) });
    }
    let done = tries.join_all().await;
    let won: Vec<_> = done.iter().filter(|(fired, _)| *fired == Fired::Done).collect();
    assert_eq!(won.len(), 1);
    assert!(
        done.iter()
            .all(|(fired, _)| matches!(fired, Fired::Done | Fired::Stale))
    );
    let sent = won[0]
        .1
        .run
        .as_ref()
        .and_then(|run| run.sent.as_ref().ok())
        .expect("sent");
    let leases = fixture.lease().await;
    assert_eq!(
        leases.iter().map(|lease| lease.notification).collect::<Vec<_>>(),
        [sent.id],
        "one is accepted, with its outbox row"
    );
    let row = fixture.read("report").await;
    assert_eq!((row.next_at, row.skipped), (Some(due.after(HOUR)), 3));
    let runs = fixture
        .store
        .schedule_runs(&fixture.tenant, &row.name)
        .await
        .expect("reads");
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].due_at, runs[0].notification, runs[0].manual),
        (due, Some(sent.id), false)
    );
    // A schedule that is put back to a time that it had does not send it again.
    let back = ScheduleWrite {
        next_at: Some(due),
        zone: Some("UTC".to_owned()),
        ..fixture.hourly("report")
    };
    fixture.put(&back).await;
    let row = fixture.read("report").await;
    assert_eq!(fixture.fire(&fixture.firing(&row)).await, Fired::Before);
    assert_eq!(
        fixture.read("report").await.next_at,
        Some(due.after(HOUR)),
        "it goes on"
    );
    assert!(fixture.lease().await.is_empty());
}

pub(super) async fn what_was_prepared_from_an_older_schedule_is_not_sent(fixture: Fixture) {
    fixture.put(&fixture.hourly("report")).await;
    fixture.advance(HOUR);
    let old = fixture.firing(&fixture.read("report").await);
    fixture.put(&fixture.hourly("report")).await;
    assert_eq!(fixture.fire(&old).await, Fired::Stale, "changed");
    let asked = |row: &ScheduleRow| Firing {
        step: None,
        ..fixture.firing(row)
    };
    let row = fixture.read("report").await;
    let next_at = row.next_at;
    assert_eq!(fixture.fire(&asked(&row)).await, Fired::Done);
    assert_eq!(
        fixture.fire(&asked(&row)).await,
        Fired::Done,
        "as often as somebody asks"
    );
    assert_eq!(fixture.read("report").await.next_at, next_at, "its times stay");
    assert_eq!(fixture.lease().await.len(), 2);
    let runs = fixture
        .store
        .schedule_runs(&fixture.tenant, &row.name)
        .await
        .expect("reads");
    assert!(runs.iter().all(|run| run.manual) && runs.len() == 2);
    let last = fixture.firing(&fixture.read("report").await);
    fixture
        .store
        .delete_schedule(&fixture.tenant, &name("report"))
        .await
        .expect("removes");
    assert_eq!(fixture.fire(&last).await, Fired::Stale, "removed");
    assert!(fixture.lease().await.is_empty());
}

pub(super) async fn the_latest_runs_are_kept_and_go_with_their_schedule(fixture: Fixture) {
    fixture.put(&fixture.hourly("report")).await;
    let mut due: Vec<Timestamp> = Vec::new();
    for turn in 0..KEPT_RUNS + 5 {
        let row = fixture.read("report").await;
        due.push(row.next_at.expect("due"));
        fixture.advance(HOUR);
        let mut firing = fixture.firing(&row);
        if turn % 2 == 0
            && let Some(run) = &mut firing.run
        {
            run.sent = Err("no such template".to_owned());
        }
        assert_eq!(fixture.fire(&firing).await, Fired::Done);
    }
    let runs = fixture
        .store
        .schedule_runs(&fixture.tenant, &name("report"))
        .await
        .expect("reads");
    let shown: Vec<Timestamp> = runs.iter().map(|run| run.due_at).collect();
    due.reverse();
    due.truncate(usize::try_from(KEPT_RUNS).expect("few"));
    assert_eq!(shown, due);
    assert_eq!(runs[0].error.as_deref(), Some("no such template"));
    assert!(runs[0].notification.is_none() && runs[1].notification.is_some());
    fixture
        .store
        .delete_schedule(&fixture.tenant, &name("report"))
        .await
        .expect("removes");
    let runs = fixture
        .store
        .schedule_runs(&fixture.tenant, &name("report"))
        .await
        .expect("reads");
    assert_eq!(runs, []);
}

pub(super) async fn an_erased_user_is_taken_out_of_what_schedules_send(fixture: Fixture) {
    fixture.put(&fixture.hourly("hers")).await;
    let shared = ScheduleWrite {
        notification: Arc::from(r#"{"content":{"title":"ada"},"targets":[{"user":"ada"},{"user":"adam"}]}"#),
        ..fixture.hourly("shared")
    };
    fixture.put(&shared).await;
    let ada: ExternalUserId = "ada".parse().expect("a user");
    let erasure = Erasure {
        tenant: fixture.tenant.clone(),
        user: fixture.user("ada"),
        name: Some(ada),
    };
    fixture
        .store
        .erase(fixture.now(), &erasure)
        .await
        .expect("erases");
    let hers = fixture
        .store
        .schedule(&fixture.tenant, &name("hers"))
        .await
        .expect("reads");
    assert_eq!(hers, None, "it was for her alone");
    assert_eq!(
        &*fixture.read("shared").await.notification,
        r#"{"content":{"title":"ada"},"targets":[{"user":"adam"}]}"#
    );
}
