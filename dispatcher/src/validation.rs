//! What a notification may be. Everything that is wrong is told at once, each with a JSON pointer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use carillon_domain::{
    Action, BundleKey, Category, ChannelKind, CollapseKey, Content, ExternalUserId, MAX_TTL, NotificationId,
    PlainAddress, Priority, SegmentName, Target, TemplateName, Timestamp, TopicName,
};
use carillon_policy::Plan;
use carillon_runtime::http::FieldError;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    offer::Offer,
    routes::categories,
    store::{NewNotification, TemplateUse},
    templates::{OwnValues, TemplateError},
};

/// The most targets of one notification.
const MAX_TARGETS: usize = 1_000;
/// The most segments among them: each is a filter that is read for every page.
const MAX_SEGMENTS: usize = 20;
/// The time to live when none is given.
const DEFAULT_TTL: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How far ahead `send_at`, and the end of a snooze, may lie.
pub(crate) const MAX_AHEAD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The most buttons of one notification.
const MAX_ACTIONS: usize = 8;
/// The largest `content.data`, encoded.
const MAX_DATA: usize = 32 * 1024;

/// A notification to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendRequest {
    /// Whom it is for: 1-1,000, without repeats.
    #[schema(value_type = Vec<Target>, min_items = 1, max_items = 1_000)]
    targets: Vec<TargetRequest>,
    /// What kind of notification it is; `default` when absent.
    #[schema(value_type = Option<Category>)]
    category: Option<String>,
    /// What it says; or `template`.
    content: Option<Content>,
    /// What says it: the version that is the newest now is rendered with `data` for each recipient's language.
    template: Option<TemplateRequest>,
    /// What the template says it with: a JSON object, at most 32 KiB encoded.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Map<String, serde_json::Value>>,
    /// Over which channels it goes to users: 1-8, without repeats; the category's when absent, else `in_app`.
    #[schema(value_type = Option<Vec<ChannelKind>>, min_items = 1, max_items = 8)]
    channels: Option<Vec<String>>,
    /// In which order channels are tried for each user, and for how long each; instead of `channels`.
    plan: Option<Plan>,
    /// Whether it passes preferences, quiet hours, holds and caps. Needs the scope `notifications:critical`.
    #[serde(default)]
    critical: bool,
    /// How much it hurries; `normal` when absent.
    priority: Option<Priority>,
    /// Takes the place of the open entry with the same category and collapse key.
    #[schema(value_type = Option<CollapseKey>)]
    collapse_key: Option<String>,
    /// Where its alerts wait for digests, they are bundled with those alone that have the same one: a digest for each issue,
    /// say, on which there are comments.
    #[schema(value_type = Option<BundleKey>)]
    digest_key: Option<String>,
    /// Seconds from `send_at` after which it is not sent any more; 259,200 (3 days) when absent.
    #[schema(minimum = 1, maximum = 2_592_000)]
    ttl: Option<i64>,
    /// When to send it, at most 366 days ahead; now when absent or past.
    #[schema(value_type = Option<Timestamp>)]
    send_at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetRequest {
    user: Option<String>,
    topic: Option<String>,
    segment: Option<String>,
    address: Option<AddressRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressRequest {
    channel: String,
    to: String,
}

/// A template to render.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateRequest {
    #[schema(value_type = TemplateName)]
    name: String,
}

impl SendRequest {
    /// Whether it names channels, so that they must be known.
    pub(crate) fn names_channels(&self) -> bool {
        self.channels.is_some()
            || self.plan.is_some()
            || self.targets.iter().any(|target| target.address.is_some())
    }

    /// Whether it says that it is critical.
    pub(crate) fn is_critical(&self) -> bool {
        self.critical
    }

