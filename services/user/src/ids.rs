//! A tenant's own user ids and ours: remembered for a while, else asked of the store.
//!
//! Connections ask for one user each. A crowd that comes at once would stand in line for the store one by one, each new
//! user with a commit and its sync: those who come while one look runs are looked up together by the next.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use carillon_domain::{Clock, ExternalUserId, TenantId, UserId, ports::Unavailable};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{UserConfig, recent::Recent, store::Store};

/// How many wait for a look at the most.
const MAX_WAITING: usize = 20_000;

/// How many are looked up at once: enough to share a commit, and few enough that their answers come in portions and
/// not as one crowd that keeps everybody else from running.
const TOGETHER: usize = 128;

/// Internal ids by the tenant's own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ids(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    known: Recent<(TenantId, ExternalUserId), UserId>,
    line: Mutex<Line>,
}

/// Who waits for the next look.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiter>,
    /// Whether somebody looks already.
    looking: bool,
    #[cfg(test)]
    looks: usize,
}

struct Waiter {
    tenant: TenantId,
    user: ExternalUserId,
    answer: oneshot::Sender<Result<UserId, String>>,
}

impl Ids {
    pub(crate) fn new(config: &UserConfig, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            known: Recent::new(config.cached, config.cache_ttl.duration()),
            line: Mutex::default(),
        }))
    }

    /// The users' ids, in their order; who is new is made.
    pub(crate) async fn resolve(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
    ) -> Result<Vec<UserId>, Unavailable> {
        let mut known = HashMap::with_capacity(users.len());
        let absent = self.0.remembered(tenant, users, &mut known);
        match absent.as_slice() {
            [] => {}
            [one] => {
                let id = self.together(tenant, one).await?;
                known.insert(one.clone(), id);
            }
            _ => self.0.look_up(tenant, absent, &mut known).await?,
        }
        let ids: Option<Vec<UserId>> = users.iter().map(|user| known.get(user).copied()).collect();
        ids.ok_or_else(lost)
    }

    /// The user's id, if there is such a user.
    pub(crate) async fn find(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
    ) -> Result<Option<UserId>, Unavailable> {
        let users = std::slice::from_ref(user);
        let mut known = HashMap::new();
        if !self.0.remembered(tenant, users, &mut known).is_empty() {
            let found = self.0.store.find(tenant, users).await?;
            self.0.remember(tenant, found, &mut known);
        }
        Ok(known.remove(user))
    }

    /// Forgets a name; answers what it stood for, if that was remembered.
    pub(crate) fn forget(&self, tenant: &TenantId, user: &ExternalUserId) -> Option<UserId> {
        self.0.known.remove(&(tenant.clone(), user.clone()))
    }

    pub(crate) fn forget_stale(&self) {
        self.0.known.forget_stale(Instant::now());
    }

    /// One user by the next look, together with whoever else waits for it.
    async fn together(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<UserId, Unavailable> {
        let (answer, answered) = oneshot::channel();
        {
            let mut line = self.0.line.lock();
            if line.waiting.len() >= MAX_WAITING {
                return Err(Unavailable::new("resolving users", "too many wait"));
            }
            line.waiting.push_back(Waiter {
                tenant: tenant.clone(),
                user: user.clone(),
                answer,
            });
            if !std::mem::replace(&mut line.looking, true) {
                tokio::spawn(
                    Looking {
                        ids: Arc::clone(&self.0),
                        over: false,
                    }
                    .run(),
                );
            }
        }
        match answered.await {
            Ok(answer) => answer.map_err(|error| Unavailable::new("resolving users", error)),
            Err(_) => Err(Unavailable::new("resolving users", "the look broke off")),
        }
    }
}

#[cfg(test)]
impl Ids {
    /// How often the store was asked for those who wait.
    pub(crate) fn looks(&self) -> usize {
        self.0.line.lock().looks
    }
}

/// The one who looks. However it ends, the next one who comes can begin anew.
struct Looking {
    ids: Arc<Inner>,
    /// Nobody was left; whoever came since has one of his own.
    over: bool,
}

impl Looking {
    /// Looks until nobody waits.
    async fn run(mut self) {
        while let Some(some) = self.ids.next() {
            let mut tenants: HashMap<TenantId, Vec<Waiter>> = HashMap::new();
            for waiter in some {
                tenants.entry(waiter.tenant.clone()).or_default().push(waiter);
            }
            for (tenant, waiters) in tenants {
                self.ids.answer(&tenant, waiters).await;
            }
        }
        self.over = true;
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // A panic, or the end of the process: those who wait hear of it at once.
        let mut line = self.ids.line.lock();
        line.looking = false;
        line.waiting = VecDeque::new();
    }
}

impl Inner {
    /// Those who are looked up next; `None` ends the looking.
    fn next(&self) -> Option<Vec<Waiter>> {
        let mut line = self.line.lock();
        if line.waiting.is_empty() {
            line.looking = false;
            line.waiting = VecDeque::new();
            return None;
        }
        #[cfg(test)]
        {
            line.looks += 1;
        }
        let some = line.waiting.len().min(TOGETHER);
        Some(line.waiting.drain(..some).collect())
    }

    /// Looks up those of one tenant, and tells them.
    async fn answer(&self, tenant: &TenantId, waiters: Vec<Waiter>) {
        let mut users: Vec<_> = waiters.iter().map(|waiter| waiter.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        let mut known = HashMap::with_capacity(users.len());
        let looked = self.look_up(tenant, users, &mut known).await;
        let failure = looked.err().unwrap_or_else(lost).source.to_string();
        for Waiter { user, answer, .. } in waiters {
            // Who does not wait any more has gone.
            let _ = answer.send(known.get(&user).copied().ok_or_else(|| failure.clone()));
        }
    }

    /// Asks the store for users, each once and in order, and makes those who are new.
    async fn look_up(
        &self,
        tenant: &TenantId,
        mut absent: Vec<ExternalUserId>,
        known: &mut HashMap<ExternalUserId, UserId>,
    ) -> Result<(), Unavailable> {
        let found = self.store.find(tenant, &absent).await?;
        self.remember(tenant, found, known);
        absent.retain(|user| !known.contains_key(user));
        if !absent.is_empty() {
            let now = self.clock.now();
            let new: Vec<_> = absent.into_iter().map(|user| (user, UserId::at(now))).collect();
            let made = self.store.make(tenant, &new, now).await?;
            self.remember(tenant, made, known);
        }
        Ok(())
    }

    /// Puts those that are remembered into `known`; answers the others, each once.
    fn remembered(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
        known: &mut HashMap<ExternalUserId, UserId>,
    ) -> Vec<ExternalUserId> {
        let keys = users.iter().map(|user| (tenant.clone(), user.clone()));
        let mut absent = Vec::new();
        for (user, id) in users.iter().zip(self.known.get_all(Instant::now(), keys)) {
            match id {
                Some(id) => {
                    known.insert(user.clone(), id);
                }
                None => absent.push(user.clone()),
            }
        }
        absent.sort_unstable();
        absent.dedup();
        absent
    }

    fn remember(
        &self,
        tenant: &TenantId,
        pairs: Vec<(ExternalUserId, UserId)>,
        known: &mut HashMap<ExternalUserId, UserId>,
    ) {
        self.known.insert_all(
            Instant::now(),
            pairs
                .iter()
                .map(|(user, id)| ((tenant.clone(), user.clone()), *id)),
        );
        known.extend(pairs);
    }
}

fn lost() -> Unavailable {
    Unavailable::new("resolving users", "the store lost one that it just made")
}
