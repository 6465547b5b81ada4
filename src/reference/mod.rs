//! The API's description: `/openapi.json`, and `/docs`, which makes it readable.
//!
//! The page only reads. It can send nothing, so that a plain `serve` may show it; it needs no other host, and its
//! content security policy allows neither inline code nor styles, which Swagger UI could not do without.

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa::openapi::OpenApi;

use crate::page::{self, Asset, CSS, HTML, JS, SVG};

const ASSETS: &[Asset] = &[
    Asset {
        path: "/docs",
        media_type: HTML,
        text: include_str!("index.html"),
    },
    Asset {
        path: "/docs/tokens.css",
        media_type: CSS,
        text: page::TOKENS,
    },
    Asset {
        path: "/docs/style.css",
        media_type: CSS,
        text: include_str!("style.css"),
    },
    Asset {
        path: "/docs/icon.svg",
        media_type: SVG,
        text: include_str!("../quickstart/icon.svg"),
    },
    Asset {
        path: "/docs/reference.js",
        media_type: JS,
        text: include_str!("reference.js"),
    },
    Asset {
        path: "/docs/schema.js",
        media_type: JS,
        text: include_str!("schema.js"),
    },
    Asset {
        path: "/docs/prose.js",
        media_type: JS,
        text: include_str!("prose.js"),
    },
];

/// The routes; `document` is written out once.
///
/// # Errors
/// When the document cannot be written as JSON, which its own types rule out.
pub(crate) fn router(document: &OpenApi) -> Result<Router, serde_json::Error> {
    let text: Bytes = document.to_json()?.into();
    let tag = page::entity_tag(&text);
    Ok(page::router(ASSETS).route(
        "/openapi.json",
        get(move |headers: HeaderMap| {
            let answer = serve(&text, &tag, &headers);
            async move { answer }
        }),
    ))
}

fn serve(text: &Bytes, tag: &HeaderValue, headers: &HeaderMap) -> Response {
    let mut response = if page::is_known(headers, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        text.clone().into_response()
    };
    let answer = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    answer.insert(header::CONTENT_TYPE, json);
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.insert(header::ETAG, tag.clone());
    response
}
