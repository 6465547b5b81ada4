//! Lookups of names: shared, kept for a while, and so many at a time for one owner that nobody's names stop the others'.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};

use super::Resolve;

/// Lookups at a time. Each may hold a thread until the system's resolver gives up, however long its asker waits.
const LOOKUPS: usize = 64;
/// Of these, for one registrable domain: what hangs is mostly of one owner.
const PER_OWNER: usize = 4;
/// Names of one registrable domain that are being looked up, or wait for it.
const WAITING_PER_OWNER: usize = 256;
/// Names that are being looked up, or wait for it.
const WAITING: usize = 4_096;
/// Answers that are kept.
const KEPT: usize = 8_192;

/// What a name has, to all who asked.
type Answer = Result<Arc<[IpAddr]>, LookupError>;

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupError {
    /// The name has none, or nobody said so in time.
    Name,
    /// It was not its turn in time: nobody was asked.
    Busy,
}

/// How far a lookup is.
#[derive(Debug, Clone)]
enum Stage {
    Waiting,
    Asked,
    Answered(Answer),
}

/// What is known of a name.
enum Known {
    Soon(watch::Receiver<Stage>),
    Until(Instant, Answer),
}

/// All lookups of a way out.
pub(super) struct Lookups {
    resolver: Arc<dyn Resolve>,
    patience: Duration,
    kept: Duration,
    all: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Known>,
    owners: HashMap<String, Weak<Semaphore>>,
    running: usize,
}

impl Lookups {
    /// `patience` is for the answer; half of it for a turn, so that it is known before the request's time ends that it was
    /// our own bound. Answers and failures are kept for `kept`.
    pub(super) fn new(resolver: Arc<dyn Resolve>, patience: Duration, kept: Duration) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            patience,
            kept,
            all: Arc::new(Semaphore::new(LOOKUPS)),
            state: Mutex::default(),
        })
    }

    /// The addresses of a name. Who asks while somebody else does waits for the same answer.
    pub(super) async fn addresses(self: &Arc<Self>, name: &str) -> Answer {
        let mut stage = match self.known(name)? {
            Known::Until(_, answer) => return answer,
            Known::Soon(stage) => stage,
        };
        let turn = stage.wait_for(|stage| !matches!(stage, Stage::Waiting));
        match timeout(self.patience / 2, turn).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(LookupError::Busy),
        }
        let answered = stage.wait_for(|stage| matches!(stage, Stage::Answered(_)));
        match timeout(self.patience, answered).await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Answered(answer) => answer.clone(),
                Stage::Waiting | Stage::Asked => Err(LookupError::Name),
            },
            Ok(Err(_)) | Err(_) => Err(LookupError::Name),
        }
    }

    /// What is known, or the lookup that was begun.
    fn known(self: &Arc<Self>, name: &str) -> Result<Known, LookupError> {
        let mut state = self.state.lock();
        match state.names.get(name) {
            // A lookup that broke off tells nobody anything.
            Some(Known::Soon(stage)) if stage.has_changed().is_ok() => return Ok(Known::Soon(stage.clone())),
            Some(Known::Until(until, answer)) if Instant::now() < *until => {
                return Ok(Known::Until(*until, answer.clone()));
            }
            _ => {}
        }
        if state.running >= WAITING {
            return Err(LookupError::Busy);
        }
        let owner = state.owner(name);
        // One of them is here.
        if Arc::strong_count(&owner) > WAITING_PER_OWNER {
            return Err(LookupError::Busy);
        }
        state.make_room();
        state.running += 1;
        let (tell, stage) = watch::channel(Stage::Waiting);
        state.names.insert(name.to_owned(), Known::Soon(stage.clone()));
        drop(state);
        // On its own: whoever asked first may go away, and the others still want to know.
        tokio::spawn(Arc::clone(self).look_up(name.to_owned(), owner, tell));
        Ok(Known::Soon(stage))
    }

    async fn look_up(self: Arc<Self>, name: String, owner: Arc<Semaphore>, tell: watch::Sender<Stage>) {
        let turn = async {
            let own = owner.acquire().await;
            (own, self.all.acquire().await)
        };
        let answer = tokio::select! {
            biased;
            (Ok(_own), Ok(_slot)) = turn => {
                tell.send_replace(Stage::Asked);
                let found = self.resolver.resolve(&name).await;
                let found = found.ok().filter(|found| !found.is_empty());
                Some(found.map(Arc::from).ok_or(LookupError::Name))
            }
            // Everybody gave up waiting: it need not be asked.
            () = self.abandoned(&name, &tell) => None,
            else => None,
        };
        let mut state = self.state.lock();
        state.running -= 1;
        match &answer {
            Some(answer) if !self.kept.is_zero() => {
                let until = Instant::now() + self.kept;
                state.names.insert(name, Known::Until(until, answer.clone()));
            }
            Some(_) => {
                state.names.remove(&name);
            }
            None => {}
        }
        drop(state);
        if let Some(answer) = answer {
            tell.send_replace(Stage::Answered(answer));
        }
    }

    /// Until nobody but the list of names waits. Looked at now and then: who comes later must still find it.
    async fn abandoned(&self, name: &str, tell: &watch::Sender<Stage>) {
        loop {
            tokio::time::sleep(self.patience).await;
            let mut state = self.state.lock();
            if tell.receiver_count() <= 1 {
                // Under the lock: nobody joins what is given up.
                state.names.remove(name);
                return;
            }
        }
    }
}

