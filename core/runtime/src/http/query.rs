//! Query parameters.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor, value::Error as Fault,
};

use super::Problem;
use crate::misfit::misfit;

/// More parameters than this are refused.
const MAX_PARAMETERS: usize = 256;

/// A request's query as `T`.
///
/// Refused with 400 and a pointer `?name` when a parameter is missing, unknown, given twice where one is meant, or not
/// of its type. A field that is a list takes a parameter any number of times.
#[derive(Debug, Clone, Copy)]
pub struct ApiQuery<T>(pub T);

impl<S, T> FromRequestParts<S> for ApiQuery<T>
where
    S: Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query as [`ApiQuery`] does.
///
/// # Errors
/// 400 with a pointer `?name`.
pub fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    parse_pairs(query)?.read()
}

/// A query's parameters: each name with its values, in the order of the query.
pub(super) struct Query<'q>(Vec<(Cow<'q, str>, Vec<Cow<'q, str>>)>);

pub(super) fn parse_pairs(query: &str) -> Result<Query<'_>, Problem> {
    let mut names: Vec<(Cow<'_, str>, Vec<Cow<'_, str>>)> = Vec::new();
    for (count, (name, value)) in url::form_urlencoded::parse(query.as_bytes()).enumerate() {
        if count >= MAX_PARAMETERS {
            return Err(Problem::malformed("The query has too many parameters."));
        }
        if name.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Problem::malformed("The query is not UTF-8."));
        }
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => names.push((name, vec![value])),
        }
    }
    Ok(Query(names))
}

impl<'q> Query<'q> {
    /// Takes out a parameter that may stand once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<Cow<'q, str>>, Problem> {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else {
            return Ok(None);
        };
        let (_, mut values) = self.0.swap_remove(at);
        match values.pop() {
            Some(value) if values.is_empty() => Ok(Some(value)),
            _ => Err(Problem::malformed_query(name, "given more than once")),
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::malformed_query(name, "unknown parameter")),
        }
    }

    /// Reads what is left.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let mut at = None;
        T::deserialize(Parameters {
            query: self,
            at: &mut at,
        })
        .map_err(|fault| {
            let message = fault.to_string();
            let missing = message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.strip_suffix('`'));
            match (missing, at) {
                (Some(name), _) => Problem::malformed_query(name, "required"),
                (None, Some(name)) if message.starts_with("unknown field") => {
                    Problem::malformed_query(&name, "unknown parameter")
                }
                (None, Some(name)) => Problem::malformed_query(&name, misfit(&message).into_owned()),
                (None, None) => Problem::malformed(format!("The query is not understood: {message}.")),
            }
        })
    }
}

/// The query as a map; `at` is the parameter being read, for the pointer.
struct Parameters<'q, 'a> {
    query: Query<'q>,
    at: &'a mut Option<String>,
}

impl<'de> Deserializer<'de> for Parameters<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Members {
            left: self.query.0.into_iter(),
            values: Vec::new(),
            at: self.at,
        })
    }

    /// The type's field names are at hand: what is not among them is refused, whether or not the type says so.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let Some((name, _)) = self
            .query
            .0
            .iter()
            .find(|(name, _)| !fields.contains(&name.as_ref()))
        {
            *self.at = Some(name.clone().into_owned());
            return Err(Fault::unknown_field(name, fields));
        }
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Members<'q, 'a> {
    left: std::vec::IntoIter<(Cow<'q, str>, Vec<Cow<'q, str>>)>,
    values: Vec<Cow<'q, str>>,
    at: &'a mut Option<String>,
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((name, values)) = self.left.next() else {
            *self.at = None;
            return Ok(None);
        };
        self.values = values;
        *self.at = Some(name.clone().into_owned());
        seed.deserialize(name.as_ref().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(Values(std::mem::take(&mut self.values)))
    }
}

/// All values of one parameter.
struct Values<'q>(Vec<Cow<'q, str>>);

impl Values<'_> {
    fn one(&self) -> Result<&str, Fault> {
        match self.0.as_slice() {
            [value] => Ok(value),
            _ => Err(Fault::custom("given more than once")),
        }
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let value: $type = self.one()?.parse().map_err(|_| Fault::custom(concat!("expected ", $expected)))?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Values<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.one()?)
    }

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number that is not negative";
        deserialize_u16 visit_u16 u16, "a whole number that is not negative";
        deserialize_u32 visit_u32 u32, "a whole number that is not negative";
        deserialize_u64 visit_u64 u64, "a whole number that is not negative";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items(self.0.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let variant: de::value::StrDeserializer<'_, Fault> = self.one()?.into_deserializer();
        variant.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

struct Items<'q>(std::vec::IntoIter<Cow<'q, str>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0
            .next()
            .map(|value| seed.deserialize(Values(vec![value])))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Filter {
        view: View,
        #[serde(default)]
        unread: bool,
        device: Option<String>,
        #[serde(default)]
        topic: Vec<String>,
        n: Option<u8>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum View {
        Inbox,
        All,
    }

    #[test]
    fn types_come_from_the_fields() {
        let filter: Filter = parse_query("view=all&topic=a&unread=true&topic=b%20c&n=7").expect("fits");
        let topic = vec!["a".to_owned(), "b c".to_owned()];
        assert_eq!(
            filter,
            Filter {
                view: View::All,
                unread: true,
                device: None,
                topic,
                n: Some(7)
            }
        );
    }

    #[test]
    fn a_fault_points_at_its_parameter() {
        let of = |query| {
            let problem = parse_query::<Filter>(query).expect_err(query);
            assert_eq!(problem.status, 400);
            problem.errors[0].pointer.clone()
        };
        assert_eq!(of("unread=true"), "?view");
        assert_eq!(of("view=archive"), "?view");
        let detail = &parse_query::<Filter>("view=archive").expect_err("refused").errors[0].detail;
        assert_eq!(detail, "expected `inbox` or `all`", "no word of how it is read");
        assert_eq!(of("view=all&unread=1"), "?unread");
        assert_eq!(of("view=all&n=256"), "?n");
        assert_eq!(of("view=all&view=all"), "?view");
        assert_eq!(of("view=all&Device=x"), "?Device");
        assert!(parse_query::<Filter>("view=all&device=%ff").is_err());
    }
}
