//! `/t/{tenant}` before any path. The path as it came stays in the extensions as axum's `OriginalUri`.

use carillon_domain::TenantId;
use http::{Uri, uri::PathAndQuery};

use crate::http::Problem;

/// Takes the prefix off. The tenant is `default` without one.
pub(super) fn split(uri: &mut Uri) -> Result<TenantId, Problem> {
    let path = uri.path();
    let Some(rest) = path.strip_prefix("/t/") else {
        return Ok(TenantId::default());
    };
    let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let tenant: TenantId = name.parse().map_err(|_| Problem::not_found())?;
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let target = PathAndQuery::try_from(target).map_err(|_| Problem::not_found())?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).map_err(|_| Problem::not_found())?;
    Ok(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, String)> {
        let mut uri: Uri = text.parse().expect("a URI");
        let tenant = split(&mut uri).ok()?;
        Some((tenant.to_string(), uri.to_string()))
    }

    #[test]
    fn the_prefix_is_taken_off_before_routing() {
        let expect = |tenant: &str, rest: &str| Some((tenant.to_owned(), rest.to_owned()));
        assert_eq!(of("/v1/inbox?x=1"), expect("default", "/v1/inbox?x=1"));
        assert_eq!(of("/t/acme/v1/inbox?x=/t/b"), expect("acme", "/v1/inbox?x=/t/b"));
        assert_eq!(of("/t/acme"), expect("acme", "/"));
        assert_eq!(of("/t/a/t/b/v1"), expect("a", "/t/b/v1"), "only once");
        assert_eq!(
            of("http://h.example/t/acme/v1"),
            expect("acme", "http://h.example/v1")
        );
        assert_eq!(of("/topics"), expect("default", "/topics"));
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
