//! What deliveries cost over the rounds, beside their floors.

use std::{fmt, time::Duration};

use crate::{
    deliveries::Spent,
    report::{Figure, median, spread},
};

/// Microseconds of CPU per delivery, one of each per round.
#[derive(Default)]
pub(crate) struct Costs {
    planning: Vec<f64>,
    delivering: Vec<f64>,
    floor: Vec<f64>,
}

impl Costs {
    /// One round.
    pub(crate) fn add(&mut self, count: usize, spent: &Spent, floor: Duration) {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        self.planning.push(each(spent.planning));
        self.delivering.push(each(spent.delivering));
        self.floor.push(each(floor));
    }

    /// Delivering alone.
    pub(crate) fn delivering(&self, name: &'static str, floor: &str) -> Figure {
        self.figure(name, self.delivering.clone(), floor)
    }

    /// Accepting, planning and delivering.
    pub(crate) fn whole(&self, name: &'static str, floor: &str) -> Figure {
        let both = self.planning.iter().zip(&self.delivering);
        self.figure(name, both.map(|(one, other)| one + other).collect(), floor)
    }

    fn figure(&self, name: &'static str, ours: Vec<f64>, floor: &str) -> Figure {
        let ratios = ours
            .iter()
            .zip(&self.floor)
            .map(|(ours, floor)| ours / floor)
            .collect();
        let (ours, bare) = (median(ours), median(self.floor.clone()));
        Figure {
            name,
            carillon: format!("{ours:.0} us, {:.0} per CPU second", 1e6 / ours),
            floor: format!("{bare:.0} us, {floor}"),
            ratio: spread(ratios),
        }
    }
}

/// The last round.
impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
        write!(
            f,
            "{:.0} us to plan, {:.0} us to deliver, floor {:.0} us",
            last(&self.planning),
            last(&self.delivering),
            last(&self.floor)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_the_ratio_of_each_round() {
        let mut costs = Costs::default();
        for (planning, delivering, floor) in [(50, 100, 50), (50, 300, 50), (50, 150, 30)] {
            let spent = Spent {
                planning: Duration::from_micros(10 * planning),
                delivering: Duration::from_micros(10 * delivering),
            };
            costs.add(10, &spent, Duration::from_micros(10 * floor));
        }
        let figure = costs.delivering("x", "bare");
        assert_eq!(figure.carillon, "150 us, 6667 per CPU second");
        assert_eq!(figure.floor, "50 us, bare");
        assert_eq!(figure.ratio, "5.00 (2.00-6.00)");
        assert_eq!(costs.whole("y", "bare").carillon, "200 us, 5000 per CPU second");
    }
}
