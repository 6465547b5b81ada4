use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod hostile;
mod html;

/// A template of a title alone.
fn title(text: &str) -> TemplateSource {
    let mut source = TemplateSource::default();
    source.in_app.title = text.to_owned();
    source
}

/// One with an HTML form.
fn html_of(text: &str) -> TemplateSource {
    TemplateSource {
        html: Some(text.to_owned()),
        ..title("Title")
    }
}

fn with_text(text: &str) -> TemplateSource {
    TemplateSource {
        text: Some(text.to_owned()),
        ..title("Title")
    }
}

fn render(source: &TemplateSource, data: Value) -> Result<Rendered, TemplateFault> {
    Engine::new().render(source, &data)
}

fn printed(text: &str, data: Value) -> String {
    match render(&with_text(text), data) {
        Ok(rendered) => rendered.forms.text.unwrap_or_default(),
        Err(fault) => panic!("{text}: {fault}"),
    }
}

fn fault(source: &TemplateSource, data: Value) -> String {
    match render(source, data) {
        Ok(rendered) => panic!("rendered {rendered:?}"),
        Err(fault) => fault.to_string(),
    }
}

fn faults(source: &TemplateSource) -> Vec<String> {
    let faults = Engine::new().check(source).expect_err("a fault");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn each_form_is_rendered_with_the_same_data() {
    let source: TemplateSource = serde_json::from_value(json!({
        "subject": "Order {{ order.id }}",
        "text": "Hello {{ name }},\n{% for item in order.items %}- {{ item }}\n{% endfor %}",
        "html": "<p>Hello {{ name }}</p>{% include \"footer\" %}",
        "short": "Order {{ order.id }} is on its way",
        "in_app": {
            "title": "Order {{ order.id }}",
            "body": "{{ order.items|length }} items",
            "url": "/orders/{{ order.id }}"
        },
        "partials": {"footer": "<p>{{ shop|default(\"Shop\") }}</p>"}
    }))
    .expect("a source");
    let data = json!({"name": "Ada <b>", "order": {"id": 7, "items": ["a & b", "c"]}});
    assert_eq!(Engine::new().check(&source), Ok(()));
    let rendered = render(&source, data).expect("renders");
    assert_eq!(rendered.content.title, "Order 7");
    assert_eq!(rendered.content.body.as_deref(), Some("2 items"));
    assert_eq!(rendered.content.url.as_deref(), Some("/orders/7"));
    let forms = rendered.forms;
    assert_eq!(forms.subject.as_deref(), Some("Order 7"));
    assert_eq!(forms.text.as_deref(), Some("Hello Ada <b>,\n- a & b\n- c"));
    assert_eq!(
        forms.html.as_deref(),
        Some("<p>Hello Ada &lt;b&gt;</p><p>Shop</p>")
    );
    assert_eq!(forms.short.as_deref(), Some("Order 7 is on its way"));
}

#[test]
fn what_is_wrong_is_told_for_each_form_with_its_line() {
    let source: TemplateSource = serde_json::from_value(json!({
        "subject": "{{ name|shout }}",
        "text": "one\n{{ name",
        "html": "<p>\n{% include \"nothing\" %}",
        "in_app": {"title": "", "url": "{% macro a() %}{% endmacro %}"},
        "partials": {"ok": "{{ a ~ b }}"}
    }))
    .expect("a source");
    assert_eq!(faults(&source), ["/in_app/title: is required"]);
    let mut source = source;
    source.in_app.title = "Title".into();
    let faults = faults(&source);
    assert_eq!(faults.len(), 5, "{faults:#?}");
    for (fault, beginning) in faults.iter().zip([
        "/html: line 2: include takes the name of a partial",
        "/in_app/url: line 1: macro is not available",
        "/partials/ok: line 1: write values one after the other",
        "/subject: line 1: there is no filter shout",
        "/text: line 2: ",
    ]) {
        assert!(fault.starts_with(beginning), "{fault}");
    }
}

#[test]
fn a_value_that_is_missing_is_a_fault_unless_it_has_a_default() {
    let source = with_text("Hello\n{{ name }}");
    let said = fault(&source, json!({}));
    assert!(said.starts_with("/text: line 2:"), "{said}");
    assert_eq!(printed("{{ name|default('you') }}", json!({})), "you");
    assert_eq!(printed("a{{ name }}b", json!({"name": null})), "ab");
}

#[test]
fn a_fault_in_a_partial_is_the_partials() {
    let mut source = with_text("{% include \"part\" %}");
    source.partials.insert("part".into(), "one\n{{ missing }}".into());
    let said = fault(&source, json!({}));
    assert!(said.starts_with("/partials/part: line 2:"), "{said}");
}

#[test]
fn data_is_an_object_of_bounded_size() {
    let source = title("Title");
    for data in [json!(null), json!([1]), json!("text")] {
        assert_eq!(fault(&source, data), "/data: must be a JSON object");
    }
    assert_eq!(
        fault(&source, json!({"a": "x".repeat(MAX_DATA)})),
        "/data: must be at most 32768 bytes encoded"
    );
}

#[test]
fn titles_are_one_line_and_urls_lead_somewhere_harmless() {
    let rendered = render(&title("{{ a }}"), json!({"a": "one\r\nBcc: x\ttwo"})).expect("renders");
    assert_eq!(rendered.content.title, "one Bcc: x two");
    assert_eq!(
        fault(&title("{{ a }}"), json!({"a": " \n"})),
        "/in_app/title: gives nothing, and a title is needed"
    );
    let mut source = title("Title");
    source.in_app.url = Some("{{ url }}".into());
    for url in ["https://example.org/a?b=c", "/orders/1"] {
        let rendered = render(&source, json!({"url": url})).expect("renders");
        assert_eq!(rendered.content.url.as_deref(), Some(url));
    }
    for url in [
        "javascript:alert(1)",
        "//evil.example",
        "/a\\b",
        "data:text/html,x",
        "mailto:a@b",
    ] {
        assert!(
            fault(&source, json!({"url": url})).starts_with("/in_app/url: "),
            "{url}"
        );
    }
}

#[test]
fn each_form_has_its_limit() {
    for (form, limit) in [
        ("subject", 1_024),
        ("short", 1_024),
        ("text", 256 * 1_024),
        ("html", 256 * 1_024),
    ] {
        let line = "x".repeat(1_024);
        let times = limit / 1_024;
        let source = |times| {
            let text = format!("{{% for i in range({times}) %}}{line}{{% endfor %}}");
            serde_json::from_value::<TemplateSource>(json!({form: text, "in_app": {"title": "T"}}))
                .expect("a source")
        };
        assert!(render(&source(times), json!({})).is_ok(), "{form}");
        let said = fault(&source(times + 1), json!({}));
        assert!(said.contains(&format!("gives more than {limit} bytes")), "{said}");
    }
}

#[test]
fn filters_print_for_people() {
    let data = json!({
        "n": 1_234_567, "f": -1234.5, "at": "2026-07-01T22:30:00Z", "s": "straße & co", "l": ["a", "b"], "nothing": 0.001,
        "o": {"b": 1}, "p": {"b": 1}, "k": ["b", "a"], "e": {}
    });
    for (text, expected) in [
        ("{{ n|number }}", "1,234,567"),
        ("{{ f|number(2, '.', ',') }}", "-1.234,50"),
        ("{{ (0 - nothing)|number(2) }}", "0.00"),
        ("{{ 999|number }} {{ 1000|number }}", "999 1,000"),
        ("{{ at|date }}", "2026-07-01 22:30"),
        (
            "{{ at|date('%d.%m.%Y %H:%M', 'Europe/Berlin') }}",
            "02.07.2026 00:30",
        ),
        ("{{ 0|date('%A, %e %B %Y') }}", "Thursday,  1 January 1970"),
        ("{{ s|upper }}", "STRASSE & CO"),
        ("{{ s|capitalize }}", "Straße & co"),
        ("{{ s|truncate(7) }}", "straße…"),
        ("{{ s|truncate(50) }}", "straße & co"),
        ("{{ s|replace('&', 'and') }}", "straße and co"),
        ("{{ s|urlencode }}", "stra%C3%9Fe%20%26%20co"),
        ("{{ l|join(', ') }}", "a, b"),
        (
            "{% for x in l|limit(1) %}{{ x }}{% endfor %}{{ l|limit(9)|length }}",
            "a2",
        ),
        ("{{ o|json }}", r#"{"b":1}"#),
        ("{{ n|times(2)|plus(1) }}", "2469135"),
        ("{{ 2.5|round }} {{ 2.345|round(1) }}", "3.0 2.3"),
        ("{{ concat(s, '!') }}", "straße & co!"),
        (
            "{{ o == p }} {{ l == k }} {{ l == o }} {{ l == l|limit(2) }}",
            "true false false false",
        ),
        (
            "{{ l.0 }}{{ l[1] }}{{ o['b'] }}{{ o.b }}{{ l|first }}{{ l|last }}{{ o|first }}",
            "ab11abb",
        ),
        (
            "{% for k in o %}{{ k }}{% endfor %}{% if o and l and not e %}.{% endif %}",
            "b.",
        ),
        ("{% for k, v in o|items %}{{ k }}={{ v }}{% endfor %}", "b=1"),
        (
            "{{ true }} {{ n == 1 }} {{ l|contains('a') }} {{ s|contains('&') }} {{ o|contains('a') }} {{ 'x' in ['x'] }}",
            "true false true true false true",
        ),
        ("{% if l is sequence and n is not none %}yes{% endif %}", "yes"),
    ] {
        assert_eq!(printed(text, data.clone()), expected, "{text}");
    }
}

#[test]
fn filters_refuse_what_they_cannot_print() {
    let data = json!({"o": {"a": 1}, "s": "text", "big": i64::MAX});
    for text in [
        "{{ o }}",
        "{{ o|upper }}",
        "{{ s|number }}",
        "{{ s|date }}",
        "{{ 0|date('%Y', 'Mars/Olympus') }}",
        "{{ 0|date('%255Y') }}",
        "{{ 0|date('%!') }}",
        "{{ big|times(2) }}",
        "{{ s|times(2) }}",
        "{{ 1.5|number(400) }}",
        "{{ 1.5|round(400) }}",
        "{{ s|replace('', 'x') }}",
        "{{ missing|json }}",
        "{{ s.upper }}",
    ] {
        let said = fault(&with_text(text), data.clone());
        assert!(said.starts_with("/text: line 1: "), "{text}: {said}");
    }
}

#[test]
fn a_template_is_compiled_once() {
    let engine = Engine::new();
    let source = title("{{ a }}");
    for a in 0..3 {
        let rendered = engine.render(&source, &json!({"a": a})).expect("renders");
        assert_eq!(rendered.content.title, a.to_string());
    }
    engine.cache.run_pending_tasks();
    assert_eq!(engine.cache.entry_count(), 1);
    // An absent form is another template than an empty one.
    let mut other = source.clone();
    other.in_app.body = Some(String::new());
    assert_ne!(compiled::digest(&source), compiled::digest(&other));
}

#[test]
fn what_was_compiled_does_not_grow_without_end() {
    let engine = Engine::new();
    let padding = "x".repeat(30_000);
    for n in 0..200 {
        let source = with_text(&format!("{n}{padding}"));
        engine.render(&source, &json!({})).expect("renders");
    }
    engine.cache.run_pending_tasks();
    assert!(engine.cache.weighted_size() <= CACHE_BYTES);
    assert!(engine.cache.entry_count() < 150, "{}", engine.cache.entry_count());
}

/// Pieces of templates, put together at random.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{ "),
        Just(" }}"),
        Just("{% "),
        Just(" %}"),
        Just("if "),
        Just("for x in "),
        Just("endfor"),
        Just("endif"),
        Just("else"),
        Just("elif "),
        Just("set "),
        Just("include \"p\""),
        Just("a"),
        Just("b.c"),
        Just("x"),
        Just("loop.index"),
        Just("|upper"),
        Just("|date('%Y')"),
        Just("|number(2)"),
        Just("|safe_url"),
        Just("|json"),
        Just("|join(',')"),
        Just("|replace('a','b')"),
        Just("|truncate(3)"),
        Just("range(3)"),
        Just("1"),
        Just("-"),
        Just("+"),
        Just("/"),
        Just("*"),
        Just("~"),
        Just("%"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("'"),
        Just("\""),
        Just("<a href=\""),
        Just("<b>"),
        Just(">"),
        Just("<!--"),
        Just("-->"),
        Just("<script>"),
        Just("</script>"),
        Just("{#"),
        Just("#}"),
        Just("raw"),
        Just("endraw"),
        Just(" is "),
        Just("defined"),
        Just("not "),
        Just(","),
        Just(":"),
        Just("="),
        Just("é"),
        Just("\n"),
        Just("[1:2]"),
        Just("9223372036854775807"),
        Just("1e308"),
        Just("style=\""),
        Just("with a=1"),
        Just("endwith"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_panics(html in pieces(), text in pieces(), partial in pieces(), noise in ".{0,60}", a in any::<i64>(), f in any::<f64>()) {
        let mut source = html_of(&html);
        source.text = Some(text);
        source.short = Some(noise);
        source.partials.insert("p".into(), partial);
        let data = json!({"a": a, "b": {"c": "<x> é"}, "x": [f, null, "s"]});
        let begun = Instant::now();
        let checked = Engine::new().check(&source);
        let rendered = render(&source, data);
        if let Err(faults) = checked {
            prop_assert!(!faults.is_empty());
        }
        // Where values stand in HTML is checked when it is saved, all else each time.
        let without_html = TemplateSource { html: None, ..source };
        if Engine::new().check(&without_html).is_err() {
            prop_assert!(rendered.is_err(), "renders what may not be saved");
        }
        prop_assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
