//! What a rule is told by from others that have the same key.

/// Some values as a few bits: two of 64 for each, one in either half.
///
/// Of two signatures without a bit in common, in one of the halves, nothing that the one stands for is among what the
/// other stands for. With one value each that is seen in all but one case of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature(u64);

impl Signature {
    /// Stands for no value.
    pub(super) const NONE: Self = Self(0);
    /// Stands for every value.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Adds a value by its number.
    pub(super) fn add(&mut self, number: u64) {
        self.0 |= 1 << (number & 31) | 1 << (32 + (number >> 5 & 31));
    }

    /// Whether one of the values may be among those of the other.
    pub(super) fn may_meet(self, other: Self) -> bool {
        let common = self.0 & other.0;
        self == Self::ALL || (common & LOW != 0 && common & !LOW != 0)
    }
}

const LOW: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Signature {
        let mut signature = Signature::NONE;
        numbers.iter().for_each(|number| signature.add(*number));
        signature
    }

    #[test]
    fn what_is_in_both_is_never_missed() {
        for number in 0..2048 {
            assert!(of(&[1, number, 77]).may_meet(of(&[number, 500])), "{number}");
        }
    }

    #[test]
    fn most_of_what_is_not_in_both_is_seen() {
        let met = (1..1024).filter(|number| of(&[0]).may_meet(of(&[*number]))).count();
        assert_eq!(met, 0, "ten bits of a number count");
        assert!(of(&[0]).may_meet(of(&[1024])));
        assert!(!of(&[0]).may_meet(of(&[1])), "a bit in common in one half is not enough");
    }

    #[test]
    fn all_meets_even_nothing() {
        assert!(Signature::ALL.may_meet(Signature::NONE));
        assert!(!Signature::NONE.may_meet(Signature::ALL));
    }
}
