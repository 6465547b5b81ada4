use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{
    Content, Scope, TemplateName, TenantId, Timestamp,
    ports::{Forms, Rendered, TemplateSource},
};
use carillon_runtime::http::{
    ApiJson, ApiQuery, Caller, FieldError, IdPath, Listing, Page, Problem, require_scope,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    store::catalog::TemplateWrite,
    templates::{MOST, OwnValues, Template, TemplateBook, TemplateError, is_locale},
};

/// The name of the list, for its cursors.
const LIST: &str = "templates";
/// The most locales of a template.
const MAX_LOCALES: usize = 50;

/// A template to make, or its next version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateRequest {
    /// The language for everybody whose own is not among them: a key of `locales`.
    default_locale: String,
    /// By language tag (BCP 47), 1-50.
    locales: BTreeMap<String, TemplateSource>,
}

/// One version of a template.
#[derive(Serialize, ToSchema)]
pub(super) struct TemplateAnswer {
    name: TemplateName,
    version: u64,
    default_locale: String,
    locales: BTreeMap<String, TemplateSource>,
    /// When this version was made.
    created_at: Timestamp,
    /// The versions that are kept, newest first: the last 100, and those that a notification was accepted with.
    versions: Vec<u64>,
}

/// A template in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct TemplateItem {
    name: TemplateName,
    /// The newest.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The version that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionAnswer {
    name: TemplateName,
    version: u64,
}

/// Which version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// The newest when absent.
    version: Option<u64>,
}

/// What to render with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewRequest {
    /// As a notification would bring it.
    #[serde(default)]
    #[schema(value_type = Object)]
    data: serde_json::Map<String, serde_json::Value>,
    /// Whose language; the default locale when absent.
    locale: Option<String>,
    /// The newest when absent.
    version: Option<u64>,
}

/// What a template gives.
#[derive(Serialize, ToSchema)]
pub(crate) struct PreviewAnswer {
    /// The locale that was chosen.
    locale: String,
    version: u64,
    /// What the inbox shows, and channels without a form.
    content: Content,
    forms: FormsAnswer,
}

/// The forms of the other channels.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct FormsAnswer {
    /// An email's subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// A push's short text.
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<String>,
}

impl From<Forms> for FormsAnswer {
    fn from(forms: Forms) -> Self {
        Self {
            subject: forms.subject,
            text: forms.text,
            html: forms.html,
            short: forms.short,
        }
    }
}

