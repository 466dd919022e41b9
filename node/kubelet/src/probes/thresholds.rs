//! Counts answers in a row: a probe's verdict changes when enough of them agree.

#[derive(Debug)]
pub(super) struct Thresholds {
    success: u32,
    failure: u32,
    last: Option<bool>,
    run: u32,
}

impl Thresholds {
    pub(super) fn new(success: Option<i32>, failure: Option<i32>) -> Self {
        let at_least_one = |it: Option<i32>, default: u32| {
            it.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(default)
        };
        Self {
            success: at_least_one(success, 1),
            failure: at_least_one(failure, 3),
            last: None,
            run: 0,
        }
    }

    /// The verdict, once enough answers in a row agree.
    pub(super) fn add(&mut self, answer: bool) -> Option<bool> {
        self.run = if self.last == Some(answer) { self.run + 1 } else { 1 };
        self.last = Some(answer);
        let needed = if answer { self.success } else { self.failure };
        (self.run >= needed).then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_enough_answers_in_a_row() {
        let mut thresholds = Thresholds::new(Some(2), Some(3));
        let answers = [true, true, false, false, true, false, false, false, false];
        let verdicts: Vec<_> = answers.into_iter().map(|it| thresholds.add(it)).collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, yes, None, None, None, None, None, no, no]);
    }
}
