//! From how much to how much: sizes and costs, which grow to the largest number and no further.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cel) struct Span {
    pub(in crate::cel) least: u64,
    pub(in crate::cel) most: u64,
}

impl Span {
    pub(super) const UNKNOWN: Self = Self { least: 0, most: u64::MAX };

    pub(super) const fn fixed(size: u64) -> Self {
        Self { least: size, most: size }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_add(other.least),
            most: self.most.saturating_add(other.most),
        }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_mul(other.least),
            most: self.most.saturating_mul(other.most),
        }
    }

    /// Times a fraction, rounded up.
    pub(super) fn scaled(self, by: f64) -> Self {
        Self { least: scaled(self.least, by), most: scaled(self.most, by) }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "upstream counts in floating point, and a cast ends at the largest number"
)]
fn scaled(size: u64, by: f64) -> u64 {
    (size as f64 * by).ceil() as u64
}

/// How many of at least `part` letters are in `whole`, rounded up.
pub(super) fn parts(whole: u64, part: u64) -> u64 {
    whole.div_ceil(part.max(1))
}
