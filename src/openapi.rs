//! The description of the whole API, merged from the handlers' own.

use carillon_runtime::http::{FieldError, ProblemBody, STREAM_COOKIE};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, ResponseBuilder,
        path::{Operation, PathItem},
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Carillon",
        description = "A realtime notification and messaging hub. Every path may be prefixed by `/t/{tenant}`; without it \
                       the tenant is `default`. Errors are RFC 9457 problems. `docs/protocol.md` adds what a schema cannot say."
    ),
    tags(
        (name = "Notifications", description = "What somebody should know: send it, cancel it, see what became of it."),
        (name = "Inbox", description = "A person's own: entries, their state, acknowledgements."),
        (name = "stream", description = "What happens, as it happens."),
        (name = "Preferences", description = "What users want to get, how often, and when it is quiet; what holds for all of them."),
        (name = "Topics", description = "Publish without a notification."),
        (name = "Users", description = "What is known of persons: properties, devices, activity, segments."),
        (name = "Webhooks", description = "Endpoints that are told what happens, their secrets, tests and attempts."),
        (name = "Deliveries", description = "What goes outside the inbox: attempts, dead letters, redrives, suppressed addresses, breakers."),
        (name = "Channels", description = "Media that workers bring: announce one, pull its work, say what became of it."),
        (name = "Sources", description = "Tools whose events become notifications."),
        (name = "Events", description = "What happened in other systems, as CloudEvents, and the rules that make notifications of it."),
        (name = "Identity", description = "Keys, tokens, tickets, revocations, persons."),
        (name = "operations", description = "Whether this server is well."),
    ),
    components(schemas(ProblemBody, FieldError)),
    modifiers(&Credentials),
    security(("bearer" = []))
)]
struct Described;

/// What an operation can ask for. A WebSocket asks for none of these: its token comes in the first frame.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("An API key (`crk_...`) or a user's JWT.".to_owned());
        let ticket = ApiKeyValue::with_description(
            "ticket",
            "A one-time ticket of `POST /v1/stream/tickets`, for streams alone.",
        );
        let cookie = ApiKeyValue::with_description(
            STREAM_COOKIE,
            "The cookie that a ticket, or `POST /v1/stream/tickets` in the mode `cookie`, sets; for streams alone.",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        components.add_security_scheme("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket)));
        components.add_security_scheme("stream_cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The document without paths: routers bring theirs.
pub(crate) fn document() -> Document {
    let mut document = Described::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document
}

/// Once all routes are in: every operation gets a name of its own, which generated clients call it by, and the shape of
/// its errors.
pub(crate) fn complete(document: &mut Document) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
            let error = ResponseBuilder::new()
                .description("Any error")
                .content("application/problem+json", content.build());
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), error.build().into());
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// `post_inbox_entry_read` for `POST /v1/inbox/{entry}/read`.
fn name(method: &str, path: &str) -> String {
    let words = path
        .split(|other: char| !other.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && *word != "v1");
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_credential_has_its_scheme() {
        let described = serde_json::to_value(document()).expect("JSON");
        let schemes = &described["components"]["securitySchemes"];
        assert_eq!(schemes["bearer"]["scheme"], "bearer");
        assert_eq!(
            (&schemes["ticket"]["in"], &schemes["ticket"]["name"]),
            (&"query".into(), &"ticket".into())
        );
        assert_eq!(schemes["stream_cookie"]["in"], "cookie");
        assert_eq!(schemes["stream_cookie"]["name"], STREAM_COOKIE);
    }

    #[test]
    fn an_operation_is_named_by_method_and_path() {
        for (method, path, expected) in [
            ("get", "/v1/inbox", "get_inbox"),
            ("post", "/v1/inbox/{entry}/read", "post_inbox_entry_read"),
            ("post", "/v1/inbox/read-all", "post_inbox_read_all"),
            ("get", "/.well-known/jwks.json", "get_well_known_jwks_json"),
        ] {
            assert_eq!(name(method, path), expected);
        }
    }
}
