//! A segment's filter: read from JSON with every fault at its place, and judged user by user. Pure, and the same whichever
//! database keeps the users.

use std::cmp::Ordering;

use carillon_domain::Timestamp;
use carillon_runtime::http::FieldError;
use serde_json::{Map, Value};

/// How deep filters stand in each other.
const MAX_DEPTH: usize = 8;

/// How many terms a filter has.
const MAX_TERMS: usize = 64;

/// How many values `in` takes.
const MAX_VALUES: usize = 100;

/// The longest text of a term, in bytes.
const MAX_TEXT: usize = 255;

/// The members that a term's test can have.
const TESTS: [&str; 8] = ["is", "in", "exists", "gt", "gte", "lt", "lte", "starts_with"];

/// Which users a segment holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    /// Every one holds; everybody when there are none.
    All(Vec<Filter>),
    /// One of them holds.
    Any(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A property passes a test.
    Term(Property, Test),
}

/// What of a user is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Property {
    /// An attribute; several keys lead into objects.
    Attribute(Vec<String>),
    Locale,
    Timezone,
    CreatedAt,
}

/// What is asked of a property. What has another type than the test's value does not pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// It is one of these; null is an absent one.
    In(Vec<Value>),
    /// It is there and not null, or the contrary.
    Exists(bool),
    /// Numbers by size, texts by their bytes, times by time.
    Order(&'static str, Value),
    /// A text that begins so.
    StartsWith(String),
}

/// What a filter sees of a user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person<'a> {
    pub(crate) locale: Option<&'a str>,
    pub(crate) timezone: Option<&'a str>,
    pub(crate) created_at: Timestamp,
    pub(crate) attributes: &'a Map<String, Value>,
}

impl Filter {
    /// Reads a filter that stands at `pointer`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub(crate) fn read(value: &Value, pointer: &str) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let filter = reader.filter(value, pointer, 1);
        if reader.terms > MAX_TERMS {
            let _: Option<()> = reader.fault(pointer, "a filter has at most 64 terms");
        }
        match filter {
            Some(filter) if reader.errors.is_empty() => Ok(filter),
            _ => Err(reader.errors),
        }
    }

    /// Whether it holds a user.
    pub(crate) fn holds(&self, person: Person<'_>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.holds(person)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(person)),
            Self::Not(filter) => !filter.holds(person),
            Self::Term(property, test) => property.passes(test, person),
        }
    }
}

impl Property {
    fn passes(&self, test: &Test, person: Person<'_>) -> bool {
        match self {
            Self::Attribute(path) => passes(test, attribute(path, person.attributes)),
            Self::Locale => passes(test, person.locale.map(Value::from).as_ref()),
            Self::Timezone => passes(test, person.timezone.map(Value::from).as_ref()),
            Self::CreatedAt => match test {
                Test::Order(operator, Value::String(than)) => {
                    Timestamp::parse(than).is_ok_and(|than| in_order(operator, person.created_at.cmp(&than)))
                }
                _ => false,
            },
        }
    }
}

fn attribute<'a>(path: &[String], attributes: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(attributes.get(first)?, |value, key| value.as_object()?.get(key))
}

fn passes(test: &Test, value: Option<&Value>) -> bool {
    let value = value.filter(|value| !value.is_null());
    match (test, value) {
        (Test::Exists(wanted), value) => value.is_some() == *wanted,
        (Test::In(values), None) => values.contains(&Value::Null),
        (_, None) => false,
        // A list passes when one of its items does.
        (_, Some(Value::Array(items))) => items.iter().any(|item| item_passes(test, item)),
        (_, Some(value)) => item_passes(test, value),
    }
}

