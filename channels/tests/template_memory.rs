//! What templates that want too much take of memory and time. A process of its own, with one test: it measures the
//! process's peak.

use std::time::{Duration, Instant};

use carillon_channels::template::Engine;
use carillon_domain::ports::{TemplateSource, Templates};
use serde_json::json;

/// What one template may take while it is checked and rendered.
const MOST: u64 = 24 * 1024 * 1024;

/// A line of `/proc/self/status` in bytes.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("the line");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") * 1_024
}

fn source(text: &str) -> TemplateSource {
    let mut source = TemplateSource {
        html: Some(text.to_owned()),
        text: Some(text.to_owned()),
        ..TemplateSource::default()
    };
    source.in_app.title = "Title".into();
    source
}

#[test]
fn hostile_templates_end_soon_and_stay_small() {
    let engine = Engine::new();
    let data = json!({
        "s": "<".repeat(10_000), "l": vec![0; 5_000], "k": vec![0; 5_000], "n": 1_000_000_000, "m": {"a": {"b": ["c"]}}
    });
    let line = "x".repeat(1_000);
    let hostile = [
        "{{ 'x' * 100000000 }}".to_owned(),
        "{% for a in range(1) %}{{ s * n }}{% endfor %}".to_owned(),
        "{{ [0] * 100000000 }}".to_owned(),
        "{{ '%999999999d'|format(1) }}".to_owned(),
        "{% set s = concat(s, s) %}".repeat(60),
        "{% set s = s|replace('<', s) %}".repeat(10),
        "{{ range(1000)|join(s) }}".to_owned(),
        "{{ s|linebreaks }}".repeat(1_000),
        "{{ s }}".repeat(1_000),
        "{{ l|json }}".repeat(1_000),
        (0..190)
            .map(|n| format!("{{% set v{n} = concat(s) %}}"))
            .collect(),
        (0..190)
            .map(|n| format!("{{% set v{n} = l|limit(5000) %}}"))
            .collect(),
        format!("{{% for a in range(1000) %}}{line}{{% endfor %}}"),
        "{% for a in range(1000) %}{% for b in range(1000) %}{{ a }}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(1000) %}{% for b in l %}{% if l == k %}{% endif %}{% endfor %}{% endfor %}"
            .to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(60_000)),
        "{{s}}".repeat(25_000),
        "{#".repeat(60_000),
        "<a b=".repeat(20_000),
    ];
    // What stays once and for all is not this test's.
    engine.render(&source("{{ 1|number }}"), &data).expect("renders");
    for text in hostile {
        let before = status("VmRSS");
        // Linux: the peak begins anew at what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
        let begun = Instant::now();
        let source = source(&text);
        let checked = engine.check(&source);
        let rendered = engine.render(&source, &data);
        assert!(checked.is_err() || rendered.is_err(), "{text:.60}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}: {text:.60}");
        let peak = status("VmHWM").saturating_sub(before);
        assert!(peak < MOST, "{} MiB: {text:.60}", peak >> 20);
    }
}
