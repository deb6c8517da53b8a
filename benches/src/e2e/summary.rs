/// Several measurements of one quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Summary {
    /// Each of them, in the order of the rounds.
    pub(super) rounds: Vec<f64>,
}

impl Summary {
    /// The value in the middle; `None` if there is none.
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        if sorted.len() % 2 == 1 {
            return Some(upper);
        }
        Some((sorted.get(middle.checked_sub(1)?)? + upper) / 2.0)
    }

    /// Half the distance between the extremes, as a share of the median; `None` with less than two values.
    pub(super) fn spread(&self) -> Option<f64> {
        let median = self.median().filter(|median| *median != 0.0 && self.rounds.len() > 1)?;
        let lowest = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some((highest - lowest) / 2.0 / median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(rounds: &[f64]) -> Summary {
        Summary { rounds: rounds.to_vec() }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(summary(&[]).median(), None);
        assert_eq!(summary(&[7.0]).median(), Some(7.0));
        assert_eq!(summary(&[9.0, 1.0]).median(), Some(5.0));
        assert_eq!(summary(&[9.0, 1.0, 2.0]).median(), Some(2.0));
    }

    #[test]
    fn the_spread_is_relative_to_it() {
        assert_eq!(summary(&[7.0]).spread(), None);
        assert_eq!(summary(&[0.0, 0.0]).spread(), None);
        assert_eq!(summary(&[8.0, 10.0, 12.0]).spread(), Some(0.2));
    }
}
