/// One sample of a metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The name, with the suffix `_total` of a counter.
    pub name: String,
    /// The labels, in their order.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// Reads all samples of a page in the OpenMetrics or Prometheus text format.
    pub fn parse_page(page: &str) -> Vec<Self> {
        page.lines().filter(|line| !line.starts_with('#')).filter_map(Self::parse).collect()
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has all of these labels with these values.
    pub fn matches(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?;
        // No label that a proxy emits has a quote or a comma followed by one in it.
        let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some(Self {
            name: name.to_owned(),
            labels: labels.collect::<Option<_>>()?,
            value: value.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let page = "# TYPE a counter\na_total{reporter=\"source\",flags=\"-\"} 3\nb 1.5\n# EOF\n";
        let samples = Metric::parse_page(page);
        assert_eq!(samples.len(), 2);
        assert!(samples[0].matches(&[("flags", "-"), ("reporter", "source")]));
        assert!(!samples[0].matches(&[("reporter", "destination")]));
        assert_eq!((samples[0].value, samples[1].value), (3.0, 1.5));
        assert_eq!((samples[1].name.as_str(), samples[1].labels.len()), ("b", 0));
    }
}
