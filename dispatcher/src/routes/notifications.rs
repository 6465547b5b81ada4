use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{
    Acknowledgement, BundleKey, Category, ChannelKind, CollapseKey, Content, DeliveryId, DeviceId,
    DeviceName, EntryId, ExternalUserId, NotificationId, NotificationState, PlainAddress, Position, Priority,
    Scope, Target, TemplateName, TenantId, Timestamp, TopicName, UserId, ports::Unavailable,
};
use carillon_policy::Plan;
use carillon_runtime::http::{Caller, IdPath, Listing, Page, Paged, Problem, require_scope};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::deliveries::{OutsideAttemptAnswer, attempt};
use crate::{
    Dispatcher,
    store::{
        NotificationQuery, NotificationRow, PublishedTo, RecipientDetail, RecipientPhase, RecipientState,
        StoredTarget,
        broadcasts::{BroadcastRow, BroadcastState},
        ladder::{DecisionDetail, RecipientCount},
        outside::AttemptDetail,
        withdrawals::{WithdrawalDetail, WithdrawalKind},
    },
};

/// The name of the list of notifications, for its cursors.
const LIST: &str = "notifications";
/// The name of the list of recipients, for its cursors.
const RECIPIENTS: &str = "recipients";

const KEPT_NOTE: &str = "Published to the topic's history and live subscribers; stored subscribers are among the \
                         recipients.";
const LIVE_NOTE: &str = "Published to live subscribers; the topic keeps no history; stored subscribers are among the \
                         recipients.";

/// A notification.
#[derive(Serialize, ToSchema)]
pub(super) struct NotificationAnswer {
    id: NotificationId,
    state: NotificationState,
    category: Category,
    priority: Priority,
    #[schema(required)]
    collapse_key: Option<CollapseKey>,
    /// What its alerts are bundled by, where they wait for digests.
    #[schema(required)]
    digest_key: Option<BundleKey>,
    #[schema(value_type = Content)]
    content: Box<RawValue>,
    /// As they came; what an erased user's was is `{"erased": true}`.
    #[schema(value_type = Vec<Target>)]
    targets: Vec<StoredTarget>,
    /// As the request named them; null where it left them to the category.
    #[schema(required)]
    channels: Option<Vec<ChannelKind>>,
    /// What the content was rendered from.
    #[schema(required)]
    template: Option<TemplateAnswer>,
    /// What its users climb: as the request brings it, and from the planning on the one that is climbed; null before, where
    /// the request brings none.
    #[schema(required, value_type = Option<Plan>)]
    plan: Option<Box<RawValue>>,
    /// Whether the request says that it passes preferences, quiet hours, holds and caps.
    critical: bool,
    /// Where it is a digest: the name of its period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    digest: Option<Arc<str>>,
    created_at: Timestamp,
    send_at: Timestamp,
    expires_at: Timestamp,
    /// How many recipients stand where; absent in lists. All of them together are its recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Vec<CountAnswer>>,
    /// Where its topic targets were published, once it is planned.
    topics: Vec<TopicAnswer>,
    /// How far it is planned, where it goes to topics' subscribers or segments and has begun; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<BroadcastAnswer>,
    /// Who answered for all, where one answer is enough and was there. Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<AnsweredAnswer>,
    /// How it ends for its recipients before its time. Absent in lists, and where nobody withdrew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawal: Option<WithdrawalAnswer>,
    /// Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Listing<RecipientAnswer>>,
}

/// How many recipients stand in one place.
#[derive(Serialize, ToSchema)]
#[schema(as = RecipientCount)]
struct CountAnswer {
    state: RecipientState,
    /// Of open ones.
    #[schema(required)]
    phase: Option<RecipientPhase>,
    count: u64,
}

