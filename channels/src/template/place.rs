//! Where in an HTML document a position is: in text, in a tag, in which attribute's value. Follows the HTML standard's
//! tokenizer as far as that question needs it.

/// A position in HTML.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) enum Place {
    /// Between tags.
    #[default]
    Text,
    /// After `<`.
    TagOpen,
    /// In `<!...>` or `</...>` without a name.
    Markup(Markup),
    /// In a tag's name; the name so far, `/` before a closing one's.
    TagName(String),
    /// In a tag, between attributes; the tag's name.
    Tag(String),
    /// In an attribute's name.
    AttributeName { tag: String, name: String },
    /// After an attribute's name, maybe before `=`.
    AfterName { tag: String, name: String },
    /// After `=`.
    BeforeValue { tag: String, name: String },
    /// In an attribute's value.
    Value {
        tag: String,
        quote: Option<char>,
        kind: Kind,
        prefix: Prefix,
    },
    /// In the content of an element that has no tags in it; how many characters of its end, `</` and its name, were just
    /// read.
    Raw { tag: String, matched: usize },
    /// Nobody can say: it depends on a value.
    Lost,
}

/// A position in a comment, or what is parsed like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Markup {
    /// After `<!`.
    Open,
    /// After `<!-`.
    Dash,
    /// After `<!--`.
    Start,
    /// After `<!---`.
    StartDash,
    /// In a comment.
    Comment,
    /// In a comment, after `-`.
    OneDash,
    /// In a comment, after `--`.
    TwoDashes,
    /// In a comment, after `--!`.
    Bang,
    /// In a comment, after a value, which may end in dashes.
    Value,
    /// No comment: ends with `>`.
    Other,
}

/// What an attribute's value is to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Text.
    Plain,
    /// An address that is followed or loaded.
    Url,
    /// CSS.
    Style,
    /// A script, or a document of its own.
    Code,
}

/// What stands at the beginning of an address: whether its scheme is decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Prefix {
    /// Decided, and not a script.
    Fixed,
    /// Nothing yet.
    Empty,
    /// Something that could still become any scheme.
    Open(String),
    /// Data stands where the scheme is decided, made harmless by a filter.
    Mixed,
    /// A script's scheme.
    Script,
}

/// What may be printed at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Anything: escaping is enough.
    Anything,
    /// What one of these filters gave last.
    Filtered(&'static [&'static str]),
    /// Nothing, and why.
    Nothing(&'static str),
}

const URL_ATTRIBUTES: [&str; 13] = [
    "action",
    "background",
    "cite",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "ping",
    "poster",
    "src",
    "xlink:href",
];

/// No name and no prefix that matters is longer.
const LONGEST: usize = 32;

impl Place {
    /// Where `text` leads to.
    pub(super) fn after(self, text: &str) -> Self {
        text.chars().fold(self, Self::step)
    }

    /// What may be printed here.
    pub(super) fn allows(&self) -> Allowed {
        match self {
            Self::Text | Self::Markup(Markup::Comment | Markup::Value) => Allowed::Anything,
            Self::Markup(_) | Self::Lost => Allowed::Nothing("in a comment, put spaces around a value"),
            // What is printed could finish the end.
            Self::Raw { matched: 1.., .. } => {
                Allowed::Nothing("a value cannot stand right after < or within a tag")
            }
            Self::Raw { tag, .. } => match &**tag {
                "title" | "textarea" => Allowed::Anything,
                "style" => Allowed::Filtered(&["safe_css"]),
                _ => Allowed::Nothing("a script takes no values"),
            },
            Self::Value { quote: None, .. } | Self::BeforeValue { .. } => {
                Allowed::Nothing("a value in an attribute needs quotes around it")
            }
            Self::Value { kind, prefix, .. } => match (kind, prefix) {
                (Kind::Plain, _) | (Kind::Url, Prefix::Fixed) => Allowed::Anything,
                (Kind::Style, _) => Allowed::Filtered(&["safe_css"]),
                (Kind::Code, _) | (Kind::Url, Prefix::Script) => Allowed::Nothing("a script takes no values"),
                (Kind::Url, Prefix::Empty) => Allowed::Filtered(&["safe_url", "urlencode"]),
                (Kind::Url, Prefix::Open(_) | Prefix::Mixed) => Allowed::Filtered(&["urlencode"]),
            },
            Self::TagOpen
            | Self::TagName(_)
            | Self::Tag(_)
            | Self::AttributeName { .. }
            | Self::AfterName { .. } => Allowed::Nothing(
                "a value can stand in text or in an attribute's quoted value, not within a tag",
            ),
        }
    }

