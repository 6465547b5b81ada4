//! Topics: histories, and the way into them.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_domain::{
    Clock, Position, Publication, TenantId, TopicName,
    ports::{NewPublication, PublishError, Since, Topics, Unavailable},
};
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{
    announcer::Announcer,
    batcher::{BatchError, BatchLimits, Batcher, Weigh},
    intake::is_away,
    live_only::LiveOnly,
    store::{Store, TopicAppend, publication},
};

/// The largest publication in bytes.
pub(crate) const MAX_PUBLICATION: usize = 64 * 1024;

/// Topics' histories, and publishing.
pub(crate) struct TopicHistories {
    store: Arc<dyn Store>,
    announcer: Arc<Announcer>,
    clock: Arc<dyn Clock>,
    live_only: LiveOnly,
    batcher: Batcher<Vec<TopicAppend>, Vec<Position>, Arc<StoreError>>,
}

impl Weigh for Vec<TopicAppend> {
    fn items(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.iter().map(|append| append.data.len() + 128).sum()
    }
}

impl TopicHistories {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        announcer: Arc<Announcer>,
        clock: Arc<dyn Clock>,
        live_only: LiveOnly,
        limits: BatchLimits,
    ) -> Self {
        Self {
            store,
            announcer,
            clock,
            live_only,
            batcher: Batcher::new(limits),
        }
    }

    /// Commits batches until `stop`, and then what still waits.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.batcher.run(stop, |requests| self.commit(requests)).await;
    }

    async fn commit(&self, requests: Vec<Vec<TopicAppend>>) -> Vec<Result<Vec<Position>, Arc<StoreError>>> {
        let all: Vec<TopicAppend> = requests.iter().flatten().cloned().collect();
        match self.append(&all).await {
            Ok(positions) => {
                let mut positions = positions.into_iter();
                requests
                    .iter()
                    .map(|request| Ok(positions.by_ref().take(request.len()).collect()))
                    .collect()
            }
            Err(error) if requests.len() > 1 && !is_away(&error) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in &requests {
                    replies.push(self.append(request).await.map_err(Arc::new));
                }
                replies
            }
            Err(error) => {
                let error = Arc::new(error);
                requests.iter().map(|_| Err(Arc::clone(&error))).collect()
            }
        }
    }

    async fn append(&self, publications: &[TopicAppend]) -> Result<Vec<Position>, StoreError> {
        let turn = self.announcer.turn().await;
        let committed = self.store.publish(self.clock.now(), publications).await?;
        turn.announce(committed.envelopes).await;
        metrics::counter!("carillon_dispatcher_publications_total").increment(publications.len() as u64);
        Ok(committed.value)
    }
}

#[async_trait]
impl Topics for TopicHistories {
    async fn publish(
        &self,
        tenant: &TenantId,
        publications: Vec<NewPublication>,
    ) -> Result<Vec<Option<Position>>, PublishError> {
        let mut kept = Vec::new();
        let mut live = Vec::new();
        let mut is_kept = Vec::with_capacity(publications.len());
        let now = self.clock.now();
        for (
            index,
            NewPublication {
                topic,
                data,
                publisher,
            },
        ) in publications.into_iter().enumerate()
        {
            let data = one_line(data);
            if data.len() > MAX_PUBLICATION {
                return Err(PublishError::TooLarge {
                    index,
                    limit: MAX_PUBLICATION,
                });
            }
            if self.live_only.covers(&topic) {
                is_kept.push(false);
                live.push(publication(now, &(tenant.clone(), topic), None, data, publisher));
            } else {
                is_kept.push(true);
                kept.push(TopicAppend {
                    tenant: tenant.clone(),
                    topic,
                    data,
                    publisher,
                });
            }
        }
        if !live.is_empty() {
            self.announcer.live(live).await?;
        }
        let mut positions = if kept.is_empty() {
            Vec::new()
        } else {
            self.batcher
                .submit(kept)
                .await
                .map_err(|error| unavailable(&error))?
        }
        .into_iter();
        Ok(is_kept
            .into_iter()
            .map(|kept| if kept { positions.next() } else { None })
            .collect())
    }

    async fn head(&self, tenant: &TenantId, topic: &TopicName) -> Result<Option<Position>, Unavailable> {
        if self.live_only.covers(topic) {
            return Ok(None);
        }
        Ok(Some(
            self.store.topic_head(self.clock.now(), tenant, topic).await?,
        ))
    }

    async fn since(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Option<Since<Publication>>, Unavailable> {
        if self.live_only.covers(topic) {
            return Ok(None);
        }
        Ok(Some(self.store.topic_since(tenant, topic, from, limit).await?))
    }
}

fn unavailable(error: &BatchError<Arc<StoreError>>) -> Unavailable {
    if let BatchError::Failed(error) = error {
        tracing::error!(error = &**error as &dyn Error, "publications were not committed");
    }
    Unavailable::new("publishing", error.to_string())
}

/// JSON without line breaks, which only stand between its tokens: protocols that put one message on a line carry it as
/// it is.
fn one_line(data: Bytes) -> Bytes {
    if !data.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return data;
    }
    data.iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_stand_on_one_line() {
        let data = Bytes::from_static(b"{\r\n  \"a\": \"x\\ny\"\n}");
        assert_eq!(one_line(data), Bytes::from_static(b"{  \"a\": \"x\\ny\"}"));
    }
}