/// What was decided about a recipient beside plainly sending.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
struct DecisionAnswer {
    at: Timestamp,
    /// The step of the plan that it is about, from 0.
    #[schema(required)]
    step: Option<u32>,
    /// `held`, `released`, `passed`, `escalated`, `skipped`, `capped`, `gathered`, `digested`, `ended`.
    kind: String,
    /// Why, and what belongs to it: `reason` says which.
    #[schema(value_type = Object)]
    why: serde_json::Map<String, serde_json::Value>,
}

/// How far a notification to many is planned.
#[derive(Serialize, ToSchema)]
#[schema(as = Broadcast)]
struct BroadcastAnswer {
    /// `running`; `done`: everybody has it; `cancelled` or `expired`: it ended before everybody had it.
    state: &'static str,
    /// How many recipients it has so far.
    planned: u64,
    /// Up to which user everybody is planned, by internal id.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<UserId>,
    /// Users and subscriptions from then on are out.
    started_at: Timestamp,
    /// When its latest page was planned.
    updated_at: Timestamp,
}

impl BroadcastAnswer {
    /// Its own row is written with its pages alone: whether it was ended from outside, its notification says.
    fn new(broadcast: BroadcastRow, notification: NotificationState) -> Self {
        let state = match (broadcast.state, notification) {
            (BroadcastState::Running, NotificationState::Cancelled) => "cancelled",
            (BroadcastState::Running, NotificationState::Planned | NotificationState::Expired) => "expired",
            (state, _) => state.as_str(),
        };
        Self {
            state,
            planned: broadcast.planned,
            cursor: broadcast.cursor,
            started_at: broadcast.started_at,
            updated_at: broadcast.updated_at,
        }
    }
}

/// Whose answer was enough.
#[derive(Serialize, ToSchema)]
#[schema(as = Answered)]
struct AnsweredAnswer {
    /// Null once erased, and of a plain address.
    #[schema(required)]
    user: Option<ExternalUserId>,
    acknowledgement: Acknowledgement,
}

/// A notification that ends for its recipients page by page. Nothing of it starts any more, however far that is.
#[derive(Serialize, ToSchema)]
#[schema(as = Withdrawal)]
struct WithdrawalAnswer {
    kind: WithdrawalKind,
    /// Whether it is over for all of them.
    done: bool,
    /// Recipients for whom it is not over yet.
    open: u64,
}

/// A template as a notification uses it.
#[derive(Serialize, ToSchema)]
#[schema(as = UsedTemplate)]
struct TemplateAnswer {
    name: TemplateName,
    /// Fixed when the notification was accepted.
    version: u64,
}

/// A topic target that was published.
#[derive(Serialize, ToSchema)]
struct TopicAnswer {
    topic: TopicName,
    /// Null in a live-only topic.
    #[schema(required)]
    position: Option<Position>,
    note: &'static str,
}

/// One recipient and everything that happened.
#[derive(Serialize, ToSchema)]
struct RecipientAnswer {
    /// Null once erased, and for a plain address.
    #[schema(required)]
    user: Option<ExternalUserId>,
    /// Of a plain address alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PlainAddress>,
    state: RecipientState,
    /// Why, where the state needs a reason.
    #[schema(required)]
    reason: Option<String>,
    /// What an open one is doing.
    #[schema(required)]
    phase: Option<RecipientPhase>,
    /// The step of the plan that it stands in, from 0; null before the first.
    #[schema(required)]
    step: Option<u32>,
    /// Since when.
    #[schema(required)]
    step_at: Option<Timestamp>,
    /// When something is decided next; null where only an answer or the end of its time to live is waited for.
    #[schema(required)]
    next_at: Option<Timestamp>,
    #[schema(required)]
    entry_id: Option<EntryId>,
    /// The change in the mailbox log that brought it.
    #[schema(required)]
    position: Option<Position>,
    #[schema(required)]
    acknowledgement: Option<Acknowledgement>,
    /// In order.
    decisions: Vec<DecisionAnswer>,
    deliveries: Vec<DeliveryAnswer>,
    receipts: Vec<ReceiptAnswer>,
}

