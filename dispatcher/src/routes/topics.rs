use std::sync::Arc;

use axum::{Json, extract::State};
use bytes::Bytes;
use carillon_domain::{
    Position, Scope, TopicName,
    ports::{NewPublication, PublishError, Topics as _},
};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem, parse_part, require_scope};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::batch_items::BatchItems;
use crate::{Dispatcher, intake::busy, topics::MAX_PUBLICATION};

const TOO_LARGE: &str = "must be at most 65536 bytes";

/// What is published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    /// 1-1,000, published in order.
    #[schema(value_type = Vec<PublicationRequest>, min_items = 1, max_items = 1_000)]
    publications: BatchItems<1_000>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublicationRequest {
    /// Any JSON, at most 64 KiB.
    #[schema(value_type = Value)]
    data: Box<RawValue>,
}

/// Where they stand, in the request's order.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishAnswer {
    data: Vec<PublishedAnswer>,
}

#[derive(Serialize, ToSchema)]
struct PublishedAnswer {
    /// Null in a live-only topic.
    #[schema(required)]
    position: Option<Position>,
}

/// Publishes to a topic without a notification. Unless the topic is live-only, the answer means that its history holds
/// the publications, durably. Needs the scope `topics:publish`.
#[utoipa::path(
    post,
    path = "/v1/topics/{name}/publish",
    tag = "Topics",
    params(("name" = TopicName, Path, description = "The topic")),
    request_body = PublishRequest,
    responses(
        (status = 200, description = "Published", body = PublishAnswer),
        (status = 422, description = "The request does not fit"),
        (status = 503, description = "Overloaded, or the store is away"),
    ),
)]
pub(super) async fn publish(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(topic): IdPath<TopicName>,
    ApiJson(request): ApiJson<PublishRequest>,
) -> Result<Json<PublishAnswer>, Problem> {
    require_scope(&principal, Scope::TopicsPublish)?;
    let publications = request.publications.read_each("/publications", |item, at| {
        let publication: PublicationRequest = parse_part(item, at).map_err(|error| vec![error])?;
        if publication.data.get().len() > MAX_PUBLICATION {
            return Err(vec![FieldError::new(format!("{at}/data"), TOO_LARGE)]);
        }
        Ok(NewPublication {
            topic: topic.clone(),
            data: Bytes::from(String::from(Box::<str>::from(publication.data))),
            publisher: None,
        })
    })?;
    match dispatcher.topics.publish(&principal.tenant, publications).await {
        Ok(positions) => Ok(Json(PublishAnswer {
            data: positions
                .into_iter()
                .map(|position| PublishedAnswer { position })
                .collect(),
        })),
        Err(PublishError::TooLarge { index, .. }) => {
            Err(Problem::field(format!("/publications/{index}/data"), TOO_LARGE))
        }
        // Logged where it happened.
        Err(PublishError::Unavailable(_)) => Err(busy("Publications cannot be stored now. Try again.")),
    }
}
