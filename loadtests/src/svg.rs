//! Charts as SVG text, readable on a light and on a dark page.

use std::fmt::Write as _;

use crate::drawings::Group;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 230.0;
const BOTTOM: f64 = 50.0;
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}\
.back{fill:#ffffff}.grid{stroke:#d0d7de}.line{fill:none;stroke-width:2}\
.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}.c4{stroke:#cf222e}.c5{stroke:#9a6700}.c6{stroke:#1b7c83}.c7{stroke:#6e7781}\
.f0{fill:#0969da}.f1{fill:#bc4c00}.f2{fill:#1a7f37}.f3{fill:#8250df}.f4{fill:#cf222e}.f5{fill:#9a6700}.f6{fill:#1b7c83}.f7{fill:#6e7781}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}\
.c0{stroke:#58a6ff}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#bc8cff}.c4{stroke:#ff7b72}.c5{stroke:#d29922}.c6{stroke:#39c5cf}.c7{stroke:#8b949e}\
.f0{fill:#58a6ff}.f1{fill:#f0883e}.f2{fill:#3fb950}.f3{fill:#bc8cff}.f4{fill:#ff7b72}.f5{fill:#d29922}.f6{fill:#39c5cf}.f7{fill:#8b949e}}";
const COLOURS: usize = 8;

/// One line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What the axes say.
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Whether a step to the right multiplies.
    pub(crate) logarithmic: bool,
}

/// A chart with lines.
pub(crate) fn lines(axes: &Axes<'_>, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let place = |x: f64| if axes.logarithmic { x.max(1e-6).log10() } else { x };
    let (mut least, mut most) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (x, _)| {
        (least.min(place(*x)), most.max(place(*x)))
    });
    if axes.logarithmic {
        (least, most) = (least.floor(), most.ceil());
    } else {
        least = 0.0;
    }
    let highest = points()
        .fold(0.0_f64, |highest, (_, y)| highest.max(*y))
        .max(1e-9);
    let at = |x: f64, y: f64| {
        let across = (place(x) - least) / (most - least).max(1e-9);
        (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / highest * (HEIGHT - TOP - BOTTOM),
        )
    };
    let mut svg = begin(axes.title);
    for step in 0..=4 {
        let value = highest * f64::from(step) / 4.0;
        let (_, y) = at(1.0, value);
        grid(&mut svg, (LEFT, y), (WIDTH - RIGHT, y));
        text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &short(value));
    }
    let marks: Vec<f64> = if axes.logarithmic {
        (least as i32..=most as i32)
            .map(|power| 10_f64.powi(power))
            .collect()
    } else {
        (0..=4).map(|step| most * f64::from(step) / 4.0).collect()
    };
    for mark in marks {
        let (x, _) = at(mark, 0.0);
        grid(&mut svg, (x, TOP), (x, HEIGHT - BOTTOM));
        text(&mut svg, (x, HEIGHT - BOTTOM + 18.0), "middle", &short(mark));
    }
    for (number, Series { name, points }) in series.iter().enumerate() {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = at(*x, *y);
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let _ = write!(
            svg,
            r#"<polyline class="line c{}" points="{}"/>"#,
            number % COLOURS,
            path.trim_end()
        );
        legend(&mut svg, number, name);
    }
    text(
        &mut svg,
        ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0),
        "middle",
        axes.x,
    );
    text(&mut svg, (8.0, TOP - 8.0), "start", axes.y);
    svg + "</svg>\n"
}

/// Bars beside each other in groups; `None` leaves a place empty.
pub(crate) fn bars(title: &str, unit: &str, groups: &[Group], series: &[String]) -> String {
    let values = groups.iter().flat_map(|(_, values)| values.iter().flatten());
    let highest = values
        .fold(0.0_f64, |highest, value| highest.max(*value))
        .max(1e-9);
    let mut svg = begin(title);
    let floor = HEIGHT - BOTTOM;
    for step in 0..=4 {
        let value = highest * f64::from(step) / 4.0;
        let y = floor - value / highest * (floor - TOP);
        grid(&mut svg, (LEFT, y), (WIDTH - RIGHT, y));
        text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &short(value));
    }
    let group = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    let bar = group * 0.8 / series.len().max(1) as f64;
    for (number, (name, values)) in groups.iter().enumerate() {
        let left = LEFT + group * number as f64 + group * 0.1;
        for (which, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let height = value / highest * (floor - TOP);
            let _ = write!(
                svg,
                r#"<rect class="f{}" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"/>"#,
                which % COLOURS,
                left + bar * which as f64,
                floor - height,
                (bar - 1.0).max(1.0)
            );
        }
        text(&mut svg, (left + group * 0.4, floor + 18.0), "middle", name);
    }
    for (number, name) in series.iter().enumerate() {
        legend(&mut svg, number, name);
    }
    text(&mut svg, (8.0, TOP - 8.0), "start", unit);
    svg + "</svg>\n"
}

fn begin(title: &str) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{0}"><style>{STYLE}</style><rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>"#,
        escaped(title)
    );
    let _ = write!(
        svg,
        r#"<text class="title" x="{LEFT}" y="20">{}</text>"#,
        escaped(title)
    );
    svg
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        svg,
        r#"<line class="grid" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, content: &str) {
    let _ = write!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
        at.0,
        at.1,
        escaped(content)
    );
}

fn legend(svg: &mut String, number: usize, name: &str) {
    let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 10.0 + 20.0 * number as f64);
    let _ = write!(
        svg,
        r#"<rect class="f{}" x="{x:.1}" y="{:.1}" width="10" height="10"/>"#,
        number % COLOURS,
        y - 9.0
    );
    text(svg, (x + 16.0, y), "start", name);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A number in a few characters.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.1}M", value / 1e6),
        size if size >= 1e4 => format!("{:.0}k", value / 1e3),
        size if size >= 10.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(logarithmic: bool) -> String {
        let axes = Axes {
            title: "p99 < 1 & more",
            x: "ms",
            y: "share",
            logarithmic,
        };
        let series = [Series {
            name: "Carillon".to_owned(),
            points: vec![(0.1, 0.0), (1.0, 0.5), (10.0, 1.0)],
        }];
        lines(&axes, &series)
    }

    #[test]
    fn points_lie_where_the_axes_say_and_text_is_escaped() {
        let svg = chart(true);
        assert!(
            svg.contains(r#"points="70.0,330.0 300.0,185.0 530.0,40.0""#),
            "{svg}"
        );
        assert!(svg.contains("p99 &lt; 1 &amp; more"));
        assert!(svg.contains("prefers-color-scheme:dark"));
        let linear = chart(false);
        assert!(!linear.contains("300.0,185.0"), "{linear}");
    }

    #[test]
    fn the_highest_bar_fills_the_chart_and_a_missing_value_has_none() {
        let groups = [("1 to 1,000".to_owned(), vec![Some(4.0), None, Some(8.0)])];
        let names = ["a", "b", "c"].map(str::to_owned);
        let svg = bars("CPU", "us", &groups, &names);
        assert!(
            svg.contains(r#"height="290.0""#) && svg.contains(r#"height="145.0""#),
            "{svg}"
        );
        // The ground, two bars and three signs of the legend.
        assert_eq!(svg.matches("<rect").count(), 6);
    }

    #[test]
    fn numbers_are_short() {
        let said: Vec<_> = [0.0, 0.25, 1.5, 42.0, 12_000.0, 2_500_000.0]
            .into_iter()
            .map(short)
            .collect();
        assert_eq!(said, ["0", "0.25", "1.5", "42", "12k", "2.5M"]);
    }
}
