//! Whether what was watched over a long time stays level.

use crate::report::median;

/// What was seen, a value per sample.
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    /// What a value is divided by before it is shown, and its unit.
    pub(crate) unit: (f64, &'static str),
    /// Seconds and values.
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) bound: Bound,
}

/// How much something may rise over the judged time: the greater of a share of its median and an amount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) share: f64,
    pub(crate) amount: f64,
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) median: f64,
    /// How much the line through all samples rises from the first to the last; below zero it falls.
    pub(crate) rise: f64,
    pub(crate) allowed: f64,
}

impl Verdict {
    /// What falls is no leak: what left is found missing elsewhere.
    pub(crate) fn is_flat(&self) -> bool {
        self.rise <= self.allowed
    }
}

impl Watched {
    /// Judges the samples from a time on.
    pub(crate) fn judge(&self, from: f64) -> Verdict {
        let points: Vec<_> = self
            .points
            .iter()
            .copied()
            .filter(|(at, _)| *at >= from)
            .collect();
        let median = median(points.iter().map(|(_, value)| *value).collect());
        Verdict {
            median,
            rise: rise(&points),
            allowed: self.bound.amount.max(self.bound.share * median),
        }
    }
}

/// The slope of the straight line with the least squares, times the time that it spans: a leak is steady, and a line through
/// all samples is not moved by how the first or the last one happened to be.
fn rise(points: &[(f64, f64)]) -> f64 {
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
        return 0.0;
    };
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (both, squares) = points.iter().fold((0.0, 0.0), |(both, squares), point| {
        let across = point.0 - x;
        (both + across * (point.1 - y), squares + across * across)
    });
    if squares == 0.0 {
        return 0.0;
    }
    both / squares * (last - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So much at the beginning, so much more per second, and noise to both sides.
    fn watched(begin: f64, per_second: f64, noise: f64) -> Watched {
        let points = (0..600).map(|second| {
            let wave = if second % 7 < 3 { noise } else { -noise };
            (f64::from(second), begin + per_second * f64::from(second) + wave)
        });
        Watched {
            name: "memory",
            unit: (1.0, "B"),
            points: points.collect(),
            bound: Bound {
                share: 0.05,
                amount: 10.0,
            },
        }
    }

    #[test]
    fn what_rises_steadily_is_not_flat_though_noise_hides_it_from_neighbours() {
        let verdict = watched(1_000.0, 0.2, 50.0).judge(120.0);
        assert!((90.0..102.0).contains(&verdict.rise), "{verdict:?}");
        assert!(!verdict.is_flat(), "{verdict:?}");
    }

    #[test]
    fn noise_alone_and_what_falls_are_flat() {
        assert!(watched(1_000.0, 0.0, 50.0).judge(120.0).is_flat());
        assert!(watched(1_000.0, -1.0, 50.0).judge(120.0).is_flat());
    }

    #[test]
    fn what_filled_up_before_the_judged_time_does_not_count() {
        let mut filled = watched(1_000.0, 0.0, 1.0);
        for (at, value) in &mut filled.points[..120] {
            *value = 8.0 * *at;
        }
        assert!(filled.judge(120.0).is_flat());
        assert!(!filled.judge(0.0).is_flat());
    }

    #[test]
    fn few_things_may_rise_by_an_amount_and_no_samples_are_flat() {
        let verdict = watched(20.0, 0.01, 0.0).judge(0.0);
        assert_eq!(verdict.allowed, 10.0);
        assert!(verdict.is_flat());
        assert!(watched(1.0, 1.0, 0.0).judge(700.0).rise == 0.0);
    }
}
