//! Lookups of names: shared, kept for a while, and so many at a time for one owner and for one tenant that nobody's names
//! stop the others'.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use carillon_domain::TenantId;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout},
};

use super::Resolve;

/// Lookups at a time. Each may hold a thread until the system's resolver gives up, however long its asker waits.
const LOOKUPS: usize = 64;
/// Of these, for one registrable domain: what hangs is mostly of one owner.
const PER_OWNER: usize = 4;
/// Of these, for one tenant: whoever has many domains.
const PER_TENANT: usize = 8;
/// Names of one registrable domain that are being looked up, or wait for it.
const WAITING_PER_OWNER: usize = 256;
/// Names of one tenant that are being looked up, or wait for it.
const WAITING_PER_TENANT: usize = 512;
/// Names that are being looked up, or wait for it.
const WAITING: usize = 4_096;
/// Answers that are kept.
const KEPT: usize = 8_192;
/// How long after its time an answer still serves while the name is looked up anew. It is checked at each connect, like a new
/// one.
const STALE: Duration = Duration::from_secs(600);

/// What a name has, to all who asked.
type Answer = Result<Arc<[IpAddr]>, LookupError>;

/// Whose request needs the name; nobody's of no tenant.
pub(super) type Asker = Option<TenantId>;

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

/// A lookup, for all who want it. Each tenant that does waits for a turn of its own; the first one has it asked.
struct Lookup {
    stage: watch::Sender<Stage>,
    is_asked: AtomicBool,
}

/// A tenant that waits for a turn of a lookup.
struct Waits {
    name: String,
    asker: Asker,
    /// The owner's and the tenant's own.
    turns: (Arc<Semaphore>, Arc<Semaphore>),
    stage: watch::Receiver<Stage>,
    lookup: Arc<Lookup>,
}

/// What is known of a name.
#[derive(Default)]
struct Known {
    /// Until when it counts, and what it is.
    kept: Option<(Instant, Answer)>,
    /// The lookup under way; gone where it broke off, which tells nobody anything.
    soon: Weak<Lookup>,
    /// Who waits for a turn of it.
    askers: HashSet<Asker>,
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
    owners: Turns<String>,
    tenants: Turns<Asker>,
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