/// One notification on its way to one address over one channel.
#[derive(Serialize, ToSchema)]
struct DeliveryAnswer {
    id: DeliveryId,
    /// The step of the plan that it belongs to, from 0.
    step: u32,
    channel: String,
    /// `-` where there is none.
    address: String,
    /// The user's device that the address belongs to.
    #[schema(required)]
    device: Option<DeviceId>,
    /// `pending`; `accepted`: the channel took it; `delivered`: the receiver has it, or a device of the inbox confirmed
    /// it; `recalled`, `dead`, `skipped`, `cancelled` or `superseded`; `gathered`: it waits in a digest; `digested`: it
    /// went out with one.
    state: String,
    #[schema(required)]
    reason: Option<String>,
    /// When the next attempt may begin; null while one runs and once it ended.
    #[schema(required)]
    next_at: Option<Timestamp>,
    /// The latest 20; `GET /v1/deliveries/{id}` shows all.
    attempts: Vec<OutsideAttemptAnswer>,
    /// What the far end told of it outside the inbox, the first of each kind.
    receipts: Vec<FarReceiptAnswer>,
    /// The notification that it went out with, of one that is `digested`.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<NotificationId>,
}

/// News from the far end of one delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryReceipt)]
struct FarReceiptAnswer {
    /// `delivered`, `seen`, `read`, `clicked`, `dismissed`, `acted` or `failed`.
    kind: String,
    at: Timestamp,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// News from a device or a user.
#[derive(Serialize, ToSchema)]
struct ReceiptAnswer {
    /// `delivered`, `seen`, `read`, `clicked`, `dismissed`, `acted`, or `failed` after a bounce or a worker's news. The first
    /// of each kind from each device, over each channel.
    kind: String,
    /// Over which channel it came.
    channel: String,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceName>,
}

/// Which notifications are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListFilter {
    /// Only in this state.
    state: Option<NotificationState>,
    /// Only of this category.
    #[param(value_type = Option<String>)]
    category: Option<Category>,
    /// Only for this user; finds a notification once it is planned.
    #[param(value_type = Option<String>)]
    user: Option<ExternalUserId>,
}

/// Lists notifications, newest first, without their recipients. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/notifications",
    tag = "Notifications",
    params(Page, ListFilter),
    responses((status = 200, description = "The notifications", body = Listing<NotificationAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, filter): Paged<ListFilter>,
) -> Result<Json<Listing<NotificationAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let before = page.after(LIST)?;
    let user = match &filter.user {
        None => None,
        Some(name) => match dispatcher.ports.directory.find(&principal.tenant, name).await? {
            Some(user) => Some(user),
            None => {
                return Ok(Json(Listing {
                    data: Vec::new(),
                    next: None,
                }));
            }
        },
    };
    let query = NotificationQuery {
        state: filter.state,
        category: filter.category,
        user,
        before,
        limit: page.fetch(),
    };
    let rows = dispatcher
        .store
        .notifications(&principal.tenant, &query)
        .await
        .map_err(Unavailable::from)?;
    let listing = Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.id,
        |row| answer(row, More::default()),
    );
    let data = listing.data.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(Listing {
        data,
        next: listing.next,
    }))
}