    /// The segments that it names, as far as those can be names; one more than it may name at the most.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.targets
            .iter()
            .filter_map(|target| target.segment.as_ref()?.parse().ok())
            .take(MAX_SEGMENTS + 1)
    }

    /// Whether it says when it is sent.
    pub(crate) fn has_send_at(&self) -> bool {
        self.send_at.is_some()
    }

    /// The template that it names, if that can be one's name.
    pub(crate) fn template(&self) -> Option<TemplateName> {
        self.template.as_ref()?.name.parse().ok()
    }
}

/// The request's notification, or everything that is wrong with it; `at` is the pointer to it.
pub(crate) fn accept(
    request: SendRequest,
    offer: &Offer,
    now: Timestamp,
    at: &str,
    errors: &mut Vec<FieldError>,
) -> Option<NewNotification> {
    let before = errors.len();
    let mut check = Check { at, offer, errors };
    let targets = check.targets(request.targets);
    if request.channels.is_some() && request.plan.is_some() {
        check.fail("/plan", "must not stand beside channels");
    }
    let channels = request.channels.map(|names| check.channels(&names));
    if let Some(plan) = &request.plan {
        check.plan(plan);
    }
    if request.critical && !offer.critical {
        check.fail("/critical", "needs a key with the scope notifications:critical");
    }
    let category = request.category.map_or_else(
        || Some(Category::default()),
        |text| check.word("/category", &text),
    );
    let collapse_key = request
        .collapse_key
        .and_then(|text| check.word::<CollapseKey>("/collapse_key", &text));
    let digest_key = request
        .digest_key
        .and_then(|text| check.word::<BundleKey>("/digest_key", &text));
    let said = check.said(request.content, request.template, request.data);
    let ttl = match request.ttl {
        None => DEFAULT_TTL,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if (1..=MAX_TTL.as_secs()).contains(&seconds) => Duration::from_secs(seconds),
            _ => {
                check.fail("/ttl", "must be between 1 and 2592000 seconds");
                DEFAULT_TTL
            }
        },
    };
    let send_at = match request.send_at.as_deref().map(Timestamp::parse) {
        None => now,
        Some(Ok(time)) if time > now.after(MAX_AHEAD) => {
            check.fail("/send_at", "must be at most 366 days ahead");
            now
        }
        Some(Ok(time)) => time.max(now),
        Some(Err(error)) => {
            check.fail("/send_at", error.0);
            now
        }
    };
    let (content, template) = said?;
    let content = serde_json::to_string(&content).ok()?;
    let channels = match channels {
        None => None,
        Some(kinds) => Some(Arc::from(serde_json::to_string(&kinds).ok()?)),
    };
    let plan = match &request.plan {
        None => None,
        Some(plan) => Some(Arc::from(serde_json::to_string(plan).ok()?)),
    };
    let targets = serde_json::to_string(&targets).ok()?;
    if errors.len() > before {
        return None;
    }
    Some(NewNotification {
        id: NotificationId::at(now),
        category: category?,
        priority: request.priority.unwrap_or_default(),
        collapse_key,
        digest_key,
        content: Arc::from(content),
        targets: Arc::from(targets),
        channels,
        template,
        plan,
        critical: request.critical,
        created_at: now,
        send_at,
        expires_at: send_at.after(ttl),
    })
}

struct Check<'a> {
    at: &'a str,
    offer: &'a Offer,
    errors: &'a mut Vec<FieldError>,
}

