//! The page's form as a browser sends it.

use std::collections::BTreeMap;

use carillon_domain::{Category, ChannelKind};
use carillon_policy::{DigestChoice, MOST_WINDOWS, QuietWindow, TimeOfDay, Weekday};

/// The days as the form and people call them.
pub(super) const DAYS: [(Weekday, &str, &str); 7] = [
    (Weekday::Mon, "mon", "Mon"),
    (Weekday::Tue, "tue", "Tue"),
    (Weekday::Wed, "wed", "Wed"),
    (Weekday::Thu, "thu", "Thu"),
    (Weekday::Fri, "fri", "Fri"),
    (Weekday::Sat, "sat", "Sat"),
    (Weekday::Sun, "sun", "Sun"),
];

/// What was filled in. Fields that the page does not have are passed over.
#[derive(Debug, Default)]
pub(super) struct Form {
    switches: BTreeMap<(String, String), bool>,
    digests: BTreeMap<String, String>,
    /// None when the form has no quiet hours at all.
    quiet: Option<Vec<WindowForm>>,
}

/// One window as it was filled in.
#[derive(Debug, Clone, Default)]
pub(super) struct WindowForm {
    pub(super) start: String,
    pub(super) end: String,
    pub(super) days: Vec<Weekday>,
}

/// What is wrong with a window, by its place.
pub(super) type WindowFault = (usize, &'static str);

impl WindowForm {
    fn is_empty(&self) -> bool {
        self.start.is_empty() && self.end.is_empty()
    }

    fn read(&self) -> Result<QuietWindow, &'static str> {
        if self.start.is_empty() || self.end.is_empty() {
            return Err("Give both a start and an end.");
        }
        let (Some(start), Some(end)) = (time(&self.start), time(&self.end)) else {
            return Err("Give times from 00:00 to 23:59.");
        };
        if self.days.is_empty() {
            return Err("Choose at least one day.");
        }
        Ok(QuietWindow {
            days: self.days.clone(),
            start,
            end,
        })
    }
}

impl From<&QuietWindow> for WindowForm {
    fn from(window: &QuietWindow) -> Self {
        Self {
            start: window.start.to_string(),
            end: window.end.to_string(),
            days: window.days.clone(),
        }
    }
}

/// Some browsers send seconds.
fn time(text: &str) -> Option<TimeOfDay> {
    text.get(..5).unwrap_or(text).parse().ok()
}

impl Form {
    /// From `application/x-www-form-urlencoded`.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let mut parts = name.split(':');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                // The last one counts: a box that is ticked comes after what stands for an empty one.
                (Some("on"), Some(category), Some(channel), None) => {
                    let key = (category.to_owned(), channel.to_owned());
                    form.switches.insert(key, value == "on");
                }
                (Some("digest"), Some(category), None, None) => {
                    form.digests.insert(category.to_owned(), value.into_owned());
                }
                (Some("quiet"), Some(place), Some(field), None) => form.window(place, field, &value),
                _ => {}
            }
        }
        form
    }

    fn window(&mut self, place: &str, field: &str, value: &str) {
        let Some(place) = place.parse::<usize>().ok().filter(|place| *place < MOST_WINDOWS) else {
            return;
        };
        let windows = self.quiet.get_or_insert_default();
        if windows.len() <= place {
            windows.resize(place + 1, WindowForm::default());
        }
        let Some(window) = windows.get_mut(place) else {
            return;
        };
        match field {
            "start" => value.trim().clone_into(&mut window.start),
            "end" => value.trim().clone_into(&mut window.end),
            "day" => {
                let day = DAYS
                    .iter()
                    .find(|(_, word, _)| *word == value)
                    .map(|(day, ..)| *day);
                window.days.extend(day.filter(|day| !window.days.contains(day)));
            }
            _ => {}
        }
    }

    /// Whether the form has a category on over a channel; none when it does not say.
    pub(super) fn switch(&self, category: &Category, channel: &ChannelKind) -> Option<bool> {
        let key = (category.as_str().to_owned(), channel.as_str().to_owned());
        self.switches.get(&key).copied()
    }

    /// How often the form wants a category.
    pub(super) fn digest(&self, category: &Category) -> Option<DigestChoice> {
        self.digests.get(category.as_str())?.parse().ok()
    }

    /// The windows as they were filled in.
    pub(super) fn filled(&self) -> &[WindowForm] {
        self.quiet.as_deref().unwrap_or_default()
    }

    /// The quiet hours; none when the form does not say. A window without times is none.
    pub(super) fn windows(&self) -> Result<Option<Vec<QuietWindow>>, Vec<WindowFault>> {
        let Some(filled) = &self.quiet else {
            return Ok(None);
        };
        let (mut windows, mut faults) = (Vec::new(), Vec::new());
        for (place, window) in filled.iter().enumerate().filter(|(_, window)| !window.is_empty()) {
            match window.read() {
                Ok(window) => windows.push(window),
                Err(fault) => faults.push((place, fault)),
            }
        }
        if faults.is_empty() {
            Ok(Some(windows))
        } else {
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticked_box_counts_before_what_stands_for_an_empty_one() {
        let form = Form::read(b"on:news:email=off&on:news:email=on&on:news:sms=off&odd=1&on:news=on");
        let news: Category = "news".parse().expect("a category");
        let switch = |channel: &str| form.switch(&news, &channel.parse().expect("a channel"));
        assert_eq!(
            (switch("email"), switch("sms"), switch("fax")),
            (Some(true), Some(false), None)
        );
        assert_eq!(form.windows(), Ok(None));
    }

    #[test]
    fn quiet_hours_are_read_and_what_is_wrong_is_told_by_its_place() {
        let filled =
            b"quiet:0:start=22%3A00&quiet:0:end=07%3A00%3A00&quiet:0:day=mon&quiet:0:day=sun&quiet:0:day=sun\
            &quiet:1:start=&quiet:1:end=&quiet:1:day=mon&quiet:99:start=1";
        let windows = Form::read(filled).windows().expect("fits").expect("said");
        let shown = serde_json::to_value(&windows).expect("encodes");
        let expected = serde_json::json!([{"days": ["mon", "sun"], "start": "22:00", "end": "07:00"}]);
        assert_eq!(shown, expected);
        let wrong = b"quiet:0:start=22%3A00&quiet:0:end=&quiet:1:start=8&quiet:1:end=25%3A00&quiet:1:day=mon\
            &quiet:2:start=22%3A00&quiet:2:end=23%3A00";
        let faults = Form::read(wrong).windows().expect_err("refused");
        let places: Vec<_> = faults.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [0, 1, 2], "{faults:?}");
    }
}
