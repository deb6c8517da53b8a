use std::time::Duration;

/// Times that something took, in order.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The time that `percent` of 100 did not exceed; `None` if there are none.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        self.sorted.get(self.sorted.len() * percent / 100).or_else(|| self.sorted.last()).copied()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut sorted: Vec<_> = times.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_do_not_depend_on_the_order_of_arrival() {
        let latencies: Latencies = (0..200).rev().map(Duration::from_millis).collect();
        assert_eq!(latencies.percentile(50), Some(Duration::from_millis(100)));
        assert_eq!(latencies.percentile(99), Some(Duration::from_millis(198)));
        assert_eq!(latencies.percentile(100), Some(Duration::from_millis(199)));
    }

    #[test]
    fn nothing_measured_has_no_percentile() {
        assert_eq!(Latencies::default().percentile(50), None);
    }
}
