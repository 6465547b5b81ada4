//! What a stream was asked for.

use axum::extract::Query;
use carillon_domain::{DeviceName, Position, TopicName, ports::Gap};
use carillon_runtime::http::Problem;
use http::{HeaderMap, StatusCode, Uri};

use crate::feed::Resume;

/// What the query and headers of `GET /v1/stream` say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `None`: the mailbox is left out.
    pub(crate) inbox: Option<Resume>,
    pub(crate) topics: Vec<(TopicName, Resume)>,
    pub(crate) device: Option<DeviceName>,
    pub(crate) ticket: Option<String>,
}

impl Asked {
    /// Reads a request. A position that is none is no fault here: it is announced as a gap.
    ///
    /// # Errors
    /// 400 for what cannot be meant, 400 `credential_in_url` for a bearer credential in the query.
    pub(crate) fn read(uri: &Uri, headers: &HeaderMap, topics_limit: usize) -> Result<Self, Problem> {
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::malformed("The query is malformed."))?;
        let header = headers
            .get("last-event-id")
            .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let mut addressed = None;
        let (mut inbox, mut device, mut ticket) = (true, None, None);
        let mut names = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in query {
            if name == "topic" {
                names.push(value);
                continue;
            }
            if seen.contains(&name) {
                return Err(Problem::malformed_query(&name, "given more than once"));
            }
            match name.as_str() {
                // What a polyfill adds when it comes back stands behind what its page began with.
                "last_event_id" | "lastEventID" | "lastEventId" | "evs_last_event_id"
                    if !value.is_empty() =>
                {
                    addressed = Some(value);
                }
                "last_event_id" | "lastEventID" | "lastEventId" | "evs_last_event_id" => {}
                // Polyfills': against caches, and a request for padding that no browser of today needs.
                "r" | "evs_preamble" => {}
                "device" => {
                    let named = value.parse().map_err(|error| malformed("device", &error))?;
                    device = Some(named);
                }
                "inbox" => {
                    inbox = value
                        .parse()
                        .map_err(|_| Problem::malformed_query("inbox", "expected true or false"))?;
                }
                "ticket" => ticket = Some(value),
                "access_token" | "token" | "authorization" => {
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "credential_in_url",
                        "A bearer credential does not belong into a URL: use Authorization or a ticket.",
                    ));
                }
                _ => return Err(Problem::malformed_query(&name, "unknown parameter")),
            }
            seen.push(name);
        }
        // The header wins: a browser's own reconnect knows better than the address it began with.
        let presented = header.or(addressed);
        let presented = presented.filter(|id| !id.is_empty());
        if names.len() > topics_limit {
            return Err(Problem::malformed(format!(
                "A stream has at most {topics_limit} topics."
            )));
        }
        // A stream without a mailbox sends no ids: whether this is a reconnect cannot be seen, so it is taken for one.
        let fresh = if presented.is_some() || !inbox {
            Resume::Lost(Gap::Unknown)
        } else {
            Resume::Now
        };
        let mut topics: Vec<(TopicName, Resume)> = Vec::with_capacity(names.len());
        for text in names {
            let (name, resume) = topic(&text, &fresh)?;
            if !topics.iter().any(|(known, _)| *known == name) {
                topics.push((name, resume));
            }
        }
        Ok(Self {
            inbox: inbox.then(|| resume(presented.as_deref())),
            topics,
            device,
            ticket,
        })
    }
}

fn resume(presented: Option<&str>) -> Resume {
    match presented {
        None => Resume::Now,
        Some("earliest") => Resume::Earliest,
        Some(text) => text
            .trim()
            .parse()
            .map_or(Resume::Lost(Gap::Malformed), Resume::After),
    }
}

/// `NAME`, or `NAME@EPOCH-SEQ`. A name may hold an `@` itself.
fn topic(text: &str, fresh: &Resume) -> Result<(TopicName, Resume), Problem> {
    let covered = text
        .rsplit_once('@')
        .and_then(|(name, position)| Some((name, position.parse::<Position>().ok()?)));
    let (name, resume) = match covered {
        Some((name, position)) => (name, Resume::After(position)),
        None => (text, fresh.clone()),
    };
    let name = name.parse().map_err(|error| malformed("topic", &error))?;
    Ok((name, resume))
}

