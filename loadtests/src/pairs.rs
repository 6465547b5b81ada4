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

    /// Medians with a unit and so many digits, and the ratio of the rounds.
    pub(crate) fn figure(&self, name: &'static str, unit: &str, digits: usize, floor: &str) -> Figure {
        Figure {
            name,
            carillon: format!("{:.digits$} {unit}", median(self.carillon.clone())),
            floor: format!("{:.digits$} {unit}, {floor}", median(self.floor.clone())),
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
