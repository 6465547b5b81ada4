//! Who is in front of which device: heartbeats, durable and shared between nodes.
//!
//! An open connection says nothing: a heartbeat with the focus does, for a while. Most heartbeats repeat what is written
//! already and cost nothing; the others are written together, at most one batch at a time, and answered when they are
//! committed.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use carillon_domain::{DeviceName, TenantId, Timestamp, UserCaller, UserId, ports::Unavailable};
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{UserConfig, Users, store::Store};

/// What says the same as this long before is not written again; a quarter of a heartbeat's life where that is shorter.
const REPEAT: Duration = Duration::from_secs(15);

/// How many heartbeats wait to be written at the most.
const MAX_WAITING: usize = 10_000;

/// A heartbeat as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// A device's id, or the name that its app chose.
    pub(crate) device: DeviceName,
    pub(crate) at: Timestamp,
    /// Until when somebody counts as being in front of it; `at` when nobody is.
    pub(crate) until: Timestamp,
}

/// Why a heartbeat was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeatError {
    #[error("neither the heartbeat nor the token names a device")]
    NoDevice,
    #[error("too many heartbeats wait")]
    Busy,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

type Key = (TenantId, UserId, DeviceName);

/// What is known of heartbeats in this process.
pub(crate) struct Activity {
    /// What was written last, and whether it had the focus.
    written: Cache<Key, (Timestamp, bool)>,
    waiting: Arc<Mutex<Waiting>>,
    life: Duration,
    repeat: Duration,
}

#[derive(Default)]
struct Waiting {
    beats: HashMap<Key, Beat>,
    /// Who waits for them.
    answers: Vec<oneshot::Sender<bool>>,
    /// Whether somebody writes already.
    writing: bool,
}

impl Activity {
    pub(crate) fn new(config: &UserConfig) -> Self {
        let life = config.activity_life.duration();
        Self {
            written: Cache::builder()
                .max_capacity(config.cached)
                .time_to_live(life)
                .build(),
            waiting: Arc::default(),
            life,
            repeat: REPEAT.min(life / 4),
        }
    }

    /// Whether it says anything that is not written.
    async fn is_news(&self, key: &Key, at: Timestamp, focused: bool) -> bool {
        self.written.get(key).await.is_none_or(|(last, had_focus)| {
            had_focus != focused || (focused && at.since(last) >= self.repeat)
        })
    }

    /// Takes a beat in, and begins to write when nobody does.
    fn put(
        &self,
        store: &Arc<dyn Store>,
        key: Key,
        beat: Beat,
    ) -> Result<oneshot::Receiver<bool>, BeatError> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.answers.len() >= MAX_WAITING {
            return Err(BeatError::Busy);
        }
        waiting.beats.insert(key, beat);
        waiting.answers.push(answer);
        if !mem::replace(&mut waiting.writing, true) {
            tokio::spawn(write(Arc::clone(store), Arc::clone(&self.waiting)));
        }
        Ok(answered)
    }
}

/// Writes what waits, batch by batch, until nothing does.
async fn write(store: Arc<dyn Store>, waiting: Arc<Mutex<Waiting>>) {
    loop {
        let (beats, answers) = {
            let mut waiting = waiting.lock();
            if waiting.beats.is_empty() {
                waiting.writing = false;
                return;
            }
            (mem::take(&mut waiting.beats), mem::take(&mut waiting.answers))
        };
        let beats: Vec<Beat> = beats.into_values().collect();
        let kept = store.keep_beats(&beats).await;
        if let Err(error) = &kept {
            let error: &dyn std::error::Error = error;
            tracing::error!(error, "heartbeats could not be written");
        }
        for answer in answers {
            // Who does not wait any more has gone.
            let _ = answer.send(kept.is_ok());
        }
    }
}

impl Users {
    /// Takes a heartbeat of one of the caller's devices; answers until when he counts as active there.
    pub(crate) async fn beat(
        &self,
        tenant: &TenantId,
        caller: &UserCaller,
        device: Option<DeviceName>,
        focused: bool,
    ) -> Result<Option<Timestamp>, BeatError> {
        let device = device
            .or_else(|| caller.device.clone())
            .ok_or(BeatError::NoDevice)?;
        let at = self.clock.now();
        let until = if focused { at.after(self.activity.life) } else { at };
        let answer = focused.then_some(until);
        let key = (tenant.clone(), caller.id, device.clone());
        if !self.activity.is_news(&key, at, focused).await {
            return Ok(answer);
        }
        let beat = Beat {
            tenant: tenant.clone(),
            user: caller.id,
            device,
            at,
            until,
        };
        let written = self.activity.put(&self.store, key.clone(), beat)?;
        if !written.await.unwrap_or(false) {
            return Err(Unavailable::new("keeping a heartbeat", "it was not written").into());
        }
        self.activity.written.insert(key, (at, focused)).await;
        Ok(answer)
    }
}
