//! Templates that want too much. Memory is measured in `tests/template_memory.rs`, in a process of its own.

use super::*;

/// Unoptimised, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn ends(text: &str) -> String {
    let begun = Instant::now();
    let big = "x".repeat(10_000);
    let said = match render(
        &with_text(text),
        json!({"s": big, "l": vec![0; 5_000], "k": vec![0; 5_000], "n": 100_000_000}),
    ) {
        Ok(_) => panic!("rendered: {text:.80}"),
        Err(fault) => fault.to_string(),
    };
    assert!(begun.elapsed() < SOON, "{:?}: {text:.80}", begun.elapsed());
    said
}

#[test]
fn steps_are_bounded() {
    for text in [
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{{ s == s }}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% if l == k %}{% endif %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% if 'y' in 'abc' %}{% endif %}{% endfor %}{% endfor %}",
        "{% for c in s %}{% for d in s %}{% endfor %}{% endfor %}",
    ] {
        assert!(ends(text).ends_with("takes too many steps"), "{text}");
    }
}

#[test]
fn text_is_not_multiplied() {
    let doubling = "{% set s = concat(s, s) %}".repeat(60);
    let replacing = "{% set s = s|replace('x', s) %}".repeat(5);
    let joining = "{{ range(1000)|join(s) }}";
    let upper = "{% for a in range(1000) %}{{ s|upper|lower|length }}{% endfor %}";
    let counting = "{% for a in range(1000) %}{% for b in range(1000) %}{% if s|length %}{% endif %}{% endfor %}{% endfor %}";
    let searching = "{% for a in range(1000) %}{% for b in range(1000) %}{% if l|contains(1) %}{% endif %}{% endfor %}{% endfor %}";
    for text in [&*doubling, &*replacing, joining, upper, counting, searching] {
        assert!(ends(text).contains("make more than 1 MiB"), "{text:.80}");
    }
}

#[test]
fn ranges_are_bounded() {
    for text in [
        "{{ range(n)|length }}",
        "{{ range(0 - n, n)|length }}",
        "{{ range(-9223372036854775807, n)|length }}",
    ] {
        assert!(ends(text).contains("a range has at most"), "{text}");
    }
}

#[test]
fn operators_that_multiply_are_refused_before_anything_is_computed() {
    for text in [
        "{{ 'x' * 100000000 }}",
        "{{ s * n }}",
        "{{ [0] * 100000000 }}",
        "{{ l * n }}",
        "{{ 2 ** 1000000 }}",
        "{{ s ~ s }}",
        "{{ s + s }}",
        "{% set a = [s, s] %}",
        "{% set a = {'a': s} %}",
        "{% set a = (s, s) %}",
        "{% set a %}{{ s }}{{ s }}{% endset %}",
        "{% filter upper %}{{ s }}{% endfilter %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in l recursive %}{{ loop(l) }}{% endfor %}",
        "{{ '%999999999d'|format(1) }}",
        "{{ s|indent(1000000000) }}",
        "{{ s|center(1000000000) }}",
        "{{ concat(*range(1000)) }}",
        "{{ s[1:] }}",
        "{{ 1 in l }}",
        "{{ 1 < 2 not in l }}",
        "{{ dict(a=s) }}",
        "{{ namespace(a=s) }}",
        "{{ debug() }}",
        "{% set n.a = s %}",
        "{{ self.a() }}",
        "{{ loop.cycle(s, s) }}",
        "{% extends 'a' %}",
        "{% import 'a' as b %}",
        "{% include s %}",
        "{% include '/etc/passwd' %}",
        "{{ s|safe }}",
        "{% autoescape false %}{{ s }}{% endautoescape %}",
    ] {
        let faults = faults(&with_text(text));
        assert!(faults[0].starts_with("/text: "), "{text}: {faults:?}");
        assert!(render(&with_text(text), json!({})).is_err(), "{text}");
    }
}

