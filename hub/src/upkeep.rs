//! What happens by the clock: heartbeats, expiries, feeds nobody listens to, and the end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, Role},
    hub::Hub,
    protocol::{Encoding, codes::Close},
    sse::event,
    wheel::Wheel,
};

/// How often feeds are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// How many feeds are compared with the store at a time.
const CHECKS: usize = 8;
/// The pause between two groups of a drain's closes.
const DRAIN_STEP: Duration = Duration::from_millis(20);

impl Hub {
    /// The heartbeat wheel and other upkeep, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let sweeper = tokio::spawn(Arc::clone(&self).sweep(stop.clone()));
        let mut turns = interval(Wheel::STEP);
        // Late turns are made up for: the wheel counts them.
        turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = turns.tick() => {}
            }
            self.shared.turned();
            for id in self.shared.wheel.turn() {
                if let Some(connection) = self.table.get(id).filter(|connection| connection.is_awaited()) {
                    self.tick(&connection);
                }
            }
        }
        let _ = sweeper.await;
    }

    /// Does what is due for one connection, and says when to look again.
    fn tick(self: &Arc<Self>, connection: &Arc<Connection>) {
        if connection.is_over() {
            let patience = self.shared.config.close_timeout.duration();
            match connection.give_up_after(patience) {
                // The wheel may be a moment early: then it is not the whole time again.
                Some(left) => connection.wake_after(left),
                // hyper may keep the body of a peer that takes nothing for as long as its HTTP/2 connection lives.
                None => self.forget(connection),
            }
            return;
        }
        let mut role = connection.role.lock();
        let next = match &mut *role {
            Role::Session(session) => {
                let (effects, next) = session.tick(self.moment(), &self.shared.config);
                self.apply(connection, effects, &mut Vec::new());
                next
            }
            Role::Stream(stream) => self.tick_stream(connection, stream.expires_at()),
        };
        // Under the lock: a session that asks to be woken earlier does so behind this.
        if let Some(next) = next {
            connection.wake_after(next);
        }
        if connection.is_over() {
            // Somebody cut it off meanwhile, and wants to see it gone sooner than that.
            connection.wake_after(self.shared.config.close_timeout.duration());
        }
    }

    fn tick_stream(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        expires_at: Option<carillon_domain::Timestamp>,
    ) -> Option<Duration> {
        let config = &self.shared.config;
        let now = self.ports.clock.now();
        let end = expires_at.map(|expires_at| expires_at.after(config.expired_close_delay.duration()));
        if end.is_some_and(|end| now >= end) {
            connection.end(event::bye("expired", self.shared.retry_ms()));
            self.release_subscriptions(connection);
            return None;
        }
        let (silent, waiting) = connection.silence();
        if waiting && silent >= config.write_timeout.duration() {
            // Nobody else watches a body's queue.
            connection.cut_off();
            return None;
        }
        let every = config.ping_interval.duration();
        let next = if silent >= every {
            connection.send(&event::HEARTBEAT);
            every
        } else {
            every - silent
        };
        Some(end.map_or(next, |end| next.min(end.since(now))))
    }

    async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let config = &self.shared.config;
        let (linger, check) = (
            config.feed_linger.duration(),
            config.position_check_interval.duration(),
        );
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(SWEEP) => {}
            }
            self.registry.sweep(&self, linger).await;
            self.readings.forget(self.shared.millis());
            self.shared.metrics.feeds.set(self.registry.len() as f64);
            if !check.is_zero() {
                let due = self.registry.unchecked(self.shared.millis(), check);
                let checks = stream::iter(&due).for_each_concurrent(CHECKS, |feed| self.check(feed));
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = checks => {}
                }
            }
        }
    }

    /// Ends all connections so that clients come back elsewhere, spread over `deadline`: WebSockets with 3001,
    /// streams with `retry:` and `bye`. Answers when all are gone or the time is over.
    pub async fn drain(self: &Arc<Self>, deadline: Duration) {
        let began = Instant::now();
        self.shared.draining.store(true, Ordering::Relaxed);
        // The last ones still get their time to answer.
        let spread = deadline.mul_f64(0.7);
        loop {
            let mut open: Vec<_> = self
                .table
                .all()
                .into_iter()
                .filter(|connection| !connection.is_over())
                .collect();
            if open.is_empty() {
                break;
            }
            open.shuffle(&mut rand::rng());
            let (round, left) = (Instant::now(), spread.saturating_sub(began.elapsed()));
            let mut told = 0;
            while told < open.len() {
                // By the clock and not by counted pauses: on a busy machine they are longer, and the rest would come
                // in one wave at the end.
                let elapsed = round.elapsed();
                let due = if elapsed < left {
                    (open.len() as f64 * elapsed.div_duration_f64(left)).ceil() as usize
                } else {
                    open.len()
                };
                for connection in &open[told..due] {
                    self.send_away(connection);
                }
                told = due;
                if told < open.len() {
                    sleep(DRAIN_STEP).await;
                }
            }
            if began.elapsed() >= deadline {
                break;
            }
        }
        while self.connections() > 0 && began.elapsed() < deadline {
            sleep(DRAIN_STEP).await;
        }
    }

    fn send_away(&self, connection: &Arc<Connection>) {
        match connection.encoding {
            Encoding::WebSocketJson => self.close(connection, Close::SHUTDOWN),
            Encoding::EventStream => self.bye(connection, "shutdown"),
        }
    }
}
