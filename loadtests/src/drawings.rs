//! What scenarios want drawn, and the drawings of a whole run.

use hdrhistogram::Histogram;

use crate::{
    commands::Kind,
    svg::{Axes, Series, bars, lines},
};

/// One line or bar.
pub(crate) enum Drawing {
    /// Milliseconds and the share of publications that had arrived by then.
    Latency { name: String, points: Vec<(f64, f64)> },
    /// Connections and bytes above the empty process.
    Memory { name: String, points: Vec<(f64, f64)> },
    /// Microseconds per delivery.
    Cpu {
        who: String,
        scenario: String,
        each: f64,
    },
}

/// The column of a figure like "1 to 1,000" in the drawing of CPU per delivery.
pub(crate) fn scenario(place: &str, kind: Kind) -> String {
    format!("{} {}", place.trim_start_matches("1 to "), kind.name())
}

/// Shares at which a distribution is drawn.
const SHARES: [f64; 16] = [
    0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0,
];

impl Drawing {
    /// The distribution of a histogram of nanoseconds.
    pub(crate) fn latency(name: String, histogram: &Histogram<u64>) -> Self {
        let points = SHARES
            .iter()
            .map(|share| (histogram.value_at_quantile(*share) as f64 / 1e6, *share));
        Self::Latency {
            name,
            points: points.collect(),
        }
    }
}

/// A scenario and the value of each column, where there is one.
pub(crate) type Group = (String, Vec<Option<f64>>);

/// File name, what it shows in words, and the SVG.
pub(crate) fn draw(drawings: &[Drawing]) -> Vec<(&'static str, &'static str, String)> {
    let (mut latency, mut memory) = (Vec::new(), Vec::new());
    let mut who: Vec<String> = Vec::new();
    let mut scenarios: Vec<Group> = Vec::new();
    for drawing in drawings {
        match drawing {
            Drawing::Latency { name, points } => latency.push(series(name, points)),
            Drawing::Memory { name, points } => memory.push(series(name, points)),
            Drawing::Cpu {
                who: name,
                scenario,
                each,
            } => {
                let column = position_or_push(&mut who, name);
                if !scenarios.iter().any(|(known, _)| known == scenario) {
                    scenarios.push((scenario.clone(), Vec::new()));
                }
                for (known, values) in &mut scenarios {
                    values.resize(who.len().max(values.len()), None);
                    if known == scenario {
                        // Carillon is measured beside each peer: the first one stands.
                        values[column].get_or_insert(*each);
                    }
                }
            }
        }
    }
    let mut drawn = Vec::new();
    if !latency.is_empty() {
        let axes = Axes {
            title: "Latency: share of publications that have arrived",
            x: "milliseconds from when it should have left (logarithmic)",
            y: "share",
            logarithmic: true,
        };
        drawn.push((
            "bench-latency.svg",
            "Latency as a distribution",
            lines(&axes, &latency),
        ));
    }
    if !memory.is_empty() {
        let axes = Axes {
            title: "Memory of idle connections, user space, above the empty process",
            x: "connections",
            y: "bytes",
            logarithmic: false,
        };
        drawn.push((
            "bench-memory.svg",
            "Memory over connections",
            lines(&axes, &memory),
        ));
    }
    if !scenarios.is_empty() {
        drawn.push((
            "bench-cpu.svg",
            "CPU per delivery",
            bars(
                "CPU per delivery by connections, servers in turns on one core",
                "us",
                &scenarios,
                &who,
            ),
        ));
    }
    drawn
}

fn series(name: &str, points: &[(f64, f64)]) -> Series {
    Series {
        name: name.to_owned(),
        points: points.to_vec(),
    }
}

fn position_or_push(names: &mut Vec<String>, name: &str) -> usize {
    if let Some(at) = names.iter().position(|known| known == name) {
        return at;
    }
    names.push(name.to_owned());
    names.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_drawing_gets_a_file_and_a_peer_keeps_its_column() {
        let cpu = |who: &str, scenario: &str, each| Drawing::Cpu {
            who: who.to_owned(),
            scenario: scenario.to_owned(),
            each,
        };
        let drawings = [
            cpu("Carillon", "1 to 1,000", 4.0),
            cpu("nchan", "1 to 1,000", 8.0),
            cpu("nchan", "1 to 10,000", 8.0),
            Drawing::Memory {
                name: "Carillon".to_owned(),
                points: vec![(1.0, 1.0), (2.0, 2.0)],
            },
        ];
        let drawn = draw(&drawings);
        let names: Vec<_> = drawn.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["bench-memory.svg", "bench-cpu.svg"]);
        // Ground, three bars, two signs.
        assert_eq!(drawn[1].2.matches("<rect").count(), 6);
    }
}
