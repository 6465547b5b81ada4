//! Tenants' templates: what a notification says, written once and filled with each notification's data.
//!
//! Whoever may write templates is not trusted with the process. The language is Jinja's as minijinja reads it, without
//! what lets a small source make something large: no macros, blocks or inheritance, no captured output, no lists or maps
//! of variables, no repetition or joining of text by operators ([`grammar`]). What is left can grow only through filters
//! of our own, and these pay for each byte they make ([`meter`]); steps are paid in fuel, output ends at its form's limit
//! ([`print`]). So time and memory are bounded by the limits below, whatever source and data say.
//!
//! HTML is escaped where data goes in, and data goes in only where escaping is enough ([`html`]).

use std::sync::Arc;

use carillon_domain::ports::{Rendered, TemplateFault, TemplateSource, Templates};
use serde_json::Value;

mod calendar;
mod compiled;
mod data;
mod fault;
mod filters;
mod forms;
mod grammar;
mod html;
mod meter;
mod number;
mod place;
mod print;
#[cfg(test)]
mod tests;
mod text;

use compiled::Compiled;

/// The largest `data` of a template, encoded: 32 KiB.
pub const MAX_DATA: usize = 32 * 1024;

/// The largest source of one form or partial: 128 KiB.
pub const MAX_SOURCE: usize = 128 * 1024;

/// The most partials of one locale.
pub const MAX_PARTIALS: usize = 16;

/// What compiled templates may take in memory together, as it is estimated.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Checks and renders templates. Keeps what it compiled, bounded, under a digest of the source.
#[derive(Clone)]
pub struct Engine {
    cache: moka::sync::Cache<[u8; 32], Arc<Compiled>>,
}

impl Engine {
    /// An engine that has compiled nothing yet.
    pub fn new() -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, compiled: &Arc<Compiled>| compiled.weight())
            .build();
        Self { cache }
    }

    fn compiled(&self, source: &TemplateSource) -> Result<Arc<Compiled>, TemplateFault> {
        let key = compiled::digest(source);
        if let Some(compiled) = self.cache.get(&key) {
            return Ok(compiled);
        }
        // Two that compile the same at once do it twice: that is all.
        let compiled = Arc::new(Compiled::saved(source).map_err(fault::first)?);
        self.cache.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("compiled", &self.cache.entry_count())
            .finish()
    }
}

impl Templates for Engine {
    fn check(&self, source: &TemplateSource) -> Result<(), Vec<TemplateFault>> {
        Compiled::checked(source).map(|_| ())
    }

    fn render(&self, source: &TemplateSource, data: &Value) -> Result<Rendered, TemplateFault> {
        self.compiled(source)?.render(data)
    }
}