fn item_passes(test: &Test, value: &Value) -> bool {
    match test {
        Test::Exists(wanted) => *wanted,
        Test::In(values) => values
            .iter()
            .any(|wanted| wanted == value || compare(value, wanted) == Some(Ordering::Equal)),
        Test::Order(operator, than) => compare(value, than).is_some_and(|found| in_order(operator, found)),
        Test::StartsWith(prefix) => value
            .as_str()
            .is_some_and(|text| text.starts_with(prefix.as_str())),
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn in_order(operator: &str, found: Ordering) -> bool {
    match operator {
        "gt" => found.is_gt(),
        "gte" => found.is_ge(),
        "lt" => found.is_lt(),
        _ => found.is_le(),
    }
}

#[derive(Default)]
struct Reader {
    terms: usize,
    errors: Vec<FieldError>,
}

impl Reader {
    fn fault<T>(&mut self, pointer: impl Into<String>, detail: &'static str) -> Option<T> {
        // As many as a filter has terms: a hostile one has no more to say.
        if self.errors.len() < MAX_TERMS {
            self.errors.push(FieldError::new(pointer, detail));
        }
        None
    }

    fn filter(&mut self, value: &Value, at: &str, depth: usize) -> Option<Filter> {
        if depth > MAX_DEPTH {
            return self.fault(at, "filters stand at most 8 deep in each other");
        }
        let Some(members) = value.as_object() else {
            return self.fault(at, "a filter is an object: all, any, not, or a term");
        };
        let group = ["all", "any", "not"]
            .into_iter()
            .find(|group| members.contains_key(*group));
        let Some(group) = group else {
            return self.term(members, at);
        };
        if let Some(other) = members.keys().find(|key| *key != group) {
            return self.fault(below(at, other), "all, any and not stand alone");
        }
        let inner = &members[group];
        let at = format!("{at}/{group}");
        if group == "not" {
            let filter = self.filter(inner, &at, depth + 1)?;
            return Some(Filter::Not(Box::new(filter)));
        }
        let Some(items) = inner.as_array().filter(|items| items.len() <= MAX_TERMS) else {
            return self.fault(at, "expected a list of at most 64 filters");
        };
        if group == "any" && items.is_empty() {
            return self.fault(at, "any needs at least one filter");
        }
        let filters: Vec<Option<Filter>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.filter(item, &format!("{at}/{index}"), depth + 1))
            .collect();
        let filters: Vec<Filter> = filters.into_iter().collect::<Option<_>>()?;
        Some(if group == "all" {
            Filter::All(filters)
        } else {
            Filter::Any(filters)
        })
    }

    fn term(&mut self, members: &Map<String, Value>, at: &str) -> Option<Filter> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return None;
        }
        let known = |key: &str| key == "attribute" || key == "field" || TESTS.contains(&key);
        if let Some(unknown) = members.keys().find(|key| !known(key)) {
            return self.fault(
                below(at, unknown),
                "a term has attribute or field, and one of is, in, exists, gt, gte, lt, lte, starts_with",
            );
        }
        let property = match (members.get("attribute"), members.get("field")) {
            (Some(name), None) => self.attribute(name, format!("{at}/attribute"))?,
            (None, Some(name)) => match name.as_str() {
                Some("locale") => Property::Locale,
                Some("timezone") => Property::Timezone,
                Some("created_at") => Property::CreatedAt,
                _ => {
                    let at = format!("{at}/field");
                    return self.fault(at, "a field is one of locale, timezone, created_at");
                }
            },
            _ => return self.fault(at, "a term has either attribute or field"),
        };
        let mut tests = TESTS.into_iter().filter(|test| members.contains_key(*test));
        let (Some(operator), None) = (tests.next(), tests.next()) else {
            return self.fault(
                at,
                "a term has exactly one of is, in, exists, gt, gte, lt, lte, starts_with",
            );
        };
        let test = self.test(
            &property,
            operator,
            &members[operator],
            &format!("{at}/{operator}"),
        )?;
        Some(Filter::Term(property, test))
    }

    fn attribute(&mut self, name: &Value, at: String) -> Option<Property> {
        let name = name.as_str().filter(|name| matches!(name.len(), 1..=MAX_TEXT));
        let Some(name) = name else {
            return self.fault(
                at,
                "an attribute is a key of 1-255 bytes, or a JSON pointer into attributes",
            );
        };
        let path = match name.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .map(|key| key.replace("~1", "/").replace("~0", "~"))
                .collect(),
            None => vec![name.to_owned()],
        };
        Some(Property::Attribute(path))
    }

    fn test(&mut self, property: &Property, operator: &'static str, value: &Value, at: &str) -> Option<Test> {
        let ordered = matches!(operator, "gt" | "gte" | "lt" | "lte");
        match property {
            Property::CreatedAt if !ordered => return self.fault(at, "created_at takes gt, gte, lt and lte"),
            Property::CreatedAt if value.as_str().is_none_or(|text| Timestamp::parse(text).is_err()) => {
                return self.fault(at, "expected an RFC 3339 date and time with an offset");
            }
            Property::Locale | Property::Timezone if ordered => {
                return self.fault(at, "locale and timezone take is, in, exists and starts_with");
            }
            _ => {}
        }
        if ordered {
            return match value {
                Value::Number(_) => Some(Test::Order(operator, value.clone())),
                Value::String(text) if text.len() <= MAX_TEXT => Some(Test::Order(operator, value.clone())),
                _ => self.fault(at, "expected a number, or text of at most 255 bytes"),
            };
        }
        match operator {
            "exists" => match value.as_bool() {
                Some(wanted) => Some(Test::Exists(wanted)),
                None => self.fault(at, "expected true or false"),
            },
            "starts_with" => match value.as_str().filter(|text| matches!(text.len(), 1..=MAX_TEXT)) {
                Some(text) => Some(Test::StartsWith(text.to_owned())),
                None => self.fault(at, "expected text of 1-255 bytes"),
            },
            "is" => self.scalar(value, at).map(|value| Test::In(vec![value])),
            _ => {
                let values = value
                    .as_array()
                    .filter(|values| matches!(values.len(), 1..=MAX_VALUES));
                let Some(values) = values else {
                    return self.fault(at, "expected a list of 1 to 100 values");
                };
                let values: Vec<Option<Value>> = values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| self.scalar(value, &format!("{at}/{index}")))
                    .collect();
                values.into_iter().collect::<Option<_>>().map(Test::In)
            }
        }
    }

    fn scalar(&mut self, value: &Value, at: &str) -> Option<Value> {
        match value {
            Value::Array(_) | Value::Object(_) => {
                self.fault(at, "expected text, a number, true, false or null")
            }
            Value::String(text) if text.len() > MAX_TEXT => self.fault(at, "expected at most 255 bytes"),
            value => Some(value.clone()),
        }
    }
}

