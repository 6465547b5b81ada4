//! Lists: pages, cursors and their envelope.

use axum::extract::FromRequestParts;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::request::Parts;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Problem,
    query::{Query, parse_pairs},
};

/// The largest `limit`.
pub const MAX_PAGE: u32 = 200;

/// The `limit` of a list when none is given.
const DEFAULT_PAGE: u32 = 50;

/// Tells apart cursors of different spellings; a cursor of another version is refused.
const CURSOR_VERSION: u8 = 1;

/// Which part of a list is asked for: `limit` (1-200, default 50) and `cursor`.
///
/// As an extractor it refuses every other parameter; [`Paged`] takes a list's own filters as well.
#[derive(Debug, Clone, PartialEq, Eq, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// How many items at the most.
    #[param(required = false, minimum = 1, maximum = 200, default = 50)]
    pub limit: u32,
    /// `next` of the page before; absent for the first page.
    #[param(required = false, value_type = Option<String>)]
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: DEFAULT_PAGE,
            cursor: None,
        }
    }
}

impl Page {
    /// Where to go on: what [`encode_cursor`] was given for the same `list`. `None` on the first page.
    ///
    /// # Errors
    /// 400 when the cursor is not one of this list's.
    pub fn after<T: DeserializeOwned>(&self, list: &str) -> Result<Option<T>, Problem> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        decode_cursor(list, cursor)
            .map(Some)
            .ok_or_else(|| Problem::malformed_query("cursor", "not a cursor of this list"))
    }

    /// How many rows to read: one more than [`Self::limit`], which tells whether there is a next page.
    pub const fn fetch(&self) -> u32 {
        self.limit + 1
    }

    fn take(query: &mut Query<'_>) -> Result<Self, Problem> {
        let limit = match query.take("limit")? {
            None => DEFAULT_PAGE,
            Some(text) => match text.parse() {
                Ok(limit @ 1..=MAX_PAGE) => limit,
                _ => {
                    return Err(Problem::malformed_query(
                        "limit",
                        "expected a number from 1 to 200",
                    ));
                }
            },
        };
        Ok(Self {
            limit,
            cursor: query.take("cursor")?.map(std::borrow::Cow::into_owned),
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut query = parse_pairs(parts.uri.query().unwrap_or_default())?;
        let page = Self::take(&mut query)?;
        query.finish()?;
        Ok(page)
    }
}

/// A [`Page`] and a list's own filters, which are read as [`super::ApiQuery`] reads them.
#[derive(Debug, Clone)]
pub struct Paged<T>(pub Page, pub T);

impl<S, T> FromRequestParts<S> for Paged<T>
where
    S: Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut query = parse_pairs(parts.uri.query().unwrap_or_default())?;
        let page = Page::take(&mut query)?;
        Ok(Self(page, query.read()?))
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Listing<T> {
    /// The items, in the list's order.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}

impl<T> Listing<T> {
    /// From up to [`Page::fetch`] rows: drops the surplus row and makes the cursor of the last one that stays.
    /// `list` and the value that `key` makes are what [`Page::after`] gives back.
    pub fn from_rows<R, K: Serialize>(
        list: &str,
        page: &Page,
        mut rows: Vec<R>,
        key: impl FnOnce(&R) -> K,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let limit = page.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more {
            rows.last().map(|row| encode_cursor(list, &key(row)))
        } else {
            None
        };
        Self {
            data: rows.into_iter().map(item).collect(),
            next,
        }
    }
}

/// An opaque cursor: `position` within `list`, in URL-safe base64. It holds nothing that the caller may not see and
/// grants nothing: a list is read within the caller's own rows wherever the cursor points.
pub fn encode_cursor<T: Serialize + ?Sized>(list: &str, position: &T) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    // Only a map with keys that are not text could fail, and a position is none.
    if let Ok(json) = serde_json::to_vec(&(list, position)) {
        bytes.extend_from_slice(&json);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor<T: DeserializeOwned>(list: &str, cursor: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (&version, json) = bytes.split_first()?;
    if version != CURSOR_VERSION {
        return None;
    }
    let (of, position): (String, T) = serde_json::from_slice(json).ok()?;
    (of == list).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<Page, Problem> {
        let mut query = parse_pairs(query)?;
        let page = Page::take(&mut query)?;
        query.finish().map(|()| page)
    }

    #[test]
    fn limits_and_cursors_are_strict() {
        assert_eq!(page("").expect("defaults").limit, 50);
        assert_eq!(page("limit=200").expect("largest").limit, 200);
        for bad in [
            "limit=0",
            "limit=201",
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "offset=3",
            "cursor=a&cursor=b",
        ] {
            assert_eq!(page(bad).expect_err(bad).status, 400);
        }
        let cursor = encode_cursor("inbox", &(17_i64, "ent_1"));
        let at = |list: &str, cursor: &str| {
            Page {
                limit: 1,
                cursor: Some(cursor.to_owned()),
            }
            .after::<(i64, String)>(list)
        };
        assert_eq!(at("inbox", &cursor).expect("own"), Some((17, "ent_1".to_owned())));
        assert!(at("keys", &cursor).is_err(), "another list's");
        for garbage in ["", "x", "AA", "AVtd", "%00", "AXt9"] {
            assert!(at("inbox", garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_surplus_row_means_a_next_page() {
        let page = Page {
            limit: 2,
            cursor: None,
        };
        let full = Listing::from_rows("n", &page, vec![1, 2, 3], |n| *n, |n| n);
        assert_eq!(full.data, [1, 2]);
        let next = Page {
            limit: 2,
            cursor: full.next,
        };
        assert_eq!(next.after::<i32>("n").expect("own"), Some(2));
        assert_eq!(
            Listing::from_rows("n", &page, vec![1, 2], |n| *n, |n| n).next,
            None
        );
    }
}
