//! What was measured in turns, Carillon and floor, and what it is as a figure.

use crate::report::{Figure, median, spread};

/// One value of each per round.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pairs {
    pub(crate) carillon: Vec<f64>,
    pub(crate) floor: Vec<f64>,
}

impl Pairs {
    /// The median of the rounds' ratios with their spread.
    pub(crate) fn ratio(&self) -> String {
        let pairs = self.carillon.iter().zip(&self.floor);
        spread(pairs.map(|(ours, floor)| ours / floor).collect())
    }

    /// Medians with a unit and so many digits, and the ratio of the rounds. Of times that were waited for the best round stands
    /// beside them: the one in which the host took the least away.
    pub(crate) fn figure(&self, name: &'static str, unit: &str, digits: usize, floor: &str) -> Figure {
        let shown = |values: &[f64]| {
            let best = values.iter().copied().reduce(f64::min);
            let shown = format!("{:.digits$} {unit}", median(values.to_vec()));
            match best {
                Some(best) if unit == "ms" && values.len() > 1 => format!("{shown} (best {best:.digits$})"),
                _ => shown,
            }
        };
        Figure {
            name,
            carillon: shown(&self.carillon),
            floor: format!("{}, {floor}", shown(&self.floor)),
            ratio: self.ratio(),
        }
    }
}

/// A figure that has no floor.
pub(crate) fn alone(name: &'static str, carillon: String, floor: impl Into<String>) -> Figure {
    Figure {
        name,
        carillon,
        floor: floor.into(),
        ratio: "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_times_the_best_round_is_shown_too() {
        let pairs = Pairs {
            carillon: vec![3.0, 1.0, 2.0],
            floor: vec![1.0, 1.0, 1.0],
        };
        let waited = pairs.figure("p99", "ms", 1, "bare");
        assert_eq!(
            (waited.carillon.as_str(), waited.floor.as_str()),
            ("2.0 ms (best 1.0)", "1.0 ms (best 1.0), bare")
        );
        assert_eq!(pairs.figure("CPU", "us", 1, "bare").carillon, "2.0 us");
    }
}