impl State {
    /// Keeps the number of names bounded: what is past goes first, then anything that can be asked again.
    fn make_room(&mut self) {
        if self.names.len() < KEPT {
            return;
        }
        let now = Instant::now();
        self.names
            .retain(|_, known| !matches!(known, Known::Until(until, _) if *until <= now));
        if self.names.len() >= KEPT {
            self.names.retain(|_, known| matches!(known, Known::Soon(_)));
        }
    }

    /// The turns of the name's owner.
    fn owner(&mut self, name: &str) -> Arc<Semaphore> {
        let owner = registrable(name);
        if let Some(turns) = self.owners.get(owner).and_then(Weak::upgrade) {
            return turns;
        }
        if self.owners.len() >= WAITING {
            self.owners.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::new(Semaphore::new(PER_OWNER));
        self.owners.insert(owner.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

/// The part of a name that somebody registered, as far as the name itself tells: its last two labels, or three where the
/// last but one is as short as `co.uk`'s.
fn registrable(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (last, second, third) = (dots.next(), dots.next(), dots.next());
    let (Some(last), Some(second)) = (last, second) else {
        return name;
    };
    let short = last - second <= 4 && name.len() - last == 3;
    match (short, third) {
        (true, None) => name,
        (true, Some(third)) => &name[third + 1..],
        (false, _) => &name[second + 1..],
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const A_WHILE: Duration = Duration::from_secs(30);

    /// Names below `evil.example` never have an answer, `none` has no address, all others have one at once.
    #[derive(Default)]
    struct Servers {
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Resolve for Servers {
        async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if name.contains("evil") {
                std::future::pending::<()>().await;
            }
            if name == "none.example.org" {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        }
    }

    fn lookups() -> (Arc<Servers>, Arc<Lookups>) {
        let servers = Arc::new(Servers::default());
        let resolver = Arc::clone(&servers) as Arc<dyn Resolve>;
        (servers, Lookups::new(resolver, PATIENCE, A_WHILE))
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_never_resolve_hold_up_nobody_elses() {
        let (_, lookups) = lookups();
        let mut hanging = tokio::task::JoinSet::new();
        for n in 0..500 {
            let lookups = Arc::clone(&lookups);
            hanging.spawn(async move { lookups.addresses(&format!("a{n}.evil.example")).await });
        }
        tokio::task::yield_now().await;
        for n in 0..100 {
            let begun = Instant::now();
            assert!(lookups.addresses(&format!("hooks{n}.example.org")).await.is_ok());
            assert_eq!(begun.elapsed(), Duration::ZERO, "no time passes");
        }
        let mut said = hanging.join_all().await;
        said.sort_by_key(|said| matches!(said, Err(LookupError::Busy)));
        let asked = said
            .iter()
            .filter(|said| **said == Err(LookupError::Name))
            .count();
        assert_eq!(asked, PER_OWNER, "were asked for; the rest had no turn");
        assert!(
            said[PER_OWNER..]
                .iter()
                .all(|said| *said == Err(LookupError::Busy))
        );
        // What nobody waits for any more is forgotten.
        tokio::time::sleep(2 * PATIENCE).await;
        assert_eq!(lookups.state.lock().running, PER_OWNER);
    }

    #[tokio::test(start_paused = true)]
    async fn one_lookup_serves_all_who_ask_and_is_kept_for_a_while() {
        let (servers, lookups) = lookups();
        let asked = |_| {
            let lookups = Arc::clone(&lookups);
            async move { lookups.addresses("hooks.example.org").await }
        };
        let all: tokio::task::JoinSet<_> = (0..50).map(asked).collect();
        assert!(all.join_all().await.iter().all(Result::is_ok));
        for _ in 0..3 {
            assert_eq!(
                lookups.addresses("none.example.org").await,
                Err(LookupError::Name)
            );
        }
        assert_eq!(servers.asked.load(Ordering::SeqCst), 2, "failures are kept too");
        tokio::time::sleep(A_WHILE).await;
        assert!(lookups.addresses("hooks.example.org").await.is_ok());
        assert_eq!(servers.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let (_, lookups) = lookups();
        for n in 0..KEPT + 10 {
            assert!(lookups.addresses(&format!("a{n}.example.org")).await.is_ok());
        }
        assert!(lookups.state.lock().names.len() <= KEPT);
        assert!(lookups.state.lock().owners.len() <= WAITING);
    }

    #[test]
    fn an_owner_is_told_by_the_names_end() {
        for (name, owner) in [
            ("a.b.evil.example", "evil.example"),
            ("evil.example", "evil.example"),
            ("localhost", "localhost"),
            ("a.b.shop.co.uk", "shop.co.uk"),
            ("shop.co.uk", "shop.co.uk"),
            ("hooks.ibm.com", "ibm.com"),
            ("x.t.co", "x.t.co"),
        ] {
            assert_eq!(registrable(name), owner, "{name}");
        }
    }
}
