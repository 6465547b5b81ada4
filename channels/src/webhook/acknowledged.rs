//! A receiver may answer for its user: a 2xx whose JSON body says `{"acknowledged": "read"}`.

use carillon_domain::{
    AckKind,
    ports::{Answer as Acknowledged, Message, Work},
};
use serde::Deserialize;

use crate::outbound::Answer;

/// How much of an answer is read, in bytes: a longer one is no acknowledgement.
pub(super) const MOST: usize = 1_024;

/// What an answer may say. Other fields are the receiver's own.
#[derive(Deserialize)]
struct Said {
    acknowledged: AckKind,
    #[serde(default)]
    action: Option<String>,
}

/// What the answer to a notification says of its recipient; events are nobody's to acknowledge.
pub(super) fn by_answer(work: &Work, answer: &Answer) -> Option<Acknowledged> {
    let is_notification = matches!(work.message, Message::Notification(_));
    if !is_notification || !answer.status.is_success() || !answer.whole {
        return None;
    }
    acknowledged(&answer.body)
}

/// What is no such object is an answer like others.
fn acknowledged(body: &[u8]) -> Option<Acknowledged> {
    if body.len() > MOST {
        return None;
    }
    let said: Said = serde_json::from_slice(body).ok()?;
    Some(Acknowledged {
        kind: said.acknowledged,
        action: said.action.filter(|_| said.acknowledged == AckKind::Acted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_says_how_acknowledges_and_nothing_else_does() {
        let said = |body: &str| acknowledged(body.as_bytes());
        assert_eq!(
            said(r#"{"acknowledged": "acted", "action": "retry", "ours": [1]}"#),
            Some(Acknowledged {
                kind: AckKind::Acted,
                action: Some("retry".to_owned())
            })
        );
        assert_eq!(
            said(r#"{"acknowledged": "read", "action": "retry"}"#),
            Some(Acknowledged {
                kind: AckKind::Read,
                action: None
            })
        );
        let long = format!(r#"{{"acknowledged": "read", "pad": "{}"}}"#, "x".repeat(MOST));
        for body in [
            "",
            "ok",
            "[]",
            "{}",
            r#"{"acknowledged": true}"#,
            r#"{"acknowledged": "seen"}"#,
            r#"{"acknowledged": "read""#,
            r#"{"acknowledged": "acted", "action": 1}"#,
            &long,
        ] {
            assert_eq!(said(body), None, "{body}");
        }
    }
}
