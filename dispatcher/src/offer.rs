//! What the requests of one tenant may name: channels, templates and segments, looked up once for all of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    SegmentName, TemplateName, TenantId,
    ports::{Rendered, Unavailable},
};
use carillon_runtime::http::Problem;

use crate::{
    Dispatcher,
    channels::KnownChannels,
    templates::{OwnValues, Template, TemplateBook, TemplateError},
    validation::SendRequest,
};

/// What requests may name, as far as they do. Empty for those that name neither channels, templates nor segments, which are the
/// most.
#[derive(Default)]
pub(crate) struct Offer {
    /// Present where a request names channels.
    pub(crate) channels: Option<KnownChannels>,
    /// The newest version of those that are named and exist.
    pub(crate) templates: HashMap<TemplateName, Arc<Template>>,
    /// Whether notifications may be critical.
    pub(crate) critical: bool,
    /// Those that are named and exist.
    pub(crate) segments: HashSet<SegmentName>,
    book: Option<Arc<TemplateBook>>,
}

impl Offer {
    /// Whether a request names a template: then working it out takes a while.
    pub(crate) fn renders(&self) -> bool {
        !self.templates.is_empty()
    }

    /// As [`TemplateBook::render`].
    pub(crate) fn render(
        &self,
        template: &Template,
        locale: Option<&str>,
        data: &serde_json::Value,
        own: OwnValues<'_>,
    ) -> Result<Rendered, TemplateError> {
        let book = self.book.as_ref().ok_or(TemplateError::NoEngine)?;
        book.render(template, locale, data, own)
    }
}

impl Dispatcher {
    /// Does `work` with what was looked up: beside what answers requests, where a template renders.
    ///
    /// # Errors
    /// As [`Workshop::run`](crate::workshop::Workshop::run).
    pub(crate) async fn worked_out<T: Send + 'static>(
        &self,
        offer: &Arc<Offer>,
        work: impl FnOnce(&Offer) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if !offer.renders() {
            return Ok(work(offer));
        }
        let offer = Arc::clone(offer);
        self.rendering.run(move || work(&offer)).await
    }

    /// Looks up what the requests name.
    pub(crate) async fn offer<'a>(
        &self,
        tenant: &TenantId,
        requests: impl Iterator<Item = &'a SendRequest>,
    ) -> Result<Offer, Unavailable> {
        let mut offer = Offer::default();
        let mut names = Vec::new();
        let mut channels = false;
        let mut segments = BTreeSet::new();
        for request in requests {
            channels |= request.names_channels();
            names.extend(request.template());
            segments.extend(request.segments());
        }
        for segment in segments {
            if self.ports.directory.has_segment(tenant, &segment).await? {
                offer.segments.insert(segment);
            }
        }
        if channels {
            offer.channels = Some(self.channels.of(tenant).await?);
        }
        if names.is_empty() {
            return Ok(offer);
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            match self.templates.get(tenant, &name, None).await {
                Ok(Some(template)) => {
                    offer.templates.insert(name, template);
                }
                Ok(None) => {}
                Err(TemplateError::Away(error)) => return Err(error),
                Err(error) => return Err(Unavailable::new("reading a template", error)),
            }
        }
        offer.book = Some(Arc::clone(&self.templates));
        Ok(offer)
    }
}
