//! Connections that leave and come back all the while, each behind the last publication that it got. Nothing is timed here
//! but the deliveries, so the process sleeps when nothing is to be done and leaves its core to other workers.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{SURPLUS, Worker, connection::Stage, now, publisher::Publisher};
use crate::{
    commands::{Churn, Churned},
    schedule::Schedule,
};

/// How long it sleeps at the most: what is due is late by no more.
const NAP: Duration = Duration::from_millis(1);
/// Connections that are being opened at a time.
const IN_FLIGHT: usize = 64;
/// From one that leaves to the next: a prime above all counts, so that each has its turn and neighbours leave apart.
const STEP: usize = 1_000_003;

impl Worker {
    /// Ends when the time is over, everything is published, and all are back and have everything; or too late.
    pub(super) fn churn(&mut self, churn: &Churn) -> Result<Churned> {
        let begin = Instant::now();
        let time = Duration::from_millis(churn.for_ms);
        let limit = time + Duration::from_millis(churn.limit_ms);
        let leaving = Schedule::new(now(), churn.leaving);
        let (mut left, mut returns) = (0, 0);
        let mut away: VecDeque<(Instant, usize)> = VecDeque::new();
        let already = self.opening.opened;
        loop {
            let is_over = begin.elapsed() >= time;
            let is_published = match &mut self.publisher {
                Some(publisher) => {
                    publisher.turn(now())?;
                    publisher.is_done()
                }
                None => true,
            };
            while !is_over && leaving.due(left).is_some_and(|due| due <= now()) {
                left += 1;
                if let Some(number) = self.leave(left as usize) {
                    away.push_back((Instant::now() + Duration::from_millis(churn.away_ms), number));
                }
            }
            while let Some((back, number)) = away.front().copied()
                && (is_over || back <= Instant::now())
                && returns - (self.opening.opened - already) < IN_FLIGHT
            {
                away.pop_front();
                self.begin(number)?;
                returns += 1;
            }
            self.turn(Some(NAP))?;
            if let Some(failure) = self.opening.failure() {
                bail!("a connection that came back: {failure}");
            }
            let is_complete = is_over && is_published && away.is_empty() && self.behind(churn.until) == 0;
            if is_complete || begin.elapsed() > limit {
                break;
            }
        }
        let took = begin.elapsed();
        if let Some(publisher) = &self.publisher {
            ensure!(publisher.is_done(), "{}", Publisher::progress(publisher));
        }
        while begin.elapsed() < took + SURPLUS {
            self.turn(Some(NAP))?;
        }
        let behind = self.behind(churn.until);
        Ok(Churned {
            measured: self.measured(took, behind)?,
            returns: returns as u64,
        })
    }

    /// Closes the connection whose turn it is; `None` where it is away or on its way.
    fn leave(&mut self, turn: usize) -> Option<usize> {
        let count = self.connections.len().max(1);
        let number = turn.wrapping_mul(STEP) % count;
        let connection = self.connections.get_mut(number)?;
        if connection.stage != Stage::Open {
            return None;
        }
        connection.close();
        Some(number)
    }

    /// Connections that are not there, or do not expect this number next.
    fn behind(&self, until: u64) -> u64 {
        let short = self
            .connections
            .iter()
            .filter(|connection| connection.stage != Stage::Open || connection.sequence.next != until);
        short.count() as u64
    }
}