#[test]
fn nothing_runs_deep_enough_to_fall() {
    let plus = format!("{{{{ 1{} }}}}", "+1".repeat(60_000));
    let filters = format!("{{{{ s{} }}}}", "|upper".repeat(20_000));
    let dots = format!("{{{{ s{} }}}}", ".a".repeat(50_000));
    let brackets = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    let lists = format!("{{{{ {}1{} }}}}", "[".repeat(150), "]".repeat(150));
    let nots = format!("{{{{ {}1 }}}}", "not ".repeat(30_000));
    let elif = format!("{{% if s %}}{}{{% endif %}}", "{% elif s %}".repeat(9_000));
    let nested = format!("{}{}", "{% if s %}".repeat(5_000), "{% endif %}".repeat(5_000));
    let tags = "{{s}}".repeat(20_000);
    for text in [plus, filters, dots, brackets, lists, nots, elif, nested, tags] {
        let begun = Instant::now();
        assert!(!faults(&with_text(&text)).is_empty(), "{text:.40}");
        assert!(begun.elapsed() < SOON, "{text:.40}");
    }
    // What is allowed runs on a small stack, also unoptimised.
    let deepest = format!("{{{{ {}1{} }}}}", "(".repeat(16), ")".repeat(16));
    let longest = format!("{{{{ 1{} }}}}", "+1".repeat(49));
    let nots = format!("{{{{ {}1 }}}}", "not ".repeat(16));
    let filters = format!("{{{{ s{} }}}}", "|upper".repeat(49));
    let nested = format!("{}x{}", "{% if s %}".repeat(32), "{% endif %}".repeat(32));
    let loops = format!(
        "{}x{}",
        "{% for a in range(1) %}".repeat(32),
        "{% endfor %}".repeat(32)
    );
    let elif = format!("{{% if not s %}}{}{{% endif %}}", "{% elif not s %}".repeat(30));
    let both = format!(
        "{}{{{{ {}1{} }}}}{}",
        "{% if s %}".repeat(32),
        "(-".repeat(16),
        ")".repeat(16),
        "{% endif %}".repeat(32)
    );
    for text in [deepest, longest, nots, filters, nested, loops, elif, both] {
        let small = std::thread::Builder::new().stack_size(1024 * 1024);
        let thread = small.spawn(move || {
            let checked = Engine::new().check(&with_text(&text));
            checked.and_then(|()| render(&with_text(&text), json!({"s": 1})).map_err(|fault| vec![fault]))
        });
        let rendered = thread.expect("a thread").join().expect("no panic");
        rendered.expect("renders");
    }
}

#[test]
fn includes_do_not_go_round_or_multiply() {
    let mut source = with_text("{% include \"a\" %}");
    source.partials.insert("a".into(), "{% include \"b\" %}".into());
    source.partials.insert("b".into(), "{% include \"a\" %}".into());
    assert!(faults(&source)[0].contains("includes itself"));
    // Each includes the next four times.
    let mut source = html_of("{% include \"p00\" %}");
    for n in 0..15 {
        let next = format!("{{% include \"p{:02}\" %}}", n + 1).repeat(4);
        source.partials.insert(format!("p{n:02}"), next);
    }
    source.partials.insert("p15".into(), "x".into());
    let begun = Instant::now();
    assert!(fault(&source, json!({})).starts_with("/"), "depth or steps");
    source.text = source.html.take();
    assert!(fault(&source, json!({})).starts_with("/"), "depth or steps");
    assert!(begun.elapsed() < SOON);
}

#[test]
fn html_is_followed_once_however_often_it_would_be_printed() {
    // A loop's body is followed for the first time round and for the next: fifteen loops would double it fifteen times.
    let loops = |text: &str| {
        let begin = "{% for a in x %}".repeat(15);
        let end = "{% endfor %}".repeat(15);
        html_of(&format!("<style>{begin}{text}{end}</style>"))
    };
    let text = "</styl\n".repeat(17_000);
    let begun = Instant::now();
    assert_eq!(Engine::new().check(&loops(&text)), Ok(()));
    // Each includes the next twice.
    let mut source = html_of("{% include \"p00\" %}");
    for n in 0..15 {
        let next = format!("{{% include \"p{:02}\" %}}", n + 1).repeat(2);
        source.partials.insert(format!("p{n:02}"), next);
    }
    source
        .partials
        .insert("p15".into(), "<b title=\"a\">b</b>\n".repeat(6_000));
    assert_eq!(Engine::new().check(&source), Ok(()));
    // The same text at ever new places: each `x` leaves another beginning of an address.
    let mut source = html_of(&format!("<a href=\"{}\">", "{% include \"long\" %}x".repeat(30)));
    let blank = format!("{}\n", " ".repeat(1_000)).repeat(110);
    source.partials.insert("long".into(), blank);
    assert_eq!(faults(&source), ["/partials/long: includes too much"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_source_is_bounded() {
    let source = with_text(&"x".repeat(MAX_SOURCE + 1));
    assert_eq!(faults(&source), ["/text: must be at most 131072 bytes"]);
    for text in [
        "x".repeat(70_000),
        "\n".repeat(70_000),
        format!("{{# {} #}}", "\n".repeat(70_000)),
    ] {
        assert!(
            faults(&with_text(&text))[0].contains("at most 20000 lines"),
            "{text:.10}"
        );
    }
    let mut source = title("Title");
    for n in 0..=MAX_PARTIALS {
        source.partials.insert(format!("p{n}"), String::new());
    }
    assert_eq!(faults(&source), ["/partials: must be at most 16"]);
}