fn malformed(parameter: &str, error: &carillon_domain::Invalid) -> Problem {
    Problem::malformed_query(parameter, error.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, last_event_id: Option<&str>) -> Result<Asked, Problem> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert("last-event-id", id.parse().unwrap());
        }
        Asked::read(&format!("/v1/stream?{query}").parse().unwrap(), &headers, 64)
    }

    #[test]
    fn the_header_beats_all_spellings_of_the_query() {
        let after = |text: &str| Some(Resume::After(text.parse().unwrap()));
        for spelling in ["last_event_id", "lastEventID", "lastEventId", "evs_last_event_id"] {
            assert_eq!(
                read(&format!("{spelling}=abc-3"), None).unwrap().inbox,
                after("abc-3")
            );
            assert_eq!(
                read(&format!("{spelling}=abc-3"), Some("abc-5")).unwrap().inbox,
                after("abc-5")
            );
        }
        assert_eq!(
            read("last_event_id=earliest", None).unwrap().inbox,
            Some(Resume::Earliest)
        );
        assert_eq!(read("last_event_id=", None).unwrap().inbox, Some(Resume::Now));
        assert_eq!(
            read("last_event_id=abc-3&lastEventId=abc-7", None).unwrap().inbox,
            after("abc-7"),
            "a polyfill that comes back adds its own"
        );
        for garbage in ["' OR 1=1", "-1", "abc--1", "x", &"9".repeat(8_000)] {
            let asked = read("", Some(garbage)).unwrap();
            assert_eq!(asked.inbox, Some(Resume::Lost(Gap::Malformed)), "{garbage}");
        }
    }

    #[test]
    fn a_topic_is_covered_by_its_position_alone() {
        let asked = read("topic=room.1@abc-7&topic=a@b&topic=a@b&inbox=true", None).unwrap();
        let room = ("room.1".parse().unwrap(), Resume::After("abc-7".parse().unwrap()));
        assert_eq!(asked.topics, [room, ("a@b".parse().unwrap(), Resume::Now)]);
        let lost = Resume::Lost(Gap::Unknown);
        assert_eq!(read("topic=room.1", Some("abc-1")).unwrap().topics[0].1, lost);
        assert_eq!(read("topic=room.1&inbox=false", None).unwrap().topics[0].1, lost);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for query in [
            "inbox=maybe",
            "device=a%20b",
            "topic=",
            "topic=carillon:inbox",
            "topic=a*",
        ] {
            assert_eq!(
                read(query, None).unwrap_err().code,
                "malformed_request",
                "{query}"
            );
        }
        for query in ["access_token=x", "token=x", "authorization=x"] {
            assert_eq!(
                read(query, None).unwrap_err().code,
                "credential_in_url",
                "{query}"
            );
        }
        assert!(read(&"topic=a&".repeat(65), None).is_err());
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused_except_what_polyfills_send() {
        for (query, pointer) in [
            ("topics=a", "?topics"),
            ("Device=phone", "?Device"),
            ("=x", "?"),
            ("device=a&device=b", "?device"),
            ("inbox=false&inbox=false", "?inbox"),
            ("ticket=a&ticket=b", "?ticket"),
            ("lastEventId=abc-1&lastEventId=abc-1", "?lastEventId"),
            ("device=a%20b", "?device"),
        ] {
            let problem = read(query, None).unwrap_err();
            assert_eq!(
                (problem.status, problem.errors[0].pointer.as_str()),
                (StatusCode::BAD_REQUEST, pointer),
                "{query}"
            );
        }
        for query in [
            "r=0.5&lastEventId=abc-1",
            "evs_preamble=2056&evs_last_event_id=abc-1",
        ] {
            assert_eq!(
                read(query, None).unwrap().inbox,
                Some(Resume::After("abc-1".parse().unwrap())),
                "{query}"
            );
        }
    }
}
