//! Amounts of memory as operators write them.

/// Reads a number of bytes, or of Ki, Mi or Gi of them, as in Kubernetes; at least one.
pub(crate) fn parse(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(1 << shift)?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_numbers_with_binary_units() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("65536", Some(1 << 16)),
            ("3Ki", Some(3 << 10)),
            ("512Mi", Some(1 << 29)),
            ("2Gi", Some(1 << 31)),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in [
            "",
            "0",
            "0Gi",
            "Gi",
            "1G",
            "1 Gi",
            "-1",
            "1.5Gi",
            "1gi",
            "99999999999999999999",
            "18014398509481984Ki",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
