//! The description of the whole API, merged from the handlers' own.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
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
        (name = "Topics", description = "Publish without a notification."),
        (name = "Identity", description = "Keys, tokens, tickets, revocations, persons."),
        (name = "operations", description = "Whether this server is well."),
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Described;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("An API key (`crk_...`) or a user's JWT.".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The document without paths: routers bring theirs.
pub(crate) fn document() -> Document {
    let mut document = Described::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document
}
