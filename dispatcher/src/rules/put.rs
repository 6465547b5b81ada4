//! Saving a rule: it is checked as far as that is possible without an event.

use carillon_domain::{RuleName, TemplateName, TenantId, ports::Unavailable};
use carillon_runtime::http::{FieldError, Problem};
use http::StatusCode;
use serde_json::Value;

use super::{KEPT_VERSIONS, MOST, Rule, RuleDocument, request};
use crate::{
    Dispatcher,
    store::rules::{PutRule, RuleWrite},
    templates::TemplateError,
};

/// Why a rule was not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulePutError {
    /// It does not fit.
    #[error("the rule is not valid")]
    Invalid(Vec<FieldError>),
    /// The tenant has too many.
    #[error("the tenant has {MOST} rules")]
    Full,
    /// Something is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<RulePutError> for Problem {
    fn from(error: RulePutError) -> Self {
        match error {
            RulePutError::Invalid(errors) => Self::invalid(errors),
            RulePutError::Full => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                format!(
                    "A tenant has at most {MOST} rules; deleted ones count for as long as events are kept."
                ),
            ),
            RulePutError::Unavailable(cause) => cause.into(),
        }
    }
}

/// Saves a rule: its next version where that says something else.
pub(crate) async fn put(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    name: &RuleName,
    document: &RuleDocument,
) -> Result<PutRule, RulePutError> {
    check(dispatcher, tenant, name, document, "").await?;
    let write = RuleWrite {
        name: name.clone(),
        body: serde_json::to_string(document).map_err(|error| Unavailable::new("writing a rule", error))?,
    };
    let now = dispatcher.ports.clock.now();
    let put = dispatcher
        .store
        .put_rule(now, tenant, &write, MOST, KEPT_VERSIONS)
        .await
        .map_err(Unavailable::from)?;
    match put {
        PutRule::Full => Err(RulePutError::Full),
        put => Ok(put),
    }
}

/// The rule of a document; `at` is the pointer to it.
pub(crate) async fn check(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    name: &RuleName,
    document: &RuleDocument,
    at: &str,
) -> Result<Rule, RulePutError> {
    let rule = Rule::compile(name.clone(), document, at).map_err(RulePutError::Invalid)?;
    let Some(notify) = rule.notify() else {
        return Ok(rule);
    };
    let at = format!("{at}/notify");
    let now = dispatcher.ports.clock.now();
    let probed = request(dispatcher, tenant, &notify.probe(), now, &at).await?;
    let mut errors = probed.err().unwrap_or_default();
    if let Some(template) = notify.template() {
        errors.extend(check_template(dispatcher, tenant, template, &at).await?);
    }
    let filled = notify.filled_channels();
    if !filled.is_empty() {
        let known = dispatcher.channels.of(tenant).await?;
        for (place, channel) in filled {
            if !channel.parse().is_ok_and(|kind| known.has(&kind)) {
                errors.push(FieldError::new(
                    format!("{at}{place}"),
                    "there is no such channel",
                ));
            }
        }
    }
    if errors.is_empty() {
        Ok(rule)
    } else {
        errors.truncate(100);
        Err(RulePutError::Invalid(errors))
    }
}

/// The template must be there now; what becomes of it later is an error of the rule.
async fn check_template(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    template: &Value,
    at: &str,
) -> Result<Option<FieldError>, Unavailable> {
    let members = template.as_object();
    let alone = members.is_some_and(|members| members.len() == 1);
    let name = template.get("name").and_then(Value::as_str).filter(|_| alone);
    let Some(name) = name else {
        let detail = "expected an object with the name of a template";
        return Ok(Some(FieldError::new(format!("{at}/template"), detail)));
    };
    let at = format!("{at}/template/name");
    let name: TemplateName = match name.parse() {
        Ok(name) => name,
        Err(carillon_domain::Invalid(detail)) => return Ok(Some(FieldError::new(at, detail))),
    };
    match dispatcher.templates.get(tenant, &name, None).await {
        Ok(Some(_)) => Ok(None),
        Ok(None) => Ok(Some(FieldError::new(at, "there is no such template"))),
        Err(TemplateError::Away(error)) => Err(error),
        Err(error) => Err(Unavailable::new("reading a template", error)),
    }
}