/// Makes a template, or its next version: notifications that were accepted before keep theirs. Needs the scope
/// `templates:write`.
#[utoipa::path(
    put,
    path = "/v1/templates/{name}",
    tag = "Notifications",
    params(("name" = TemplateName, Path, description = "The template")),
    request_body = TemplateRequest,
    responses(
        (status = 200, description = "The version that was made", body = VersionAnswer),
        (status = 409, description = "The tenant has 1,000 templates"),
        (status = 422, description = "It does not fit, or a form is wrong; pointers name them"),
        (status = 503, description = "Too much is worked out at once"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<TemplateName>,
    ApiJson(request): ApiJson<TemplateRequest>,
) -> Result<Json<VersionAnswer>, Problem> {
    require_scope(&principal, Scope::TemplatesWrite)?;
    let mut errors = Vec::new();
    if !(1..=MAX_LOCALES).contains(&request.locales.len()) {
        errors.push(FieldError::new("/locales", "must have 1 to 50 items"));
        return Err(Problem::invalid(errors));
    }
    if !request.locales.contains_key(&request.default_locale) {
        errors.push(FieldError::new("/default_locale", "must be a key of /locales"));
    }
    let book = Arc::clone(&dispatcher.templates);
    let checked = dispatcher.previews.run(move || {
        let wrong = check(&book, &request.locales);
        (request, wrong)
    });
    let (request, wrong) = checked.await?;
    errors.extend(wrong?);
    if !errors.is_empty() {
        errors.truncate(100);
        return Err(Problem::invalid(errors));
    }
    let write = TemplateWrite {
        name: name.clone(),
        default_locale: request.default_locale,
        locales: serde_json::to_string(&request.locales).map_err(|error| Problem::internal(&error))?,
    };
    let version = dispatcher.templates.put(&principal.tenant, &write).await?;
    let version = version.ok_or_else(|| {
        let detail = format!("A tenant has at most {MOST} templates.");
        Problem::new(StatusCode::CONFLICT, "conflict", detail)
    })?;
    Ok(Json(VersionAnswer { name, version }))
}

/// What is wrong with the forms. Takes a while for large ones.
fn check(
    book: &TemplateBook,
    locales: &BTreeMap<String, TemplateSource>,
) -> Result<Vec<FieldError>, TemplateError> {
    let mut errors = Vec::new();
    for (locale, source) in locales {
        if !is_locale(locale) {
            errors.push(FieldError::new(
                format!("/locales/{}", escaped(locale)),
                "must be a language tag such as en, de-AT or zh-Hant-TW",
            ));
            continue;
        }
        for fault in book.check(source)? {
            errors.push(FieldError::new(
                format!("/locales/{locale}{}", fault.form),
                fault.detail,
            ));
        }
    }
    Ok(errors)
}

/// Shows a template: its newest version, or the one that is named for as long as it is kept. Needs the scope
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/templates/{name}",
    tag = "Notifications",
    params(("name" = TemplateName, Path, description = "The template"), VersionQuery),
    responses(
        (status = 200, description = "The template", body = TemplateAnswer),
        (status = 404, description = "No such template or version"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<TemplateName>,
    ApiQuery(query): ApiQuery<VersionQuery>,
) -> Result<Json<TemplateAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let template = find(&dispatcher, &principal.tenant, &name, query.version).await?;
    let versions = dispatcher.templates.versions(&principal.tenant, &name).await?;
    Ok(Json(TemplateAnswer {
        name,
        version: template.version,
        default_locale: template.default_locale.clone(),
        locales: template.locales.clone(),
        created_at: template.created_at,
        versions,
    }))
}

/// Lists templates by name. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/templates",
    tag = "Notifications",
    params(Page),
    responses((status = 200, description = "The templates", body = Listing<TemplateItem>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<TemplateItem>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let after: Option<TemplateName> = page.after(LIST)?;
    let rows = dispatcher
        .templates
        .list(&principal.tenant, after.as_ref(), page.fetch())
        .await?;
    Ok(Json(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.name.clone(),
        |row| TemplateItem {
            name: row.name,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        },
    )))
}

/// Deletes a template: no further notification can name it, what was accepted before is still rendered. Needs the scope
/// `templates:write`.
#[utoipa::path(
    delete,
    path = "/v1/templates/{name}",
    tag = "Notifications",
    params(("name" = TemplateName, Path, description = "The template")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such template"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<TemplateName>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::TemplatesWrite)?;
    if dispatcher.templates.delete(&principal.tenant, &name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Renders a template with sample data. Nothing is sent or kept. Needs the scope `templates:write` or
/// `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/templates/{name}/preview",
    tag = "Notifications",
    params(("name" = TemplateName, Path, description = "The template")),
    request_body = PreviewRequest,
    responses(
        (status = 200, description = "What it gives", body = PreviewAnswer),
        (status = 404, description = "No such template or version"),
        (status = 422, description = "It does not render with this data"),
        (status = 503, description = "Too much is worked out at once"),
    ),
)]
pub(super) async fn preview(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<TemplateName>,
    ApiJson(request): ApiJson<PreviewRequest>,
) -> Result<Json<PreviewAnswer>, Problem> {
    // It is work, and no reading of what is there.
    require_scope(&principal, Scope::TemplatesWrite)
        .or_else(|_| require_scope(&principal, Scope::NotificationsWrite))?;
    let template = find(&dispatcher, &principal.tenant, &name, request.version).await?;
    let locale = request.locale.as_deref();
    let data = serde_json::Value::Object(request.data);
    let (locale, _) = template.choose(locale).ok_or_else(Problem::not_found)?;
    let locale = locale.to_owned();
    let (book, source, chosen) = (
        Arc::clone(&dispatcher.templates),
        Arc::clone(&template),
        locale.clone(),
    );
    let rendered = dispatcher
        .previews
        .run(move || book.render(&source, Some(&chosen), &data, OwnValues::SAMPLES));
    let Rendered { content, forms } = rendered.await??;
    Ok(Json(PreviewAnswer {
        locale,
        version: template.version,
        content: Arc::unwrap_or_clone(content),
        forms: forms.into(),
    }))
}

async fn find(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    name: &TemplateName,
    version: Option<u64>,
) -> Result<Arc<Template>, Problem> {
    dispatcher
        .templates
        .get(tenant, name, version)
        .await?
        .ok_or_else(Problem::not_found)
}

/// As a part of a JSON pointer (RFC 6901).
fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}