impl Check<'_> {
    fn fail(&mut self, pointer: &str, detail: impl Into<std::borrow::Cow<'static, str>>) {
        self.errors
            .push(FieldError::new(format!("{}{pointer}", self.at), detail));
    }

    fn word<T: std::str::FromStr<Err = carillon_domain::Invalid>>(
        &mut self,
        pointer: &str,
        text: &str,
    ) -> Option<T> {
        text.parse()
            .map_err(|error: carillon_domain::Invalid| self.fail(pointer, error.0))
            .ok()
    }

    fn targets(&mut self, targets: Vec<TargetRequest>) -> Vec<Target> {
        if !(1..=MAX_TARGETS).contains(&targets.len()) {
            self.fail("/targets", "must have 1 to 1000 items");
            return Vec::new();
        }
        let mut first: HashMap<Target, usize> = HashMap::with_capacity(targets.len());
        let mut accepted = Vec::with_capacity(targets.len());
        for (index, target) in targets.into_iter().enumerate() {
            let pointer = format!("/targets/{index}");
            let target = match (target.user, target.topic, target.segment, target.address) {
                (Some(user), None, None, None) => self
                    .word::<ExternalUserId>(&format!("{pointer}/user"), &user)
                    .map(Target::User),
                (None, Some(topic), None, None) => self
                    .word::<TopicName>(&format!("{pointer}/topic"), &topic)
                    .map(Target::Topic),
                (None, None, Some(segment), None) => self.segment(&format!("{pointer}/segment"), &segment),
                (None, None, None, Some(address)) => self.address(&format!("{pointer}/address"), &address),
                _ => {
                    self.fail(
                        &pointer,
                        "must name either a user or a topic or a segment or an address",
                    );
                    None
                }
            };
            let Some(target) = target else { continue };
            match first.get(&target) {
                Some(earlier) => self.fail(&pointer, format!("repeats /targets/{earlier}")),
                None => {
                    first.insert(target.clone(), index);
                    accepted.push(target);
                }
            }
        }
        let segments = accepted
            .iter()
            .filter(|target| matches!(target, Target::Segment(_)));
        if segments.count() > MAX_SEGMENTS {
            self.fail("/targets", "must have at most 20 segments");
        }
        accepted
    }

    fn segment(&mut self, pointer: &str, text: &str) -> Option<Target> {
        let name: SegmentName = self.word(pointer, text)?;
        if self.offer.segments.contains(&name) {
            return Some(Target::Segment(name));
        }
        self.fail(pointer, "there is no such segment");
        None
    }

    fn channels(&mut self, names: &[String]) -> Vec<ChannelKind> {
        let Some(known) = &self.offer.channels else {
            self.fail("/channels", "cannot be looked up");
            return Vec::new();
        };
        categories::channels(known, self.at, names, self.errors)
    }

    fn plan(&mut self, plan: &Plan) {
        let Some(known) = &self.offer.channels else {
            return self.fail("/plan", "cannot be looked up");
        };
        for fault in plan.check(|kind| known.has(kind)) {
            self.fail(&format!("/plan{}", fault.pointer), fault.detail);
        }
    }

    /// A plain address in its channel's own spelling.
    fn address(&mut self, pointer: &str, address: &AddressRequest) -> Option<Target> {
        let channel = format!("{pointer}/channel");
        let kind: ChannelKind = self.word(&channel, &address.channel)?;
        let known = self.offer.channels.as_ref().filter(|known| known.has(&kind));
        let Some(known) = known else {
            self.fail(
                &channel,
                "there is no such channel: none is configured, and no worker announced it",
            );
            return None;
        };
        if kind.is_in_app() {
            self.fail(&channel, "the inbox has no addresses: name the user");
            return None;
        }
        match known.check(&kind, &address.to) {
            Ok(checked) => Some(Target::Address(PlainAddress {
                channel: kind,
                to: checked.address,
            })),
            Err(error) => {
                self.fail(&format!("{pointer}/to"), error.0);
                None
            }
        }
    }

    /// What the notification says, in the default locale where a template says it.
    fn said(
        &mut self,
        content: Option<Content>,
        template: Option<TemplateRequest>,
        data: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Option<(Content, Option<TemplateUse>)> {
        match (content, template) {
            (Some(content), None) => {
                if data.is_some() {
                    self.fail("/data", "goes with a template; content has data of its own");
                }
                self.content(&content);
                Some((content, None))
            }
            (None, Some(template)) => {
                let (content, template) = self.rendered(&template, data.unwrap_or_default())?;
                Some((content, Some(template)))
            }
            (Some(_), Some(_)) => {
                self.fail("/template", "must not stand beside content");
                None
            }
            (None, None) => {
                self.fail("/content", "is missing: a notification has content or a template");
                None
            }
        }
    }

    fn rendered(
        &mut self,
        template: &TemplateRequest,
        data: serde_json::Map<String, serde_json::Value>,
    ) -> Option<(Content, TemplateUse)> {
        let name: TemplateName = self.word("/template/name", &template.name)?;
        let Some(template) = self.offer.templates.get(&name) else {
            self.fail("/template/name", "there is no such template");
            return None;
        };
        let data = serde_json::Value::Object(data);
        let encoded = data.to_string();
        if encoded.len() > MAX_DATA {
            self.fail("/data", "must be at most 32768 bytes encoded");
            return None;
        }
        match self.offer.render(template, None, &data, OwnValues::default()) {
            Ok(rendered) => {
                let template = TemplateUse {
                    name,
                    version: template.version,
                    data: Arc::from(encoded),
                };
                Some((Arc::unwrap_or_clone(rendered.content), template))
            }
            Err(TemplateError::Fault(fault)) => {
                self.fail("/data", format!("the template does not render with it: {fault}"));
                None
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a template cannot be used"
                );
                self.fail("/template", "cannot be used");
                None
            }
        }
    }

    fn content(&mut self, content: &Content) {
        self.text("/content/title", &content.title, 1, 1_024);
        if content.title.chars().any(char::is_control) {
            self.fail("/content/title", "must be one line without control characters");
        }
        if let Some(body) = &content.body {
            self.text("/content/body", body, 0, 16 * 1024);
            if body
                .chars()
                .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            {
                self.fail(
                    "/content/body",
                    "must have no control characters but line breaks and tabs",
                );
            }
        }
        for (pointer, url) in [("/content/url", &content.url), ("/content/icon", &content.icon)] {
            if let Some(url) = url {
                self.url(pointer, url);
            }
        }
        if content.actions.len() > MAX_ACTIONS {
            self.fail("/content/actions", "must have at most 8 items");
        }
        for (index, action) in content.actions.iter().enumerate().take(MAX_ACTIONS) {
            self.action(
                &format!("/content/actions/{index}"),
                action,
                &content.actions[..index],
            );
        }
        if let Some(data) = &content.data
            && serde_json::to_vec(data).map_or(usize::MAX, |encoded| encoded.len()) > MAX_DATA
        {
            self.fail("/content/data", "must be at most 32768 bytes encoded");
        }
    }

    fn action(&mut self, pointer: &str, action: &Action, earlier: &[Action]) {
        if !is_action_id(&action.id) {
            self.fail(
                &format!("{pointer}/id"),
                "must be 1-64 characters of A-Z, a-z, 0-9, ., _ and -",
            );
        } else if earlier.iter().any(|other| other.id == action.id) {
            self.fail(&format!("{pointer}/id"), "must be unique within the notification");
        }
        self.text(&format!("{pointer}/title"), &action.title, 1, 256);
        if action.title.chars().any(char::is_control) {
            self.fail(
                &format!("{pointer}/title"),
                "must be one line without control characters",
            );
        }
        if let Some(url) = &action.url {
            self.url(&format!("{pointer}/url"), url);
        }
    }

    fn text(&mut self, pointer: &str, text: &str, least: usize, most: usize) {
        if !(least..=most).contains(&text.len()) {
            let detail = if least == 0 {
                format!("must be at most {most} bytes")
            } else {
                format!("must be {least} to {most} bytes")
            };
            self.fail(pointer, detail);
        }
    }

    fn url(&mut self, pointer: &str, text: &str) {
        if !is_link(text) {
            self.fail(
                pointer,
                "must be an http or https URL, or a path that begins with /, of at most 2048 bytes",
            );
        }
    }
}

