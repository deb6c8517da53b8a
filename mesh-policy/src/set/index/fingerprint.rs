//! Numbers for values, to find them by.

/// Whether values that differ in case only have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folding {
    Ascii,
    None,
}

/// A number for a value.
///
/// Values that are equal, or with folding equal but for case, have the same number; others seldom do, unless
/// someone looks for them. Then the rules filed under the one are asked about the other, and do not match: so
/// this needs to be fast and not unpredictable. With folding, more than letters collide: that is as harmless.
pub(crate) fn fingerprint(seed: u64, value: &[u8], folding: Folding) -> u64 {
    let fold = match folding {
        Folding::Ascii => 0x2020_2020_2020_2020,
        Folding::None => 0,
    };
    let mut state = seed ^ (value.len() as u64).wrapping_mul(ODD);
    let mut rest = value;
    while let Some((chunk, after)) = rest.split_first_chunk()
        && !after.is_empty()
    {
        state = mix(state ^ (u64::from_le_bytes(*chunk) | fold));
        rest = after;
    }
    mix(state ^ (last_word(value) | fold))
}

/// The last eight bytes, or all if there are fewer, some of them twice: the length is part of the number as well.
fn last_word(value: &[u8]) -> u64 {
    if let Some(last) = value.last_chunk() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (value.first_chunk(), value.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    let at = |index: usize| value.get(index).copied().map_or(0, u64::from);
    at(0) | at(1) << 8 | at(2) << 16
}

/// Both halves of a product depend on all bits of the factors.
#[expect(clippy::cast_possible_truncation, reason = "takes the two halves")]
fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ ODD) * u128::from(ODD.rotate_left(23));
    (product as u64) ^ ((product >> 64) as u64)
}

/// The golden ratio in 64 bits.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn folding_hides_case_and_nothing_else_hides_much() {
        let of = |text: &str, folding| fingerprint(7, text.as_bytes(), folding);
        assert_eq!(of("Example.ORG:8080", Folding::Ascii), of("example.org:8080", Folding::Ascii));
        assert_ne!(of("Example.ORG", Folding::None), of("example.org", Folding::None));
        let texts = (0..10_000).map(|number| format!("example.org/ns/shop/sa/other-{number}"));
        let numbers: HashSet<_> = texts.map(|text| of(&text, Folding::None)).collect();
        assert_eq!(numbers.len(), 10_000);
        assert_ne!(of("", Folding::None), of("\0", Folding::None));
    }
}
