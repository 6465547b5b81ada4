//! What a digest says: a line for each of its first members, and how many more there are. Pure.

use std::collections::HashSet;

use carillon_domain::{Category, Content, NotificationId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::store::digests::DigestKey;

/// Bytes of a member's text at the most; what is cut off ends with an ellipsis.
const TEXT: usize = 300;
/// Bytes of all members together: a content's data hold 32 KiB, and its text 16.
const ALL: usize = 12 * 1_024;

/// One notification of a digest.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Member {
    #[serde(rename = "notification_id")]
    id: NotificationId,
    title: String,
    body: Option<String>,
    url: Option<String>,
}

impl Member {
    pub(super) fn new(id: NotificationId, content: Content) -> Self {
        Self {
            id,
            title: cut(&content.title),
            body: content.body.as_deref().map(cut),
            url: content.url,
        }
    }

    /// As it is written, which is never less than what it says.
    fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(ALL, |text| text.len())
    }

    fn line(&self) -> String {
        let mut line = format!("- {}", self.title);
        for (before, part) in [(": ", &self.body), ("\n  ", &self.url)] {
            if let Some(part) = part {
                line.push_str(before);
                line.push_str(part);
            }
        }
        line
    }
}

/// Everything that a digest says.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Gathered {
    category: Category,
    name: String,
    /// The digest key; none without one.
    key: Option<String>,
    count: usize,
    /// As many of the first as fit.
    members: Vec<Member>,
}

impl Gathered {
    pub(super) fn new(of: &DigestKey, count: usize, members: Vec<Member>) -> Self {
        let mut bytes = 0;
        let fits = |member: &Member| {
            bytes += member.bytes();
            bytes <= ALL
        };
        Self {
            category: of.category.clone(),
            name: of.name.to_string(),
            key: Some(of.key.to_string()).filter(|key| !key.is_empty()),
            count,
            members: members.into_iter().take_while(fits).collect(),
        }
    }

    /// As [`Self::data`] wrote it.
    pub(super) fn read(data: &Value) -> Option<Self> {
        Self::deserialize(data).ok()
    }

    /// Without members that were answered or taken back since.
    pub(super) fn without(mut self, over: &HashSet<NotificationId>) -> Self {
        self.count = self.count.saturating_sub(over.len());
        self.members.retain(|member| !over.contains(&member.id));
        self
    }

    /// Members that are not named.
    fn more(&self) -> usize {
        self.count.saturating_sub(self.members.len())
    }

    /// For a template, and for programs.
    pub(super) fn data(&self) -> Value {
        json!({
            "category": self.category,
            "name": self.name,
            "key": self.key,
            "count": self.count,
            "more": self.more(),
            "members": self.members,
        })
    }

    /// Without a template.
    pub(super) fn content(&self) -> Content {
        let mut lines: Vec<String> = self.members.iter().map(Member::line).collect();
        if self.more() > 0 {
            lines.push(format!("and {} more", self.more()));
        }
        let title = match self.count {
            1 => "1 notification".to_owned(),
            count => format!("{count} notifications"),
        };
        Content {
            title,
            body: (!lines.is_empty()).then(|| lines.join("\n")),
            url: None,
            icon: None,
            actions: Vec::new(),
            data: Some(Map::from_iter([("digest".to_owned(), self.data())])),
        }
    }
}

/// The beginning of a text, in one line.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= TEXT {
        return line;
    }
    let end = line.floor_char_boundary(TEXT - '…'.len_utf8());
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carillon_domain::{TenantId, Timestamp, UserId};

    use super::*;

    fn member(title: &str, body: Option<&str>, url: Option<&str>) -> Member {
        let content = Content {
            title: title.to_owned(),
            body: body.map(str::to_owned),
            url: url.map(str::to_owned),
            icon: None,
            actions: Vec::new(),
            data: None,
        };
        Member::new(NotificationId::at(Timestamp::from_seconds(1)), content)
    }

    fn gathered(count: usize, members: Vec<Member>) -> Gathered {
        let of = DigestKey {
            tenant: TenantId::default(),
            user: UserId::at(Timestamp::from_seconds(1)),
            category: Category::default(),
            channel: "email".parse().expect("a channel"),
            name: Arc::from("daily"),
            key: Arc::from("issue 7"),
        };
        Gathered::new(&of, count, members)
    }

    #[test]
    fn a_line_for_each_and_how_many_more() {
        let members = vec![
            member(
                "Shipped",
                Some("Your parcel\nleft"),
                Some("https://shop.example/1"),
            ),
            member("Liked", None, None),
        ];
        let content = gathered(5, members).content();
        assert_eq!(content.title, "5 notifications");
        assert_eq!(
            content.body.as_deref(),
            Some("- Shipped: Your parcel left\n  https://shop.example/1\n- Liked\nand 3 more")
        );
        let data = &content.data.expect("data")["digest"];
        assert_eq!((&data["count"], &data["more"]), (&json!(5), &json!(3)));
        assert_eq!(
            (&data["name"], &data["key"]),
            (&json!("daily"), &json!("issue 7"))
        );
        assert_eq!(data["members"][1]["title"], "Liked");
    }

    #[test]
    fn what_is_over_is_left_out() {
        let mut members = vec![member("Shipped", None, None), member("Liked", None, None)];
        members[1].id = NotificationId::at(Timestamp::from_seconds(2));
        let over = HashSet::from([members[0].id, NotificationId::at(Timestamp::from_seconds(3))]);
        let written = gathered(5, members).data();
        let left = Gathered::read(&written)
            .expect("as it was written")
            .without(&over);
        let content = left.content();
        assert_eq!(content.title, "3 notifications");
        assert_eq!(content.body.as_deref(), Some("- Liked\nand 2 more"));
        assert_eq!(left.data()["members"][0], written["members"][1]);
    }

    #[test]
    fn however_long_the_members_are_it_stays_within_bounds() {
        let long = "ä".repeat(10_000);
        let url = format!("https://shop.example/{}", "x".repeat(2_000));
        let members = (0..20).map(|_| member(&long, Some(&long), Some(&url))).collect();
        let content = gathered(20, members).content();
        let body = content.body.expect("a text");
        assert!(body.len() <= 16 * 1_024, "{}", body.len());
        assert!(body.ends_with("more"));
        assert!(body.contains('…'));
        let data = serde_json::to_string(&content.data).expect("JSON");
        assert!(data.len() <= 32 * 1_024, "{}", data.len());
    }
}