    /// The addresses of a name. Who asks while somebody else does waits for the same answer, or has the last one.
    pub(super) async fn addresses(self: &Arc<Self>, asker: &Asker, name: &str) -> Answer {
        let mut stage = match self.known(asker, name) {
            Ok(stage) => stage,
            Err(known) => return known,
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

    /// The lookup to wait for, or at once what is known.
    fn known(self: &Arc<Self>, asker: &Asker, name: &str) -> Result<watch::Receiver<Stage>, Answer> {
        let mut state = self.state.lock();
        let known = state.names.get(name);
        let last = known.and_then(|known| known.kept.clone());
        let now = Instant::now();
        let last = match last {
            Some((until, answer)) if now < until => return Err(answer),
            Some((until, answer)) if now < until + STALE => Some(answer).filter(Result::is_ok),
            _ => None,
        };
        let lookup = known.and_then(|known| known.soon.upgrade());
        let waits_already = known.is_some_and(|known| known.askers.contains(asker));
        let waits = match lookup {
            Some(lookup) if waits_already || lookup.is_asked.load(Ordering::Relaxed) => Ok(lookup),
            lookup => self.begin(&mut state, asker, name, lookup),
        };
        // Under the lock: whoever gives up looks there for those who wait.
        match (last, waits) {
            (Some(last), _) => Err(last),
            (None, Ok(lookup)) => Ok(lookup.stage.subscribe()),
            (None, Err(busy)) => Err(Err(busy)),
        }
    }

    /// Lets a tenant wait for a turn, for a lookup that others wait for or for a new one.
    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        asker: &Asker,
        name: &str,
        lookup: Option<Arc<Lookup>>,
    ) -> Result<Arc<Lookup>, LookupError> {
        let turns = if state.running < WAITING {
            let owner = registrable(name);
            let owner = state.owners.of(owner.to_owned(), PER_OWNER, WAITING_PER_OWNER);
            let tenant = state.tenants.of(asker.clone(), PER_TENANT, WAITING_PER_TENANT);
            owner.zip(tenant)
        } else {
            None
        };
        let Some((owner, tenant)) = turns else {
            return lookup.ok_or(LookupError::Busy);
        };
        let lookup = match lookup {
            Some(lookup) => lookup,
            None => {
                state.make_room();
                Arc::new(Lookup {
                    stage: watch::channel(Stage::Waiting).0,
                    is_asked: AtomicBool::new(false),
                })
            }
        };
        state.running += 1;
        let known = state.names.entry(name.to_owned()).or_default();
        if !std::ptr::eq(known.soon.as_ptr(), Arc::as_ptr(&lookup)) {
            known.soon = Arc::downgrade(&lookup);
            known.askers.clear();
        }
        known.askers.insert(asker.clone());
        // On its own: whoever asked first may go away, and the others still want to know.
        let this = Arc::clone(self);
        let waits = Waits {
            name: name.to_owned(),
            asker: asker.clone(),
            turns: (owner, tenant),
            stage: lookup.stage.subscribe(),
            lookup: Arc::clone(&lookup),
        };
        tokio::spawn(this.look_up(waits));
        Ok(lookup)
    }

    async fn look_up(self: Arc<Self>, waits: Waits) {
        let Waits {
            name,
            asker,
            turns,
            mut stage,
            lookup,
        } = waits;
        let turn = async {
            let own = both(&turns.0, &turns.1).await;
            (own, self.all.acquire().await)
        };
        let answer = tokio::select! {
            biased;
            // Another one had its turn first.
            () = async { drop(stage.wait_for(|stage| !matches!(stage, Stage::Waiting)).await) } => None,
            (Some(_own), Ok(_slot)) = turn => {
                // Nobody waits between here and there.
                if lookup.is_asked.swap(true, Ordering::Relaxed) {
                    None
                } else {
                    lookup.stage.send_replace(Stage::Asked);
                    let found = self.resolver.resolve(&name).await;
                    let found = found.ok().filter(|found| !found.is_empty());
                    Some(found.map(Arc::from).ok_or(LookupError::Name))
                }
            }
            // Everybody gave up waiting: it need not be asked.
            () = self.abandoned(&name, &lookup) => None,
            else => None,
        };
        let mut state = self.state.lock();
        state.running -= 1;
        if let Some(known) = state.names.get_mut(&name)
            && std::ptr::eq(known.soon.as_ptr(), Arc::as_ptr(&lookup))
        {
            known.askers.remove(&asker);
            if let Some(answer) = &answer {
                known.soon = Weak::new();
                known.askers.clear();
                known.kept =
                    Some((Instant::now() + self.kept, answer.clone())).filter(|_| !self.kept.is_zero());
            }
            if known.kept.is_none() && known.askers.is_empty() {
                state.names.remove(&name);
            }
        }
        drop(state);
        if let Some(answer) = answer {
            lookup.stage.send_replace(Stage::Answered(answer));
        }
    }

    /// Until nobody but those who look up waits. Looked at now and then: who comes later must still find it.
    async fn abandoned(&self, name: &str, lookup: &Arc<Lookup>) {
        loop {
            tokio::time::sleep(self.patience).await;
            let mut state = self.state.lock();
            let Some(known) = state.names.get_mut(name) else {
                return;
            };
            if !std::ptr::eq(known.soon.as_ptr(), Arc::as_ptr(lookup)) {
                return;
            }
            if lookup.stage.receiver_count() <= known.askers.len() {
                // Under the lock: nobody joins what is given up.
                known.soon = Weak::new();
                known.askers.clear();
                if known.kept.is_none() {
                    state.names.remove(name);
                }
                return;
            }
        }
    }
}

/// A turn of the owner's and one of the tenant's; neither is held while the other is waited for.
async fn both<'a>(
    owner: &'a Semaphore,
    tenant: &'a Semaphore,
) -> Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)> {
    loop {
        let of_tenant = tenant.acquire().await.ok()?;
        if let Ok(of_owner) = owner.try_acquire() {
            return Some((of_owner, of_tenant));
        }
        drop(of_tenant);
        let of_owner = owner.acquire().await.ok()?;
        if let Ok(of_tenant) = tenant.try_acquire() {
            return Some((of_owner, of_tenant));
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
        let waits = |known: &Known| !known.askers.is_empty() && known.soon.strong_count() > 0;
        self.names
            .retain(|_, known| waits(known) || known.kept.as_ref().is_some_and(|(until, _)| now < *until));
        if self.names.len() >= KEPT {
            self.names.retain(|_, known| waits(known));
        }
    }
}

/// The turns of everybody who wants one.
struct Turns<K>(HashMap<K, Weak<Semaphore>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + std::hash::Hash> Turns<K> {
    /// Somebody's turns, of which there are so many; none where too many wait for them.
    fn of(&mut self, whose: K, turns: usize, waiting: usize) -> Option<Arc<Semaphore>> {
        if let Some(turns) = self.0.get(&whose).and_then(Weak::upgrade) {
            // One of them is here.
            return Some(turns).filter(|turns| Arc::strong_count(turns) <= waiting);
        }
        if self.0.len() >= WAITING {
            self.0.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::new(Semaphore::new(turns));
        self.0.insert(whose, Arc::downgrade(&turns));
        Some(turns)
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
    use std::{io, sync::atomic::AtomicUsize};

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
            hanging.spawn(async move { lookups.addresses(&None, &format!("a{n}.evil.example")).await });
        }
        tokio::task::yield_now().await;
        for n in 0..100 {
            let begun = Instant::now();
            assert!(
                lookups
                    .addresses(&None, &format!("hooks{n}.example.org"))
                    .await
                    .is_ok()
            );
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
            async move { lookups.addresses(&None, "hooks.example.org").await }
        };
        let all: tokio::task::JoinSet<_> = (0..50).map(asked).collect();
        assert!(all.join_all().await.iter().all(Result::is_ok));
        for _ in 0..3 {
            assert_eq!(
                lookups.addresses(&None, "none.example.org").await,
                Err(LookupError::Name)
            );
        }
        assert_eq!(servers.asked.load(Ordering::SeqCst), 2, "failures are kept too");
        tokio::time::sleep(A_WHILE).await;
        assert!(lookups.addresses(&None, "hooks.example.org").await.is_ok());
        tokio::task::yield_now().await;
        assert_eq!(servers.asked.load(Ordering::SeqCst), 3);
    }

    fn tenant(name: &str) -> Asker {
        Some(name.parse().expect("a tenant"))
    }

    /// A tenant with many domains that hang.
    fn hang(lookups: &Arc<Lookups>) -> tokio::task::JoinSet<Answer> {
        let mut hanging = tokio::task::JoinSet::new();
        for n in 0..100 {
            let lookups = Arc::clone(lookups);
            hanging.spawn(async move {
                let name = format!("hooks.evil{n}.example");
                lookups.addresses(&tenant("acme"), &name).await
            });
        }
        hanging
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_owners_holds_up_no_other_tenant() {
        let (servers, lookups) = lookups();
        let hanging = hang(&lookups);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(servers.asked.load(Ordering::SeqCst), PER_TENANT);
        let begun = Instant::now();
        // It waits for this one too; the other one does not wait for it.
        let shared = {
            let lookups = Arc::clone(&lookups);
            tokio::spawn(async move { lookups.addresses(&tenant("acme"), "hooks.example.org").await })
        };
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(!shared.is_finished());
        let other = tenant("initech");
        assert!(lookups.addresses(&other, "hooks.example.org").await.is_ok());
        assert!(lookups.addresses(&other, "hooks.example.com").await.is_ok());
        assert_eq!(shared.await.ok().map(|answer| answer.is_ok()), Some(true));
        assert_eq!(begun.elapsed(), Duration::ZERO, "no time passes");
        drop(hanging);
        tokio::time::sleep(3 * PATIENCE).await;
        assert_eq!(
            lookups.state.lock().running,
            PER_TENANT,
            "what nobody waits for is given up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_last_serves_while_nobody_can_be_asked() {
        let (servers, lookups) = lookups();
        let acme = tenant("acme");
        assert!(lookups.addresses(&acme, "hooks.example.org").await.is_ok());
        tokio::time::sleep(A_WHILE).await;
        let hanging = hang(&lookups);
        tokio::time::sleep(Duration::from_millis(1)).await;
        for _ in 0..3 {
            let begun = Instant::now();
            assert!(lookups.addresses(&acme, "hooks.example.org").await.is_ok());
            assert_eq!(begun.elapsed(), Duration::ZERO, "no time passes");
            tokio::time::sleep(A_WHILE).await;
        }
        drop(hanging);
        assert_eq!(servers.asked.load(Ordering::SeqCst), 1 + PER_TENANT);
        // Not for ever.
        tokio::time::sleep(STALE).await;
        assert_eq!(
            lookups.addresses(&acme, "hooks.example.org").await,
            Err(LookupError::Busy)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let (_, lookups) = lookups();
        for n in 0..KEPT + 10 {
            assert!(
                lookups
                    .addresses(&None, &format!("a{n}.example.org"))
                    .await
                    .is_ok()
            );
        }
        assert!(lookups.state.lock().names.len() <= KEPT);
        assert!(lookups.state.lock().owners.0.len() <= WAITING);
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
