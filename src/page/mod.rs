//! Pages that ship in the executable: their files, and the headers that keep anything else from running in them.
//!
//! No build step, nothing from another host: what a browser loads is what stands in the repository.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Only files of this origin, no inline script or style, no frame around it, nowhere to send a form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Colours, type and spacing that all pages share.
pub(crate) const TOKENS: &str = include_str!("tokens.css");

/// One file of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: &'static str,
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

/// HTML's media type.
pub(crate) const HTML: &str = "text/html; charset=utf-8";
/// CSS's media type.
pub(crate) const CSS: &str = "text/css; charset=utf-8";
/// JavaScript's media type.
pub(crate) const JS: &str = "text/javascript; charset=utf-8";
/// SVG's media type.
pub(crate) const SVG: &str = "image/svg+xml";

/// Serves `assets`, each with an entity tag, so that a reload asks and is told that nothing changed.
pub(crate) fn router(assets: &'static [Asset]) -> Router {
    assets.iter().fold(Router::new(), |router, asset| {
        let tag = entity_tag(asset.text);
        router.route(
            asset.path,
            get(move |headers: HeaderMap| {
                let answer = serve(asset, &tag, &headers);
                async move { answer }
            }),
        )
    })
}

/// A strong entity tag of a file.
pub(crate) fn entity_tag(text: impl AsRef<[u8]>) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    text.as_ref().hash(&mut hasher);
    HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())).expect("hex digits and quotes")
}

/// Whether a request already has what `tag` names.
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == tag)
}

fn serve(asset: &Asset, tag: &HeaderValue, headers: &HeaderMap) -> Response {
    let mut response = if is_known(headers, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        asset.text.into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.insert(header::ETAG, tag.clone());
    answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let same_origin = HeaderValue::from_static("same-origin");
    answer.insert("cross-origin-resource-policy", same_origin.clone());
    answer.insert("cross-origin-opener-policy", same_origin);
    response
}
