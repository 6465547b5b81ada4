//! Where HTML takes values.

use super::*;

fn refused(html: &str) -> String {
    let faults = faults(&html_of(html));
    assert_eq!(faults.len(), 1, "{html}: {faults:?}");
    faults[0].clone()
}

fn allowed(html: &str) {
    assert_eq!(Engine::new().check(&html_of(html)), Ok(()), "{html}");
}

#[test]
fn values_stand_in_text_and_in_quoted_values() {
    for html in [
        "<p>{{ x }}</p>",
        "<p title=\"{{ x }}\">a < b</p>",
        "<p title='{{ x }} and {{ y }}'>",
        "<title>{{ x }}</title>",
        "<a href=\"https://example.org/{{ x }}?q={{ y|urlencode }}\">",
        "<a href=\"/orders/{{ x }}\">",
        "<a href=\"{{ x|safe_url }}\">{{ x }}</a>",
        "<a href=\"{{ x|safe_url }}?utm={{ y }}\">",
        "<a href=\"mailto:{{ x }}\">",
        "<a href=\"#{{ x }}\">",
        "<td style=\"color: {{ x|safe_css }}; width: 10px\">",
        "<style>.a { color: {{ x|safe_css }} }</style>",
        "<!-- {{ x }} --><p>{{ y }}</p>",
        "<!--[if mso]><a href=\"x\"> {{ x }} <![endif]-->",
        "<br/>{{ x }}<img src='{{ x|safe_url }}'/>",
        "{% if x %}<b>{{ x }}</b>{% else %}<i>{% endif %}{{ y }}",
        "<a {% if x %}class=\"{{ x }}\"{% endif %} href=\"/a\">",
        "<a href=\"{% if x %}https://a/{% else %}/b/{% endif %}{{ y }}\">",
        "{% for i in x %}<li class=\"a{% if i %} b{% endif %}\">{{ i }}</li>{% endfor %}",
        "<script>let a = 1 < 2;</script>{{ x }}",
        "<script>a <</ScRiPt>{{ x }}",
        "<style></styl </style></style >{{ x }}",
        "<title>a < b{% if x %} or {{ x }}{% endif %}</title>",
        "<!DOCTYPE html><html>{{ x }}",
        "{{ \"<b>\"|upper }}",
    ] {
        allowed(html);
    }
}

#[test]
fn where_escaping_is_not_enough_a_filter_is_asked_for() {
    for (html, said) in [
        ("<a href=\"{{ x }}\">", "safe_url"),
        ("<a href=\" {{ x }}\">", "safe_url"),
        ("<A HREF='{{ x|upper }}'>", "safe_url"),
        ("<img src=\"{{ x|safe_url|upper }}\">", "safe_url"),
        ("<form action=\"{{ x }}\">", "safe_url"),
        ("<a href=\"java{{ x }}\">", "urlencode"),
        ("<a href=\"/{{ x }}\">", "urlencode"),
        ("<a href=\"{{ x|urlencode }}{{ y }}\">", "urlencode"),
        ("<a href=\"{% if x %}https://a/{% endif %}{{ y }}\">", "safe_url"),
        ("<td style=\"color: {{ x }}\">", "safe_css"),
        ("<style>{{ x }}</style>", "safe_css"),
    ] {
        let fault = refused(html);
        assert!(fault.contains(said), "{html}: {fault}");
    }
}

#[test]
fn where_nothing_helps_no_value_is_taken() {
    for html in [
        "<a href={{ x|safe_url }}>",
        "<a title={{ x }}>",
        "<a title=a{{ x }}>",
        "<{{ x }}>",
        "<a{{ x }}>",
        "<a {{ x }}>",
        "<a b{{ x }}=\"\">",
        "<a b {{ x }}>",
        "<a onclick=\"{{ x }}\">",
        "<a ONERROR=\"f('{{ x|urlencode }}')\">",
        "<iframe srcdoc=\"{{ x }}\">",
        "<script>let a = {{ x|json }};</script>",
        "<script>{{ x }}",
        "<a href=\"javascript:f({{ x }})\">",
        "<a href=\" JavaScript:{{ x|urlencode }}\">",
        "<a href=\"{{ x|urlencode }}:{{ y|urlencode }}\">",
        "<!-- {{ x }}--><p>",
        "<!--{{ x }} -->",
        "<!--><a href={{ x }}>-->",
        "<!DOCTYPE {{ x }}>",
        "<a title=\"{% if x %}\">{% endif %}",
        "{% for i in x %}<a title=\"{% endfor %}",
        "{% if x %}<script>{% endif %}{{ y }}",
        "<p title=\"",
        "<p",
        "<!-- never ends",
        "<title><a title=\"</title><a href={{ x }}>",
        "<title></titl{{ x }}>",
        "<title></title{{ x }}>",
        "<title>{% if x %}</title{% endif %}><a href=\"{{ x }}\">",
    ] {
        let fault = refused(html);
        assert!(fault.starts_with("/html: "), "{html}: {fault}");
    }
}

#[test]
fn a_partial_is_followed_where_it_stands() {
    let mut source = html_of("<a href=\"{% include \"link\" %}\">");
    source.partials.insert("link".into(), "{{ x }}".into());
    assert!(faults(&source)[0].starts_with("/partials/link: line 1: "));
    source.html = Some("<p>{% include \"link\" %}</p>".into());
    assert_eq!(Engine::new().check(&source), Ok(()));
}

#[test]
fn a_link_from_data_runs_nothing() {
    let source = html_of("<a href=\"{{ x|safe_url }}\">{{ x }}</a>");
    for bad in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        " javascript:alert(1)",
        "\u{1}javascript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "//evil.example/a",
        "/\\evil.example",
        "file:///etc/passwd",
        "https://",
        "",
    ] {
        assert!(
            fault(&source, json!({"x": bad})).contains("safe_url takes"),
            "{bad:?}"
        );
    }
    for good in [
        "https://example.org/a?b=c",
        "http://example.org",
        "/a/b",
        "#top",
        "mailto:ada@example.org",
        "tel:+491234",
    ] {
        assert!(render(&source, json!({"x": good})).is_ok(), "{good}");
    }
}

#[test]
fn escaping_leaves_no_way_out_of_text_or_quotes() {
    let source = html_of("<p title=\"{{ x }}\" class='{{ x }}'>{{ x }}{{ x|linebreaks }}</p>");
    let hostile = "\"'><script>alert(1)</script>&\n<br>";
    let rendered = render(&source, json!({"x": hostile})).expect("renders");
    let html = rendered.forms.html.expect("html");
    assert_eq!(html.matches('<').count(), 3, "{html}");
    assert_eq!(html.matches('"').count(), 2, "{html}");
    assert_eq!(html.matches('\'').count(), 2, "{html}");
    assert_eq!(html.matches("<br>").count(), 1, "{html}");
    // Only HTML is escaped.
    assert_eq!(printed("{{ x|linebreaks }}", json!({"x": "a & b"})), "a & b");
}