/// Shows a notification: its recipients (a page of them), deliveries, attempts and receipts, each with its reason.
/// Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/notifications/{id}",
    tag = "Notifications",
    params(("id" = NotificationId, Path, description = "The notification"), Page),
    responses(
        (status = 200, description = "The notification", body = NotificationAnswer),
        (status = 404, description = "No such notification"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<NotificationId>,
    page: Page,
) -> Result<Json<NotificationAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let tenant = &principal.tenant;
    let after: Option<UserId> = page.after(RECIPIENTS)?;
    let row = dispatcher
        .store
        .notification(tenant, id)
        .await
        .map_err(Unavailable::from)?;
    let row = row.ok_or_else(Problem::not_found)?;
    let details = dispatcher
        .store
        .recipients(tenant, id, after, page.fetch())
        .await
        .map_err(Unavailable::from)?;
    let names = names(&dispatcher, tenant, &details).await?;
    let recipients = Listing::from_rows(
        RECIPIENTS,
        &page,
        details,
        |detail| detail.user,
        |detail| recipient(detail, &names),
    );
    let counts = dispatcher
        .store
        .recipient_counts(tenant, id)
        .await
        .map_err(Unavailable::from)?;
    let broadcast = dispatcher
        .store
        .broadcasts(&[(tenant.clone(), id)])
        .await
        .map_err(Unavailable::from)?
        .pop();
    let detail = dispatcher
        .store
        .withdrawal(tenant, id)
        .await
        .map_err(Unavailable::from)?;
    let withdrawal = withdrawal(row.state, &detail);
    let answered = match detail.answered {
        None => None,
        Some(answered) => {
            let users: Vec<UserId> = answered.user.into_iter().collect();
            let names = dispatcher.ports.directory.names(tenant, &users).await?;
            Some(AnsweredAnswer {
                user: names.into_iter().next().flatten(),
                acknowledgement: answered.acknowledgement,
            })
        }
    };
    let more = More {
        counts: Some(counts),
        broadcast,
        answered,
        withdrawal,
        recipients: Some(recipients),
    };
    answer(row, more).map(Json)
}

/// What withdrew it, and how far that is.
fn withdrawal(state: NotificationState, detail: &WithdrawalDetail) -> Option<WithdrawalAnswer> {
    let kind = match (detail.running, state) {
        (Some((kind, _)), _) => kind,
        (None, NotificationState::Cancelled) => WithdrawalKind::Cancelled,
        (None, _) if detail.answered.is_some() => WithdrawalKind::Answered,
        _ => return None,
    };
    Some(WithdrawalAnswer {
        kind,
        done: detail.running.is_none(),
        open: detail.open,
    })
}

async fn names(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    details: &[RecipientDetail],
) -> Result<HashMap<UserId, ExternalUserId>, Unavailable> {
    let users: Vec<UserId> = details.iter().map(|detail| detail.user).collect();
    let names = dispatcher.ports.directory.names(tenant, &users).await?;
    Ok(users
        .into_iter()
        .zip(names)
        .filter_map(|(user, name)| Some((user, name?)))
        .collect())
}

/// What lists leave out.
#[derive(Default)]
struct More {
    counts: Option<Vec<RecipientCount>>,
    broadcast: Option<BroadcastRow>,
    answered: Option<AnsweredAnswer>,
    withdrawal: Option<WithdrawalAnswer>,
    recipients: Option<Listing<RecipientAnswer>>,
}

fn answer(row: NotificationRow, more: More) -> Result<NotificationAnswer, Problem> {
    let unreadable = |error: serde_json::Error| Problem::internal(&error);
    let published: Vec<PublishedTo> = row
        .topics
        .as_deref()
        .map_or(Ok(Vec::new()), serde_json::from_str)
        .map_err(unreadable)?;
    Ok(NotificationAnswer {
        broadcast: more
            .broadcast
            .map(|broadcast| BroadcastAnswer::new(broadcast, row.state)),
        id: row.id,
        state: row.state,
        category: row.category,
        priority: row.priority,
        collapse_key: row.collapse_key,
        digest_key: row.digest_key,
        content: RawValue::from_string(row.content.to_string()).map_err(unreadable)?,
        targets: row.targets,
        channels: row.channels,
        template: row.template.map(|template| TemplateAnswer {
            name: template.name,
            version: template.version,
        }),
        plan: row
            .plan
            .map(|plan| RawValue::from_string(plan.to_string()))
            .transpose()
            .map_err(unreadable)?,
        critical: row.critical,
        digest: row.digest,
        created_at: row.created_at,
        send_at: row.send_at,
        expires_at: row.expires_at,
        counts: more
            .counts
            .map(|counts| counts.into_iter().map(CountAnswer::from).collect()),
        topics: published
            .into_iter()
            .map(|PublishedTo { topic, position }| TopicAnswer {
                note: if position.is_some() { KEPT_NOTE } else { LIVE_NOTE },
                topic,
                position,
            })
            .collect(),
        answered: more.answered,
        withdrawal: more.withdrawal,
        recipients: more.recipients,
    })
}

