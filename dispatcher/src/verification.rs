//! Codes that confirm addresses, as notifications to those addresses. The code itself is kept sealed and meets its words
//! when it is sent: neither the notification nor a log shows it.

use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{
    Clock, Content, NotificationId, Priority, Target, TemplateName, TenantId, Timestamp,
    ports::{Forms, Rendered, Seal, TemplateSource, Templates, Unavailable, Verification, Verifier},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    deliverer::compose::ComposeError,
    intake::{Intake, Submission},
    store::{NewNotification, TemplateUse},
    templates::TemplateBook,
};

/// The category of such notifications, and the template that says them. A tenant's template of that name takes the place
/// of the words that are built in, which are its version 0; its data are `code` and `expires_at`.
pub(crate) const NAME: &str = "carillon.verification";
/// What the notification itself says.
const TITLE: &str = "A code to confirm this address";
/// A newer code takes the place of one that still waits.
const COLLAPSE: &str = "code";

/// A code as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedCode {
    sealed: String,
    expires_at: Timestamp,
    /// Its reader's language.
    pub(crate) locale: Option<String>,
}

impl SealedCode {
    /// None where a notification of this name brings something else.
    pub(crate) fn read(template: &str, data: Option<&str>) -> Option<Self> {
        (template == NAME).then_some(())?;
        serde_json::from_str(data?).ok()
    }

    /// What is sent: by the tenant's own template where there is one.
    pub(crate) fn said(
        &self,
        seal: &dyn Seal,
        tenant: &TenantId,
        notification: NotificationId,
        own: Option<(&dyn Templates, &TemplateSource)>,
    ) -> Result<Rendered, ComposeError> {
        let code = seal
            .open(&place(tenant, notification), &self.sealed)
            .map_err(|_| ComposeError::Secret)?;
        let code = String::from_utf8(code).map_err(|_| ComposeError::Secret)?;
        if let Some((templates, source)) = own {
            // What an engine complains about may quote what it was given.
            return templates
                .render(source, &json!({ "code": code, "expires_at": self.expires_at }))
                .map_err(|_| ComposeError::Template("see its preview".to_owned()));
        }
        let content = Content {
            title: format!("{code} is your code"),
            body: Some(format!(
                "Enter {code} to confirm this address. The code holds until {}. If you did not ask for it, ignore this message.",
                self.expires_at
            )),
            url: None,
            icon: None,
            actions: Vec::new(),
            data: None,
        };
        Ok(Rendered {
            content: Arc::new(content),
            forms: Forms::default(),
        })
    }
}

/// What a code's seal is bound to.
fn place(tenant: &TenantId, notification: NotificationId) -> String {
    format!("verification/{tenant}/{notification}")
}

/// Sends codes.
pub(crate) struct CodeSender {
    pub(crate) intake: Arc<Intake>,
    pub(crate) templates: Arc<TemplateBook>,
    pub(crate) seal: Option<Arc<dyn Seal>>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What was being done when something was away.
const SENDING: &str = "sending a verification code";

#[async_trait]
impl Verifier for CodeSender {
    async fn send(&self, verification: Verification) -> Result<(), Unavailable> {
        let seal = self
            .seal
            .as_ref()
            .ok_or_else(|| Unavailable::new(SENDING, "nothing seals it"))?;
        let tenant = verification.tenant;
        let name: TemplateName = NAME
            .parse()
            .map_err(|error: carillon_domain::Invalid| Unavailable::new(SENDING, error))?;
        let own = self.templates.get(&tenant, &name, None).await;
        let own = own.map_err(|error| Unavailable::new(SENDING, error))?;
        let now = self.clock.now();
        let id = NotificationId::at(now);
        let code = SealedCode {
            sealed: seal.seal(&place(&tenant, id), verification.code.as_bytes())?,
            expires_at: verification.expires_at,
            locale: verification.locale.as_deref().map(str::to_owned),
        };
        let text = |error: serde_json::Error| Unavailable::new(SENDING, error);
        let words = |error: carillon_domain::Invalid| Unavailable::new(SENDING, error);
        let notification = NewNotification {
            id,
            category: NAME.parse().map_err(words)?,
            priority: Priority::High,
            collapse_key: Some(COLLAPSE.parse().map_err(words)?),
            digest_key: None,
            content: Arc::from(json!({ "title": TITLE }).to_string()),
            targets: Arc::from(serde_json::to_string(&[Target::Address(verification.to)]).map_err(text)?),
            channels: None,
            template: Some(TemplateUse {
                name,
                version: own.map_or(0, |template| template.version),
                data: Arc::from(serde_json::to_string(&code).map_err(text)?),
            }),
            plan: None,
            critical: false,
            created_at: now,
            send_at: now,
            expires_at: verification.expires_at,
        };
        let submission = Submission {
            tenant,
            notifications: vec![notification],
            body: Arc::from(""),
            key: None,
        };
        let taken = self.intake.submit(submission).await;
        taken
            .map(|_| ())
            .map_err(|error| Unavailable::new(SENDING, error))
    }
}
