//! `/t/{tenant}` before any path.

use std::sync::Arc;

use carillon_domain::TenantId;
use http::{Uri, uri::PathAndQuery};

use crate::http::Problem;

/// What stood before the path that was routed: `/t/{tenant}`, or nothing. In every request's extensions, for what
/// must name the path as the client sees it: a cookie's `Path`, a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathPrefix(pub Arc<str>);

/// Takes the prefix off. The tenant is `default` without one.
pub(super) fn split(uri: &mut Uri) -> Result<(TenantId, PathPrefix), Problem> {
    let path = uri.path();
    let Some(rest) = path.strip_prefix("/t/") else {
        return Ok((TenantId::default(), PathPrefix::default()));
    };
    let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let tenant: TenantId = name.parse().map_err(|_| Problem::not_found())?;
    let prefix = PathPrefix(Arc::from(&path[..path.len() - rest.len()]));
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let target = PathAndQuery::try_from(target).map_err(|_| Problem::not_found())?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).map_err(|_| Problem::not_found())?;
    Ok((tenant, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, String, String)> {
        let mut uri: Uri = text.parse().expect("a URI");
        let (tenant, prefix) = split(&mut uri).ok()?;
        Some((tenant.to_string(), prefix.0.to_string(), uri.to_string()))
    }

    #[test]
    fn the_prefix_is_taken_off_before_routing() {
        let expect = |tenant: &str, prefix: &str, rest: &str| {
            Some((tenant.to_owned(), prefix.to_owned(), rest.to_owned()))
        };
        assert_eq!(of("/v1/inbox?x=1"), expect("default", "", "/v1/inbox?x=1"));
        assert_eq!(
            of("/t/acme/v1/inbox?x=/t/b"),
            expect("acme", "/t/acme", "/v1/inbox?x=/t/b")
        );
        assert_eq!(of("/t/acme"), expect("acme", "/t/acme", "/"));
        assert_eq!(of("/t/a/t/b/v1"), expect("a", "/t/a", "/t/b/v1"), "only once");
        assert_eq!(
            of("http://h.example/t/acme/v1"),
            expect("acme", "/t/acme", "http://h.example/v1")
        );
        assert_eq!(of("/topics"), expect("default", "", "/topics"));
        for none in [
            "/t/",
            "/t//v1",
            "/t/Acme/v1",
            "/t/%61cme/v1",
            "/t/-x/v1",
            "/t/a.b/v1",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