/// The pointer of a member.
fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ada(attributes: Value) -> impl Fn(Value) -> bool {
        move |filter| {
            let attributes = attributes.as_object().expect("an object");
            let filter = Filter::read(&filter, "").unwrap_or_else(|errors| panic!("{filter}: {errors:?}"));
            filter.holds(Person {
                locale: Some("de-AT"),
                timezone: None,
                created_at: Timestamp::from_seconds(1_767_225_600),
                attributes,
            })
        }
    }

    #[test]
    fn terms_hold_by_type_and_size() {
        let holds = ada(json!({
            "plan": "pro", "age": 30, "ratio": 0.5, "beta": true, "none": null, "tags": ["a", "b"],
            "company": {"size": 250, "a/b": "x"}, "empty": [],
        }));
        for yes in [
            json!({"attribute": "plan", "is": "pro"}),
            json!({"attribute": "plan", "in": ["free", "pro"]}),
            json!({"attribute": "plan", "starts_with": "p"}),
            json!({"attribute": "plan", "gt": "free"}),
            json!({"attribute": "age", "is": 30.0}),
            json!({"attribute": "age", "gte": 30}),
            json!({"attribute": "age", "lt": 30.5}),
            json!({"attribute": "ratio", "lte": 1}),
            json!({"attribute": "beta", "is": true}),
            json!({"attribute": "none", "is": null}),
            json!({"attribute": "absent", "is": null}),
            json!({"attribute": "absent", "exists": false}),
            json!({"attribute": "none", "exists": false}),
            json!({"attribute": "empty", "exists": true}),
            json!({"attribute": "tags", "is": "b"}),
            json!({"attribute": "tags", "exists": true}),
            json!({"attribute": "/company/size", "gt": 200}),
            json!({"attribute": "/company/a~1b", "is": "x"}),
            json!({"field": "locale", "starts_with": "de"}),
            json!({"field": "timezone", "exists": false}),
            json!({"field": "created_at", "gte": "2026-01-01T01:00:00+01:00"}),
            json!({"field": "created_at", "lt": "2026-01-01T00:00:01Z"}),
            json!({"all": []}),
        ] {
            assert!(holds(yes.clone()), "{yes}");
            assert!(!holds(json!({"not": yes})));
        }
        for no in [
            json!({"attribute": "plan", "is": "Pro"}),
            json!({"attribute": "age", "is": "30"}),
            json!({"attribute": "age", "gt": 30}),
            json!({"attribute": "age", "gt": "0"}),
            json!({"attribute": "plan", "gt": 0}),
            json!({"attribute": "absent", "lt": 5}),
            json!({"attribute": "tags", "is": "c"}),
            json!({"attribute": "empty", "is": null}),
            json!({"attribute": "/plan/x", "is": "pro"}),
            json!({"field": "timezone", "is": "Europe/Vienna"}),
            json!({"field": "created_at", "gt": "2026-01-01T00:00:00Z"}),
        ] {
            assert!(!holds(no.clone()), "{no}");
        }
    }

    #[test]
    fn groups_are_all_any_and_not() {
        let holds = ada(json!({"plan": "pro", "age": 30}));
        let (yes, no) = (
            json!({"attribute": "plan", "is": "pro"}),
            json!({"attribute": "age", "gt": 40}),
        );
        assert!(holds(json!({"any": [no, yes]})) && !holds(json!({"all": [no, yes]})));
        assert!(holds(json!({"all": [yes, {"not": {"any": [no]}}]})));
    }

    #[test]
    fn every_fault_is_named_by_its_place() {
        let term = json!({"attribute": "x", "is": 1});
        let deep = (0..8).fold(term.clone(), |filter, _| json!({"not": filter}));
        let deepest = format!("/f{}", "/not".repeat(8));
        let wide = json!({"any": [{"all": vec![term.clone(); 33]}, {"all": vec![term.clone(); 32]}]});
        for (filter, pointer) in [
            (json!([]), "/f"),
            (json!({}), "/f"),
            (json!({"any": []}), "/f/any"),
            (json!({"any": [term, 5]}), "/f/any/1"),
            (json!({"all": [], "any": []}), "/f/any"),
            (json!({"not": {"attribute": "x"}}), "/f/not"),
            (json!({"attribute": "x", "is": 1, "in": [1]}), "/f"),
            (json!({"attribute": "x", "equals": 1}), "/f/equals"),
            (json!({"attribute": "", "is": 1}), "/f/attribute"),
            (json!({"attribute": "x", "field": "locale", "is": 1}), "/f"),
            (json!({"field": "name", "is": 1}), "/f/field"),
            (
                json!({"field": "created_at", "is": "2026-01-01T00:00:00Z"}),
                "/f/is",
            ),
            (json!({"field": "created_at", "gt": "yesterday"}), "/f/gt"),
            (json!({"field": "locale", "gt": "de"}), "/f/gt"),
            (json!({"attribute": "x", "in": []}), "/f/in"),
            (json!({"attribute": "x", "in": [1, {}]}), "/f/in/1"),
            (json!({"attribute": "x", "exists": 1}), "/f/exists"),
            (json!({"attribute": "x", "starts_with": ""}), "/f/starts_with"),
            (json!({"attribute": "x", "gt": true}), "/f/gt"),
            (deep, &deepest),
            (wide, "/f"),
        ] {
            let errors = Filter::read(&filter, "/f").expect_err(&filter.to_string());
            assert_eq!(errors[0].pointer, pointer, "{filter} {errors:?}");
        }
        let both = json!({"all": [{"attribute": "x", "gt": true}, {"field": "y", "is": 1}]});
        assert_eq!(Filter::read(&both, "").expect_err("two faults").len(), 2);
    }
}
