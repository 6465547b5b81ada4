//! Why somebody was, or was not, notified.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Caller as Who, ExternalUserId, NotificationId, PlainAddress, Principal, Scope, Target, Timestamp, UserId,
    ports::Unavailable,
};
use carillon_runtime::http::{Caller, IdPath, Listing, Page, Problem, require_scope};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    store::{NotificationRow, RecipientDetail, RecipientState, StoredTarget},
    why::{Event, MOST_EVENTS, Told, timeline},
};

/// The name of the list of timelines, for its cursors.
const LIST: &str = "why";

/// Timelines that one answer has at the most.
const MOST_TIMELINES: u32 = 50;

/// Everything that was decided about a notification for one recipient.
#[derive(Serialize, ToSchema)]
#[schema(as = Why)]
pub(super) struct WhyAnswer {
    notification_id: NotificationId,
    /// Null once erased, and for a plain address.
    #[schema(required)]
    user: Option<ExternalUserId>,
    /// Of a plain address alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PlainAddress>,
    /// Null while it is not planned.
    #[schema(required)]
    state: Option<RecipientState>,
    /// Where it stands, in plain words.
    standing: String,
    /// When something is decided next; null where only an answer or the end of its time to live is waited for.
    #[schema(required)]
    next_at: Option<Timestamp>,
    /// The earliest first; at most 200.
    events: Vec<Event>,
    /// Whether events between the first one and the others were left out.
    truncated: bool,
}

/// Says why each recipient was, or was not, notified: every decision, attempt and receipt in its order, typed and in plain
/// words. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/notifications/{id}/why",
    operation_id = "why_of_notification",
    tag = "Notifications",
    params(("id" = NotificationId, Path, description = "The notification"), Page),
    responses(
        (status = 200, description = "A timeline for each recipient, by its id; at most 50 at a time", body = Listing<WhyAnswer>),
        (status = 404, description = "No such notification"),
    ),
)]
pub(super) async fn of_notification(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<NotificationId>,
    mut page: Page,
) -> Result<Json<Listing<WhyAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    page.limit = page.limit.min(MOST_TIMELINES);
    let after: Option<UserId> = page.after(LIST)?;
    let tenant = &principal.tenant;
    let told = Notified::read(&dispatcher, &principal, id).await?;
    let details = dispatcher
        .store
        .recipients(tenant, id, after, page.fetch())
        .await
        .map_err(Unavailable::from)?;
    let users: Vec<UserId> = details.iter().map(|detail| detail.user).collect();
    let told = told.answered(&dispatcher, &principal, &details).await?;
    let mut names = dispatcher
        .ports
        .directory
        .names(tenant, &users)
        .await?
        .into_iter();
    let listing = Listing::from_rows(
        LIST,
        &page,
        details,
        |detail| detail.user,
        |detail| told.answer(names.next().flatten(), Some(&detail)),
    );
    Ok(Json(listing))
}

/// Says why a user was, or was not, notified: every decision, attempt and receipt in its order, typed and in plain words.
/// For the user's own token, and for keys with the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{user}/notifications/{id}/why",
    operation_id = "why_of_user",
    tag = "Notifications",
    params(
        ("user" = String, Path, description = "Your own id of the user"),
        ("id" = NotificationId, Path, description = "The notification"),
    ),
    responses(
        (status = 200, description = "The timeline", body = WhyAnswer),
        (status = 403, description = "Somebody else's token"),
        (status = 404, description = "No such notification, or not for this user"),
    ),
)]
pub(super) async fn of_user(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath((user, id)): IdPath<(ExternalUserId, NotificationId)>,
) -> Result<Json<WhyAnswer>, Problem> {
    let tenant = &principal.tenant;
    let own = match &principal.caller {
        Who::User(caller) if caller.external == user => Some(caller.id),
        Who::User(_) => return Err(Problem::forbidden("A user's token reaches its own user alone.")),
        Who::Key(_) | Who::Worker(_) | Who::Operator => {
            require_scope(&principal, Scope::NotificationsRead)?;
            dispatcher.ports.directory.find(tenant, &user).await?
        }
    };
    let told = Notified::read(&dispatcher, &principal, id).await?;
    let detail = match own {
        None => None,
        Some(own) => dispatcher
            .store
            .recipient(tenant, id, own)
            .await
            .map_err(Unavailable::from)?,
    };
    if detail.is_none() && !told.is_waited_for(&user) {
        return Err(Problem::not_found());
    }
    let told = told.answered(&dispatcher, &principal, detail.as_slice()).await?;
    Ok(Json(told.answer(Some(user), detail.as_ref())))
}

/// What is told of a notification to each of its recipients.
struct Notified {
    row: NotificationRow,
    ended_at: Option<Timestamp>,
    /// Who answered for others, where one answer was enough; none once he was erased.
    answered_by: Option<ExternalUserId>,
    /// Whether far ends' own words are told.
    verbatim: bool,
}

/// Said in place of a name that is gone, or never was: a plain address answered.
const SOMEBODY: &str = "somebody else";

impl Notified {
    async fn read(
        dispatcher: &Dispatcher,
        principal: &Principal,
        id: NotificationId,
    ) -> Result<Self, Problem> {
        let (store, tenant) = (&dispatcher.store, &principal.tenant);
        let row = store.notification(tenant, id).await.map_err(Unavailable::from)?;
        Ok(Self {
            row: row.ok_or_else(Problem::not_found)?,
            ended_at: store.ended_at(tenant, id).await.map_err(Unavailable::from)?,
            answered_by: None,
            verbatim: !matches!(principal.caller, Who::User(_)),
        })
    }

    /// Finds out who answered for these: of one notification it is the same for all.
    async fn answered(
        self,
        dispatcher: &Dispatcher,
        principal: &Principal,
        details: &[RecipientDetail],
    ) -> Result<Self, Problem> {
        let Some(by) = details.iter().find_map(answerer) else {
            return Ok(self);
        };
        let names = dispatcher.ports.directory.names(&principal.tenant, &[by]).await?;
        Ok(Self {
            answered_by: names.into_iter().next().flatten(),
            ..self
        })
    }

    /// Whether it names the user and nothing was planned for him: it is not planned yet, or never was.
    fn is_waited_for(&self, user: &ExternalUserId) -> bool {
        let named =
            |target: &StoredTarget| matches!(target, StoredTarget::Known(Target::User(name)) if name == user);
        self.row.targets.iter().any(named)
    }

    fn answer(&self, name: Option<ExternalUserId>, detail: Option<&RecipientDetail>) -> WhyAnswer {
        let told = Told {
            notification: &self.row,
            ended_at: self.ended_at,
            recipient: detail,
            answered_by: detail
                .and_then(answerer)
                .map(|_| self.answered_by.as_ref().map_or(SOMEBODY, ExternalUserId::as_str)),
            verbatim: self.verbatim,
        };
        let timeline = timeline(&told, MOST_EVENTS);
        let hidden =
            detail.is_some_and(|detail| detail.plain.is_some() || detail.state == RecipientState::Erased);
        WhyAnswer {
            notification_id: self.row.id,
            user: name.filter(|_| !hidden),
            address: detail.and_then(|detail| detail.plain.clone()),
            state: detail.map(|detail| detail.state),
            standing: timeline.standing,
            next_at: detail.and_then(|detail| detail.next_at),
            events: timeline.events,
            truncated: timeline.truncated,
        }
    }
}

/// Who answered instead of a recipient.
fn answerer(detail: &RecipientDetail) -> Option<UserId> {
    detail.acknowledgement.as_ref()?.by
}
