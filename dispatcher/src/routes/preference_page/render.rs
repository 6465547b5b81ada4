//! The page as HTML.

use std::fmt::Write as _;

use carillon_domain::{Category, ChannelKind, Timestamp};
use carillon_policy::{CategoryPolicy, DigestChoice, MOST_WINDOWS, TimeOfDay, Weekday};

use super::{
    SHOWN, channels, digest_of,
    form::{DAYS, Form, WindowFault, WindowForm},
};
use crate::{
    policy::{UserChoices, ZoneOf},
    routes::unsubscribe::escaped,
};

/// The page around its form.
const PAGE: &str = include_str!("page.html");

/// What the page shows.
pub(super) struct View<'a> {
    choices: &'a UserChoices,
    now: Timestamp,
    pub(super) saved: bool,
    /// What was filled in and not saved.
    form: Option<&'a Form>,
    windows: Vec<WindowForm>,
    faults: Vec<WindowFault>,
}

impl<'a> View<'a> {
    /// What holds now.
    pub(super) fn new(choices: &'a UserChoices, now: Timestamp) -> Self {
        let windows = choices
            .quiet_hours
            .as_ref()
            .map_or(&[][..], |hours| &hours.windows);
        Self {
            choices,
            now,
            saved: false,
            form: None,
            windows: windows.iter().map(WindowForm::from).collect(),
            faults: Vec::new(),
        }
    }

    /// What was filled in, with what is wrong.
    pub(super) fn fill(&mut self, form: &'a Form, faults: Vec<WindowFault>) {
        self.form = Some(form);
        self.windows = form.filled().to_vec();
        self.faults = faults;
    }

    pub(super) fn page(&self) -> String {
        // Nothing that people wrote is searched for what is filled in.
        let (head, foot) = PAGE.split_once("{form}").unwrap_or((PAGE, ""));
        let mut out = String::with_capacity(PAGE.len() + 16 * 1024);
        out.push_str(head);
        self.status(&mut out);
        self.messages(&mut out);
        self.quiet_hours(&mut out);
        out.push_str(foot);
        out
    }

    fn status(&self, out: &mut String) {
        if !self.faults.is_empty() {
            out.push_str(
                "<p class=\"said wrong\" role=\"alert\">Nothing was saved yet: look at the quiet hours.</p>\n",
            );
        } else if self.saved {
            out.push_str("<p class=\"said\" role=\"status\">Saved. It counts from now on.</p>\n");
        }
    }

    fn messages(&self, out: &mut String) {
        out.push_str("<section aria-labelledby=\"messages\">\n<h2 id=\"messages\">Messages</h2>\n");
        let mut named: Vec<(String, &Category)> = self
            .choices
            .categories()
            .into_iter()
            .take(SHOWN)
            .map(|category| (self.title(category), category))
            .collect();
        named.sort_by(|a, b| a.0.to_lowercase().cmp(&b.0.to_lowercase()).then(a.1.cmp(b.1)));
        let before = out.len();
        for (title, category) in &named {
            self.category(out, title, category);
        }
        if out.len() == before {
            out.push_str("<p class=\"note\">There is nothing to choose yet.</p>\n");
        }
        out.push_str("</section>\n");
    }

    fn title(&self, category: &Category) -> String {
        let title = self
            .choices
            .settings(category)
            .and_then(|settings| settings.title.clone());
        title.unwrap_or_else(|| readable(category.as_str()))
    }

    fn category(&self, out: &mut String, title: &str, category: &Category) {
        let channels = channels(self.choices, category);
        if channels.is_empty() {
            return;
        }
        let rules = self
            .choices
            .settings(category)
            .map(|settings| settings.rules.clone());
        let rules = rules.unwrap_or_default();
        let _ = writeln!(
            out,
            "<fieldset class=\"card\" data-category=\"{category}\">\n<legend>{}</legend>",
            escaped(title)
        );
        if rules.critical {
            out.push_str("<p class=\"note\">Important: comes at once, whatever is chosen here.</p>\n");
        } else if !rules.policy.may_turn_off {
            out.push_str("<p class=\"note\">Cannot be turned off.</p>\n");
        }
        for channel in &channels {
            self.switch(out, category, channel, &rules.policy, rules.critical);
        }
        if !rules.policy.digests.is_empty() && !rules.critical {
            self.digests(out, title, category, &rules.policy);
        }
        out.push_str("</fieldset>\n");
    }

    fn switch(
        &self,
        out: &mut String,
        category: &Category,
        channel: &ChannelKind,
        policy: &CategoryPolicy,
        critical: bool,
    ) {
        let holds = self.choices.resolved(category, channel, policy).enabled || critical;
        let filled = self.form.and_then(|form| form.switch(category, channel));
        let checked = if filled.unwrap_or(holds) { " checked" } else { "" };
        let name = channel_name(channel);
        let name = escaped(&name);
        if critical || (holds && !policy.may_turn_off) {
            let _ = writeln!(
                out,
                "<label class=\"row fixed\"><span>{name}</span>\
                 <input type=\"checkbox\" role=\"switch\"{checked} disabled></label>"
            );
            return;
        }
        let field = format!("on:{category}:{channel}");
        let _ = writeln!(
            out,
            "<input type=\"hidden\" name=\"{field}\" value=\"off\">\
             <label class=\"row\"><span>{name}</span>\
             <input type=\"checkbox\" role=\"switch\" name=\"{field}\" value=\"on\"{checked}></label>"
        );
    }

