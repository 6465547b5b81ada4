use std::{collections::HashMap, sync::Arc};

use axum::Json;
use carillon_domain::{
    ChannelKind, Content, ExternalUserId, NotificationState, PlainAddress, Target, TenantId, Timestamp,
    TopicName, UserId, ports::Unavailable,
};
use carillon_policy::{Plan, Reason};
use carillon_runtime::http::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::templates::FormsAnswer;
use crate::{
    Dispatcher,
    audience::{Resolved, plain_of, users_of},
    broadcasts::audiences_of,
    offer::Offer,
    store::{Lease, NewNotification, NotificationRow, PlanJob, PlanPart, StoredTarget, ladder::foresee},
    templates::OwnValues,
};

/// How many of an audience are shown.
const LISTED: usize = 100;

/// What a notification would do now. Nothing was sent or written, and nobody was made who was only mentioned.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRunAnswer {
    /// What its users would climb.
    #[schema(value_type = Plan)]
    plan: Plan,
    /// Whether it would pass preferences, quiet hours, holds and caps.
    critical: bool,
    /// In the order of the targets, users before plain addresses.
    recipients: Vec<DryRecipient>,
    topics: Vec<TopicName>,
    /// Where it goes to topics' subscribers or segments: how many of them are among the recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<DryAudience>,
    /// What it says, once per locale that somebody gets.
    texts: Vec<DryText>,
}

/// The first page of those whom topics and segments hold now.
#[derive(Serialize, ToSchema)]
struct DryAudience {
    /// At most 100; who is named beside is among them as well.
    listed: usize,
    /// Whether there are more, who are not shown.
    more: bool,
}

/// Somebody who would get it.
#[derive(Serialize, ToSchema)]
struct DryRecipient {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<ExternalUserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PlainAddress>,
    /// Of the text that he gets; null where the request brings its content.
    #[schema(required, value_type = Option<String>)]
    locale: Option<Arc<str>>,
    /// In order.
    steps: Vec<DryStep>,
    deliveries: Vec<DryDelivery>,
}