    /// Where it is after something was printed that is allowed here; `safe_url` whether that filter gave it.
    pub(super) fn after_value(self, safe_url: bool) -> Self {
        match self {
            Self::Value {
                tag,
                quote,
                kind: Kind::Url,
                prefix,
            } => Self::Value {
                tag,
                quote,
                kind: Kind::Url,
                prefix: match prefix {
                    Prefix::Fixed => Prefix::Fixed,
                    Prefix::Empty if safe_url => Prefix::Fixed,
                    Prefix::Script => Prefix::Script,
                    Prefix::Empty | Prefix::Open(_) | Prefix::Mixed => Prefix::Mixed,
                },
            },
            Self::Markup(Markup::Comment) => Self::Markup(Markup::Value),
            other => other,
        }
    }

    /// Where one of two ways leads; nothing where they end at different places.
    pub(super) fn join(self, other: Self) -> Option<Self> {
        if self == other {
            return Some(self);
        }
        match (self, other) {
            (
                Self::Value {
                    tag,
                    quote,
                    kind,
                    prefix,
                },
                Self::Value {
                    tag: other_tag,
                    quote: other_quote,
                    kind: other_kind,
                    prefix: other_prefix,
                },
            ) if (&tag, quote, kind) == (&other_tag, other_quote, other_kind) => Some(Self::Value {
                tag,
                quote,
                kind,
                prefix: prefix.join(other_prefix),
            }),
            // What is in a comment may begin and end with a value.
            (
                Self::Markup(Markup::Comment | Markup::Value),
                Self::Markup(Markup::Comment | Markup::Value),
            ) => Some(Self::Markup(Markup::Value)),
            _ => None,
        }
    }

    fn step(self, c: char) -> Self {
        match self {
            Self::Text if c == '<' => Self::TagOpen,
            Self::Text => Self::Text,
            Self::TagOpen => match c {
                '!' => Self::Markup(Markup::Open),
                '?' => Self::Markup(Markup::Other),
                '/' => Self::TagName(String::from("/")),
                c if c.is_ascii_alphabetic() => Self::TagName(c.to_ascii_lowercase().to_string()),
                '<' => Self::TagOpen,
                _ => Self::Text,
            },
            Self::Markup(markup) => markup.step(c),
            Self::Lost => Self::Lost,
            Self::TagName(mut name) => match c {
                // `</` and no letter is a comment in disguise, up to `>`.
                _ if name == "/" && !c.is_ascii_alphabetic() => match c {
                    '>' => Self::Text,
                    _ => Self::Markup(Markup::Other),
                },
                '>' => opened(name),
                '/' => Self::Tag(name),
                c if c.is_whitespace() => Self::Tag(name),
                c => {
                    push(&mut name, c.to_ascii_lowercase());
                    Self::TagName(name)
                }
            },
            Self::Tag(tag) => match c {
                '>' => opened(tag),
                '/' => Self::Tag(tag),
                c if c.is_whitespace() => Self::Tag(tag),
                c => Self::AttributeName {
                    tag,
                    name: c.to_ascii_lowercase().to_string(),
                },
            },
            Self::AttributeName { tag, mut name } => match c {
                '>' => opened(tag),
                '/' => Self::Tag(tag),
                '=' => Self::BeforeValue { tag, name },
                c if c.is_whitespace() => Self::AfterName { tag, name },
                c => {
                    push(&mut name, c.to_ascii_lowercase());
                    Self::AttributeName { tag, name }
                }
            },
            Self::AfterName { tag, name } => match c {
                '>' => opened(tag),
                '/' => Self::Tag(tag),
                '=' => Self::BeforeValue { tag, name },
                c if c.is_whitespace() => Self::AfterName { tag, name },
                c => Self::AttributeName {
                    tag,
                    name: c.to_ascii_lowercase().to_string(),
                },
            },
            Self::BeforeValue { tag, name } => {
                let kind = kind(&name);
                let value = |tag, quote| Self::Value {
                    tag,
                    quote,
                    kind,
                    prefix: Prefix::Empty,
                };
                match c {
                    '>' => opened(tag),
                    '"' | '\'' => value(tag, Some(c)),
                    c if c.is_whitespace() => Self::BeforeValue { tag, name },
                    c => value(tag, None).step(c),
                }
            }
            Self::Value {
                tag,
                quote,
                kind,
                prefix,
            } => match (quote, c) {
                (Some(quote), c) if c == quote => Self::Tag(tag),
                (None, '>') => opened(tag),
                (None, c) if c.is_whitespace() => Self::Tag(tag),
                _ => Self::Value {
                    tag,
                    quote,
                    kind,
                    prefix: prefix.step(c),
                },
            },
            Self::Raw { tag, matched } => match (end_at(&tag, matched), c) {
                (None, '>') => Self::Text,
                (None, c) if c == '/' || c.is_whitespace() => Self::Tag(format!("/{tag}")),
                (Some(next), c) if c.to_ascii_lowercase() == next => Self::Raw {
                    tag,
                    matched: matched + 1,
                },
                // The end's first character stands nowhere else in it.
                (_, c) => Self::Raw {
                    tag,
                    matched: usize::from(c == '<'),
                },
            },
        }
    }
}