/// Where a click may lead. It must not run anything: `javascript:` and its kin are refused.
pub(crate) fn is_link(text: &str) -> bool {
    let path = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    matches!(text.len(), 1..=2_048)
        && !text.chars().any(|c| c.is_control() || c == ' ')
        && (path
            || url::Url::parse(text)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()))
}

/// Whether it can name a button.
pub(crate) fn is_action_id(text: &str) -> bool {
    matches!(text.len(), 1..=64)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: serde_json::Value) -> Result<NewNotification, Vec<String>> {
        let request = serde_json::from_value(value).expect("fits the schema");
        let mut errors = Vec::new();
        let now = Timestamp::from_seconds(1_700_000_000);
        let accepted = accept(request, &Offer::default(), now, "", &mut errors);
        accepted.ok_or_else(|| errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn texts_have_no_control_characters_but_line_breaks_and_tabs() {
        let said = |body: &str, action: &str| {
            check(json!({
                "targets": [{"user": "ada"}],
                "content": {"title": "t", "body": body, "actions": [{"id": "a", "title": action}]}
            }))
        };
        assert!(said("a\tb\r\nc\n", "Open").is_ok());
        for bad in ["\0", "a\u{1b}[31m", "\u{85}", "\u{7f}"] {
            assert_eq!(
                said(bad, "a\rb").expect_err("controls"),
                ["/content/body", "/content/actions/0/title"],
                "{bad:?}"
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let pointers = check(json!({
            "targets": [{"user": "ada"}, {"user": "ada"}, {"user": "", "topic": "t"}, {"topic": "a b"}, {"user": "\u{7}"}],
            "category": "Big", "collapse_key": "", "digest_key": "two\nlines", "ttl": 0, "send_at": "tomorrow",
            "content": {
                "title": "", "body": "x".repeat(16_385), "url": "javascript:alert(1)", "icon": "//x/y",
                "actions": [{"id": "a b", "title": ""}, {"id": "ok", "title": "t"}, {"id": "ok", "title": "t", "url": "x"}],
                "data": {"x": "y".repeat(40_000)}
            }
        }))
        .expect_err("all wrong");
        let mut expected = [
            "/targets/1",
            "/targets/2",
            "/targets/3/topic",
            "/targets/4/user",
            "/category",
            "/collapse_key",
            "/digest_key",
            "/content/title",
            "/content/body",
            "/content/url",
            "/content/icon",
            "/content/actions/0/id",
            "/content/actions/0/title",
            "/content/actions/2/id",
            "/content/actions/2/url",
            "/content/data",
            "/ttl",
            "/send_at",
        ];
        let mut pointers = pointers;
        pointers.sort_unstable();
        expected.sort_unstable();
        assert_eq!(pointers, expected);
    }

    #[test]
    fn the_smallest_request_has_defaults() {
        let accepted =
            check(json!({"targets": [{"user": "ada"}], "content": {"title": "t"}})).expect("valid");
        assert_eq!(accepted.category, Category::default());
        assert_eq!(accepted.expires_at.since(accepted.send_at), DEFAULT_TTL);
        let past = check(json!({
            "targets": [{"topic": "t"}], "content": {"title": "t", "url": "/inbox"}, "send_at": "2001-01-01T00:00:00Z"
        }))
        .expect("valid");
        assert_eq!(past.send_at, past.created_at, "the past means now");
        let far = json!({"targets": [{"topic": "t"}], "content": {"title": "t"}, "send_at": "2100-01-01T00:00:00Z"});
        assert_eq!(check(far).expect_err("too far"), ["/send_at"]);
        for last in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999-12:00"] {
            let request = json!({"targets": [{"topic": "t"}], "content": {"title": "t"}, "send_at": last});
            let mut errors = Vec::new();
            let request = serde_json::from_value(request).expect("fits the schema");
            assert!(
                accept(
                    request,
                    &Offer::default(),
                    Timestamp::from_seconds(1_700_000_000),
                    "",
                    &mut errors
                )
                .is_none()
            );
            let far = FieldError::new("/send_at", "must be at most 366 days ahead");
            assert_eq!(errors, [far], "{last}");
        }
        let nobody = json!({"targets": [], "content": {"title": "t"}});
        assert_eq!(check(nobody).expect_err("nobody"), ["/targets"]);
    }
}