/// One step of the plan, for somebody.
#[derive(Serialize, ToSchema)]
struct DryStep {
    channels: Vec<ChannelKind>,
    /// `starts`: now; `held`: it waits; `passed`: nothing of it is sent; `later`: once the ones before are over.
    state: &'static str,
    /// Why it does not start; as in a notification's decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    why: Option<Reason>,
    /// When the next one starts unless it is answered; or until when it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// One way that it would go.
#[derive(Serialize, ToSchema)]
struct DryDelivery {
    channel: ChannelKind,
    address: String,
    /// `pending`, `skipped`; `gathered`: it would wait in a digest; or `later`: its step does not start now.
    state: &'static str,
    /// Why it is skipped.
    #[schema(required)]
    reason: Option<String>,
    /// The name of the digest that it would wait in.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// When that would close.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// What it says in one language.
#[derive(Serialize, ToSchema)]
struct DryText {
    #[schema(required, value_type = Option<String>)]
    locale: Option<Arc<str>>,
    content: Content,
    forms: FormsAnswer,
}

/// Plans a notification without writing anything.
pub(super) async fn dry_run(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    offer: Arc<Offer>,
    notification: NewNotification,
) -> Result<Json<DryRunAnswer>, Problem> {
    let unreadable = |error: serde_json::Error| Problem::internal(&error);
    let targets: Vec<StoredTarget> = serde_json::from_str(&notification.targets).map_err(unreadable)?;
    let channels = notification.channels.as_deref().map(serde_json::from_str);
    let row = NotificationRow {
        tenant: tenant.clone(),
        id: notification.id,
        state: NotificationState::Accepted,
        category: notification.category,
        priority: notification.priority,
        collapse_key: None,
        digest_key: None,
        content: notification.content,
        targets,
        channels: channels.transpose().map_err(unreadable)?,
        template: notification.template,
        plan: notification.plan,
        critical: notification.critical,
        created_at: notification.created_at,
        send_at: notification.send_at,
        expires_at: notification.expires_at,
        digest: None,
        topics: None,
    };
    let mut users = HashMap::new();
    let mut topics = Vec::new();
    for target in &row.targets {
        match target {
            StoredTarget::Known(Target::User(name)) => {
                let known = dispatcher.ports.directory.find(tenant, name).await?;
                // Somebody new has neither addresses nor a language yet.
                users.insert(name.clone(), known.unwrap_or_else(|| UserId::at(row.created_at)));
            }
            StoredTarget::Known(Target::Topic(topic)) => topics.push(topic.clone()),
            StoredTarget::Known(Target::Address(_) | Target::Segment(_)) | StoredTarget::Erased { .. } => {}
        }
    }
    let mut names: HashMap<UserId, ExternalUserId> =
        users.iter().map(|(name, user)| (*user, name.clone())).collect();
    let resolved = Resolved::from([(tenant.clone(), users)]);
    let mut users = users_of(&row, &resolved);
    let audience = audience(dispatcher, &row, &mut users, &mut names).await?;
    let around = dispatcher.audience().around(&[(&row, users.clone())]).await?;
    let Some(plan) = around.plan(&row).cloned() else {
        return Err(Problem::not_found());
    };
    let (critical, policies) = (around.is_critical(&row), around.policies(&row));
    let row = Arc::new(row);
    let notification = Arc::clone(&row);
    let plain = plain_of(&row);
    let users = dispatcher
        .previews
        .run(move || around.addressees(&notification, &users, &plain));
    let job = PlanJob {
        lease: Lease {
            tenant: tenant.clone(),
            notification: row.id,
            token: 0,
        },
        plan,
        critical,
        policies,
        users: users.await?,
        notification: row,
        topics: Vec::new(),
        part: PlanPart::Whole,
        broadcast: None,
    };
    let bars = dispatcher
        .store
        .bars(job.notification.created_at, std::slice::from_ref(&job))
        .await
        .map_err(Unavailable::from)?;
    let mut recipients = Vec::with_capacity(job.users.len());
    let mut locales: Vec<Option<Arc<str>>> = Vec::new();
    for addressee in &job.users {
        let foreseen = foresee(job.notification.created_at, &bars, &job, addressee);
        if !locales.contains(&addressee.locale) {
            locales.push(addressee.locale.clone());
        }
        recipients.push(DryRecipient {
            user: names.get(&addressee.user).cloned(),
            address: addressee.plain.clone(),
            locale: addressee.locale.clone(),
            steps: foreseen
                .steps
                .into_iter()
                .map(|step| DryStep {
                    channels: step.channels,
                    state: step.state,
                    why: step.why,
                    until: step.until,
                })
                .collect(),
            deliveries: foreseen
                .deliveries
                .into_iter()
                .map(|delivery| {
                    let (digest, until) = delivery.digest.unzip();
                    DryDelivery {
                        channel: delivery.channel,
                        address: delivery.address,
                        state: delivery.state,
                        reason: delivery.reason,
                        digest: digest.map(|name| name.to_string()),
                        until,
                    }
                })
                .collect(),
        });
    }
    let notification = Arc::clone(&job.notification);
    let texts = dispatcher.previews.run(move || {
        let texts = locales.into_iter();
        texts
            .map(|locale| text(&notification, &offer, locale))
            .collect::<Result<_, _>>()
    });
    let texts = texts.await??;
    Ok(Json(DryRunAnswer {
        plan: job.plan.plan.clone(),
        critical: job.critical,
        recipients,
        topics,
        audience,
        texts,
    }))
}

/// Adds the first page of those whom topics and segments hold now.
async fn audience(
    dispatcher: &Dispatcher,
    row: &NotificationRow,
    users: &mut Vec<UserId>,
    names: &mut HashMap<UserId, ExternalUserId>,
) -> Result<Option<DryAudience>, Unavailable> {
    let audiences = audiences_of(row);
    if audiences.is_empty() {
        return Ok(None);
    }
    let directory = &dispatcher.ports.directory;
    let page = directory
        .audience(&row.tenant, &audiences, None, row.created_at, LISTED)
        .await?;
    let called = directory.names(&row.tenant, &page.users).await?;
    let listed = page.users.len();
    for (user, name) in page.users.into_iter().zip(called) {
        if !users.contains(&user) {
            users.push(user);
        }
        names.extend(name.map(|name| (user, name)));
    }
    Ok(Some(DryAudience {
        listed,
        more: page.next.is_some(),
    }))
}

fn text(row: &NotificationRow, offer: &Offer, locale: Option<Arc<str>>) -> Result<DryText, Problem> {
    let unreadable = |error: serde_json::Error| Problem::internal(&error);
    if let Some(used) = &row.template
        && let Some(template) = offer.templates.get(&used.name)
    {
        let data = serde_json::from_str(&used.data).map_err(unreadable)?;
        let rendered = offer.render(template, locale.as_deref(), &data, OwnValues::SAMPLES)?;
        return Ok(DryText {
            locale,
            content: Arc::unwrap_or_clone(rendered.content),
            forms: rendered.forms.into(),
        });
    }
    Ok(DryText {
        locale,
        content: serde_json::from_str(&row.content).map_err(unreadable)?,
        forms: FormsAnswer::default(),
    })
}
