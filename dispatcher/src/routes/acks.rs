use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Content, Counts, DeviceName, EntryId, NotificationId, Position, Principal, UserId, ports::Unavailable,
};
use carillon_runtime::http::{ApiJson, Caller, FieldError, Problem, parse_part, require_user};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::batch_items::BatchItems;
use crate::{
    Dispatcher,
    store::{EntryAction, MailboxCommand, Operation, OperationResult, Which},
    validation::is_action_id,
};

/// The pointer to the device, which is the request's and no item's.
const DEVICE: &str = "/device";

const NO_SUCH_ACTION: &str = "the notification has no action with this id";

/// What arrived, was seen, or was answered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckRequest {
    /// The device that says so, when the token names none.
    device: Option<DeviceName>,
    /// 1-500, carried out in order.
    #[schema(value_type = Vec<AckItem>, min_items = 1, max_items = 500)]
    acks: BatchItems<500>,
}

/// One of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AckItem {
    kind: AckItemKind,
    /// With `delivered`: everything up to here arrived.
    position: Option<Position>,
    /// Which entry; or name the notification.
    entry: Option<EntryId>,
    /// Which notification; or name the entry.
    notification: Option<NotificationId>,
    /// With `acted`: which of the notification's actions.
    action: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AckItemKind {
    Delivered,
    Seen,
    Read,
    /// Its link was followed: acknowledges as read.
    Clicked,
    Dismissed,
    Acted,
}

/// The mailbox afterwards, and what became of each.
#[derive(Serialize, ToSchema)]
pub(crate) struct AckAnswer {
    position: Position,
    counts: Counts,
    results: Vec<AckResult>,
}

#[derive(Serialize, ToSchema)]
struct AckResult {
    status: OperationResult,
}

/// Confirms receipt, and acknowledges.
#[utoipa::path(
    post,
    path = "/v1/acks",
    tag = "Inbox",
    request_body = AckRequest,
    responses(
        (status = 200, description = "What became of each", body = AckAnswer),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn acks(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<AckRequest>,
) -> Result<Json<AckAnswer>, Problem> {
    acknowledge(&dispatcher, &principal, request).await.map(Json)
}

/// Carries out acknowledgements, however they came.
///
/// # Errors
/// 403 for who is no user, 422 with pointers, 503.
pub(crate) async fn acknowledge(
    dispatcher: &Dispatcher,
    principal: &Principal,
    request: AckRequest,
) -> Result<AckAnswer, Problem> {
    let user = require_user(principal)?;
    let device = request.device.or_else(|| user.device.clone());
    let operations = operations(&request.acks, device.is_some())?;
    check_actions(dispatcher, principal, user.id, &operations).await?;
    let command = MailboxCommand {
        tenant: principal.tenant.clone(),
        user: user.id,
        name: Some(user.external.clone()),
        device,
        answering: Vec::new(),
        channel: None,
        operations,
    };
    let reply = dispatcher.mailboxes.submit(command).await?;
    let results = reply
        .results
        .into_iter()
        .map(|status| AckResult { status })
        .collect();
    Ok(AckAnswer {
        position: reply.position,
        counts: reply.counts,
        results,
    })
}

fn operations(acks: &BatchItems<500>, has_device: bool) -> Result<Vec<Operation>, Problem> {
    acks.read_each("/acks", |item, at| {
        let ack = parse_part(item, at).map_err(|error| vec![error])?;
        operation(ack, has_device).map_err(|(field, detail)| {
            let pointer = if field == DEVICE {
                DEVICE.to_owned()
            } else {
                format!("{at}{field}")
            };
            vec![FieldError::new(pointer, detail)]
        })
    })
}

/// An action must be one that was offered. What an item names and is not there has its own answer.
///
/// This looks before the change and not in it: a replacement in between changes what the entry offers, and the answer
/// is to what its user saw.
async fn check_actions(
    dispatcher: &Dispatcher,
    principal: &Principal,
    user: UserId,
    operations: &[Operation],
) -> Result<(), Problem> {
    let named: Vec<(usize, Which, &str)> = operations
        .iter()
        .enumerate()
        .filter_map(|(index, operation)| match operation {
            Operation::Entry(which, EntryAction::Acted { action: Some(action) }) => {
                Some((index, *which, action.as_str()))
            }
            _ => None,
        })
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let which: Vec<Which> = named.iter().map(|(_, which, _)| *which).collect();
    let contents = dispatcher
        .store
        .contents(&principal.tenant, user, &which)
        .await
        .map_err(Unavailable::from)?;
    let offers = |content: &str, action: &str| {
        // What an erasure left has no buttons any more, and nobody who could press them.
        serde_json::from_str::<Content>(content).map_or(true, |content| {
            content.actions.iter().any(|offered| offered.id == action)
        })
    };
    let errors: Vec<FieldError> = named
        .iter()
        .filter(|(_, which, action)| {
            contents
                .get(which)
                .is_some_and(|content| !offers(content, action))
        })
        .map(|(index, ..)| FieldError::new(format!("/acks/{index}/action"), NO_SUCH_ACTION))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::invalid(errors))
    }
}

fn operation(ack: AckItem, has_device: bool) -> Result<Operation, (&'static str, &'static str)> {
    if ack.action.is_some() && ack.kind != AckItemKind::Acted {
        return Err(("/action", "goes with the kind acted alone"));
    }
    if ack.kind == AckItemKind::Delivered {
        if ack.entry.is_some() || ack.notification.is_some() {
            return Err(("", "delivered names a position, neither entry nor notification"));
        }
        let position = ack
            .position
            .ok_or(("/position", "required with the kind delivered"))?;
        return if has_device {
            Ok(Operation::Confirm(position))
        } else {
            Err((
                DEVICE,
                "required with the kind delivered, unless the token names the device",
            ))
        };
    }
    if ack.position.is_some() {
        return Err(("/position", "goes with the kind delivered alone"));
    }
    let which = match (ack.entry, ack.notification) {
        (Some(entry), None) => Which::Entry(entry),
        (None, Some(notification)) => Which::Notification(notification),
        _ => return Err(("", "must name either entry or notification")),
    };
    if ack.action.as_deref().is_some_and(|action| !is_action_id(action)) {
        return Err(("/action", "must be 1-64 characters of A-Z, a-z, 0-9, ., _ and -"));
    }
    let action = match ack.kind {
        AckItemKind::Seen => EntryAction::Seen,
        AckItemKind::Read => EntryAction::Read,
        AckItemKind::Clicked => EntryAction::Clicked,
        AckItemKind::Dismissed => EntryAction::Archive,
        AckItemKind::Acted => EntryAction::Acted { action: ack.action },
        AckItemKind::Delivered => return Err(("/kind", "handled above")),
    };
    Ok(Operation::Entry(which, action))
}