    fn digests(&self, out: &mut String, title: &str, category: &Category, policy: &CategoryPolicy) {
        let filled = self.form.and_then(|form| form.digest(category));
        let holds = filled.or_else(|| digest_of(self.choices, category, policy));
        let _ = writeln!(
            out,
            "<label class=\"row\"><span>How often<span class=\"hidden\"> {} comes</span></span>\
             <select name=\"digest:{category}\">",
            escaped(title)
        );
        if holds.is_none() {
            out.push_str("<option value=\"\" selected>Differs by channel</option>");
        }
        let names = policy.digests.iter().map(|period| period.name.as_str());
        for name in std::iter::once(DigestChoice::IMMEDIATE).chain(names) {
            let selected = if holds.as_ref().is_some_and(|holds| holds.as_str() == name) {
                " selected"
            } else {
                ""
            };
            let label = match name {
                DigestChoice::IMMEDIATE => "At once".to_owned(),
                name => format!("{} digest", readable(name)),
            };
            let _ = write!(
                out,
                "<option value=\"{name}\"{selected}>{}</option>",
                escaped(&label)
            );
        }
        out.push_str("</select></label>\n");
    }

    fn quiet_hours(&self, out: &mut String) {
        out.push_str(
            "<section aria-labelledby=\"quiet\">\n<h2 id=\"quiet\">Quiet hours</h2>\n<p class=\"note\">",
        );
        out.push_str("Messages still reach the app, without a sound. Everything else waits until the quiet hours end. ");
        let (day, time) = self.choices.zone.clock(self.now);
        let zone = escaped(&self.choices.zone.to_string().replace('_', " "));
        let _ = write!(
            out,
            "Times are those of <strong data-zone>{zone}</strong>, where it is {time} on {}",
            full(day)
        );
        out.push_str(match self.choices.zone_of {
            ZoneOf::User | ZoneOf::Tenant => ".",
            ZoneOf::Default => "; no time zone of yours is known.",
        });
        if let Some(until) = self.choices.quiet_until(self.now) {
            let (day, time) = self.choices.zone.clock(until);
            let _ = write!(
                out,
                " <strong>It is quiet now, until {time} on {}.</strong>",
                full(day)
            );
        }
        out.push_str("</p>\n");
        for (place, window) in self.windows.iter().enumerate() {
            self.window(out, place, window, false);
        }
        if self.windows.len() < MOST_WINDOWS {
            let every_day = WindowForm {
                days: Weekday::ALL.to_vec(),
                ..WindowForm::default()
            };
            self.window(out, self.windows.len(), &every_day, true);
        }
        out.push_str("</section>\n");
    }

    fn window(&self, out: &mut String, place: usize, window: &WindowForm, new: bool) {
        let legend = match (new, self.windows.is_empty()) {
            (true, true) => "Be quiet".to_owned(),
            (true, false) => "Be quiet at other times too".to_owned(),
            (false, _) => format!("Quiet {}", between(window)),
        };
        let _ = writeln!(
            out,
            "<fieldset class=\"card window\">\n<legend>{}</legend>",
            escaped(&legend)
        );
        let fault = self
            .faults
            .iter()
            .find(|(at, _)| *at == place)
            .map(|(_, fault)| *fault);
        let mut described = String::new();
        if let Some(fault) = fault {
            let _ = writeln!(out, "<p class=\"fault\" id=\"fault-{place}\">{fault}</p>");
            described = format!(" aria-invalid=\"true\" aria-describedby=\"fault-{place}\"");
        }
        out.push_str("<div class=\"times\">");
        for (field, label, value) in [("start", "From", &window.start), ("end", "To", &window.end)] {
            let _ = write!(
                out,
                "<label>{label} <input type=\"time\" name=\"quiet:{place}:{field}\" value=\"{}\"{described}></label>",
                escaped(value)
            );
        }
        out.push_str("</div>\n<div class=\"days\" role=\"group\" aria-label=\"Days on which it begins\">");
        for (day, word, name) in DAYS {
            let checked = if window.days.contains(&day) {
                " checked"
            } else {
                ""
            };
            let _ = write!(
                out,
                "<label class=\"day\"><input type=\"checkbox\" name=\"quiet:{place}:day\" value=\"{word}\"{checked}><span>{name}</span></label>"
            );
        }
        out.push_str("</div>\n");
        if !new {
            out.push_str("<p class=\"hint\">Clear both times to remove it.</p>\n");
        }
        out.push_str("</fieldset>\n");
    }
}

fn between(window: &WindowForm) -> String {
    match (window.start.parse::<TimeOfDay>(), window.end.parse::<TimeOfDay>()) {
        (Ok(start), Ok(end)) => format!("from {start} to {end}"),
        _ => "hours".to_owned(),
    }
}

/// A name of ours for people: `order_updates` becomes `Order updates`.
fn readable(name: &str) -> String {
    let spaced = name.replace(['_', '-', '.'], " ");
    let mut letters = spaced.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn channel_name(channel: &ChannelKind) -> String {
    match channel.as_str() {
        ChannelKind::IN_APP => "In the app".to_owned(),
        ChannelKind::WEBHOOK => "Webhook".to_owned(),
        "apns" => "iPhone and iPad".to_owned(),
        "fcm" => "Android".to_owned(),
        "webpush" => "Browser".to_owned(),
        "sms" => "SMS".to_owned(),
        name => readable(name),
    }
}

const fn full(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    }
}
