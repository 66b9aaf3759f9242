//! Order statistics of small samples; nothing here assumes a normal distribution.

/// What a sample says about the quantity it was drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle of the sample.
    pub median: f64,
    /// The quartile below the median.
    pub lower_quartile: f64,
    /// The quartile above the median.
    pub upper_quartile: f64,
    /// Lower end of the bootstrap 95 % interval of the median.
    pub low: f64,
    /// Upper end of the bootstrap 95 % interval of the median.
    pub high: f64,
}

const RESAMPLES: usize = 2_000;

impl Spread {
    /// Summarises `values`; all NaN if there are none. Equal values and seed give equal intervals.
    pub fn of(values: &[f64], seed: u64) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut resample = sorted.clone();
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                resample.fill_with(|| {
                    if sorted.is_empty() {
                        f64::NAN
                    } else {
                        sorted[random.usize(..sorted.len())]
                    }
                });
                resample.sort_by(f64::total_cmp);
                quantile(&resample, 0.5)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Spread {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            low: quantile(&medians, 0.025),
            high: quantile(&medians, 0.975),
        }
    }

    /// Half the width of the 95 % interval, as a part of the median.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median
    }
}

/// The median of `values`, NaN if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The quantile at `part` of a sorted sample, between its neighbours by straight line.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = part * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::{Spread, median, quantile};

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn quartiles_lie_between_neighbours() {
        let sorted = [0.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.25), 1.0);
        assert_eq!(quantile(&sorted, 0.125), 0.5);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
    }

    #[test]
    fn bootstrap_repeats_with_its_seed_and_surrounds_the_median() {
        let values: Vec<f64> = (0..41).map(f64::from).collect();
        let first = Spread::of(&values, 7);
        assert_eq!(first, Spread::of(&values, 7));
        assert_eq!(first.median, 20.0);
        assert!(first.low < 20.0 && first.high > 20.0);
        assert!(first.low > values[0] && first.high < values[40]);
    }

    #[test]
    fn bootstrap_of_equal_values_has_no_width() {
        let spread = Spread::of(&[2.0; 40], 1);
        assert_eq!(
            (spread.low, spread.high, spread.half_width()),
            (2.0, 2.0, 0.0)
        );
    }

    #[test]
    fn an_empty_sample_is_not_a_number() {
        let spread = Spread::of(&[], 1);
        assert!(spread.median.is_nan() && spread.low.is_nan());
    }
}
