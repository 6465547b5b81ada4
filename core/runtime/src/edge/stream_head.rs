//! The head of an answer whose socket leaves hyper: it does not pass the edge on its way out.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};

use super::{Cors, TraceId, pass};
use crate::http::ViaTls;

/// A whole HTTP/1.1 response head for [`super::TakeOver::take`], with what the edge adds to every answer: CORS, security
/// headers, the trace id. `request` is what the handler was asked, with its extensions.
pub fn stream_head(status: StatusCode, mut headers: HeaderMap, request: &Parts) -> Bytes {
    let extensions = &request.extensions;
    pass::set_security_headers(&mut headers, extensions.get::<ViaTls>().is_some_and(|tls| tls.0));
    if let Some(cors) = extensions.get::<Cors>() {
        cors.decorate(request.headers.get(header::ORIGIN), false, &mut headers);
    }
    if let Some(trace) = extensions.get::<TraceId>() {
        headers.insert("x-trace-id", trace.header());
    }
    let mut head = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("OK")
    )
    .into_bytes();
    for (name, value) in &headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}