impl From<RecipientCount> for CountAnswer {
    fn from(row: RecipientCount) -> Self {
        let RecipientCount { state, phase, count } = row;
        Self { state, phase, count }
    }
}

impl From<DecisionDetail> for DecisionAnswer {
    fn from(row: DecisionDetail) -> Self {
        let mut why: serde_json::Map<_, _> = serde_json::from_str(&row.body).unwrap_or_default();
        why.remove("kind");
        Self {
            at: row.at,
            step: row.step,
            kind: row.kind,
            why,
        }
    }
}

fn recipient(detail: RecipientDetail, names: &HashMap<UserId, ExternalUserId>) -> RecipientAnswer {
    let erased = detail.state == RecipientState::Erased;
    let delivered = !detail.confirmed.is_empty();
    let position = detail.position;
    let deliveries = detail
        .deliveries
        .into_iter()
        .map(|delivery| {
            let in_app = delivery.channel == "in_app";
            let state = if in_app && delivered {
                "delivered".to_owned()
            } else {
                delivery.state
            };
            // Writing to the log is the one attempt that in-app delivery makes.
            let written = position.iter().filter(|_| in_app).map(|position| AttemptDetail {
                number: 1,
                operation: "deliver".to_owned(),
                started_at: delivery.created_at,
                ended_at: Some(delivery.created_at),
                outcome: Some("accepted".to_owned()),
                status: None,
                reason: Some(format!("written to the mailbox log at {position}")),
                excerpt: None,
                next_at: None,
            });
            let receipts = delivery.receipts.into_iter().map(|receipt| FarReceiptAnswer {
                kind: receipt.kind.into_owned(),
                at: receipt.at,
                reason: receipt.reason,
            });
            let attempts = written.chain(delivery.attempts).map(attempt);
            DeliveryAnswer {
                id: delivery.id,
                step: delivery.step,
                channel: delivery.channel,
                address: delivery.address,
                device: delivery.device,
                state,
                reason: delivery.reason,
                next_at: delivery.next_at,
                attempts: attempts.collect(),
                receipts: receipts.collect(),
                digest: delivery.digest,
            }
        })
        .collect();
    let confirmed = detail.confirmed.into_iter().map(|(device, at)| ReceiptAnswer {
        kind: "delivered".to_owned(),
        channel: ChannelKind::IN_APP.to_owned(),
        at,
        device: Some(device),
    });
    let other = detail.receipts.into_iter().map(|receipt| ReceiptAnswer {
        kind: receipt.kind,
        channel: receipt.channel,
        at: receipt.at,
        device: receipt.device,
    });
    let mut receipts: Vec<ReceiptAnswer> = confirmed.chain(other).collect();
    receipts.sort_by_key(|receipt| receipt.at);
    RecipientAnswer {
        user: if erased {
            None
        } else {
            names.get(&detail.user).cloned()
        },
        address: detail.plain,
        state: detail.state,
        reason: detail.reason,
        phase: detail.phase,
        step: detail.step,
        step_at: detail.step_at,
        next_at: detail.next_at,
        decisions: detail.decisions.into_iter().map(DecisionAnswer::from).collect(),
        entry_id: detail.entry,
        position,
        acknowledgement: detail.acknowledgement,
        deliveries,
        receipts,
    }
}