/// A character of what the end of an element begins with, `</` and its name; nothing behind it.
fn end_at(tag: &str, at: usize) -> Option<char> {
    "</".chars().chain(tag.chars()).nth(at)
}

impl Prefix {
    fn step(self, c: char) -> Self {
        match self {
            // Browsers leave white space and controls out before and within a scheme.
            Self::Empty if c.is_whitespace() || c.is_control() => Self::Empty,
            Self::Empty | Self::Open(_) => {
                let mut text = match self {
                    Self::Open(text) => text,
                    _ => String::new(),
                };
                match c {
                    ':' if matches!(&*text, "javascript" | "vbscript" | "data") => Self::Script,
                    ':' => Self::Fixed,
                    // `/` alone could become `//somebody.else`.
                    '/' if text.is_empty() => Self::Open(String::from("/")),
                    '/' | '?' | '#' => Self::Fixed,
                    c if c.is_whitespace() || c.is_control() => Self::Open(text),
                    _ if text == "/" => Self::Fixed,
                    c => {
                        push(&mut text, c.to_ascii_lowercase());
                        Self::Open(text)
                    }
                }
            }
            Self::Mixed if c == ':' => Self::Script,
            Self::Mixed if matches!(c, '/' | '?' | '#') => Self::Fixed,
            other => other,
        }
    }

    /// The one that allows less.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Script, _) | (_, Self::Script) => Self::Script,
            (Self::Mixed | Self::Open(_), _) | (_, Self::Mixed | Self::Open(_)) => Self::Mixed,
            (Self::Empty, _) | (_, Self::Empty) => Self::Empty,
            (Self::Fixed, Self::Fixed) => Self::Fixed,
        }
    }
}

impl Markup {
    fn step(self, c: char) -> Place {
        Place::Markup(match (self, c) {
            (Self::Value, '-' | '>' | '!') => return Place::Lost,
            (
                Self::Open
                | Self::Dash
                | Self::Start
                | Self::StartDash
                | Self::TwoDashes
                | Self::Bang
                | Self::Other,
                '>',
            ) => return Place::Text,
            (Self::Open, '-') => Self::Dash,
            (Self::Dash, '-') => Self::Start,
            (Self::Open | Self::Dash | Self::Other, _) => Self::Other,
            (Self::Start, '-') => Self::StartDash,
            (Self::StartDash | Self::OneDash | Self::TwoDashes, '-') => Self::TwoDashes,
            (Self::Comment | Self::Bang, '-') => Self::OneDash,
            (Self::TwoDashes, '!') => Self::Bang,
            _ => Self::Comment,
        })
    }
}

fn opened(tag: String) -> Place {
    match &*tag {
        "script" | "style" | "title" | "textarea" | "xmp" | "iframe" | "noembed" | "noframes"
        | "plaintext" => Place::Raw { tag, matched: 0 },
        _ => Place::Text,
    }
}

fn kind(attribute: &str) -> Kind {
    match attribute {
        "style" => Kind::Style,
        "srcdoc" => Kind::Code,
        name if name.starts_with("on") => Kind::Code,
        name if URL_ATTRIBUTES.contains(&name) => Kind::Url,
        _ => Kind::Plain,
    }
}

fn push(text: &mut String, c: char) {
    if text.len() < LONGEST {
        text.push(c);
    }
}
