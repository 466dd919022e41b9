//! Indexes of an indexed Job's pods, as they are written: `0,3-5,7`.
//!
//! Upstream: `validateIndexesFormat` in pkg/apis/batch/validation.

/// The intervals, or what is wrong.
pub(super) fn parse(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut found = Vec::new();
    let mut last: Option<i64> = None;
    if text.is_empty() {
        return Ok(found);
    }
    for part in text.split(',') {
        let limits: Vec<&str> = part.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let first = number(limits[0])?;
        let end = limits.get(1).map_or(Ok(first), |it| number(it))?;
        for it in [first, end] {
            if it >= completions {
                return Err(format!("too large index: {it:?}", it = it.to_string()));
            }
        }
        if last.is_some_and(|last| last >= first) {
            let last = last.unwrap_or_default();
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if limits.len() == 2 && first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        found.push((first, end));
        last = Some(end);
    }
    Ok(found)
}

fn number(text: &str) -> Result<i64, String> {
    let number = text.parse::<u32>().ok().map(i64::from);
    number.ok_or_else(|| format!("cannot convert string to integer for index: {text:?}"))
}

/// How many indexes there are.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let all = parse(text, completions)?;
    Ok(all.into_iter().map(|(first, last)| last - first + 1).sum())
}

/// An index that is in both.
pub(super) fn common(one: &str, other: &str, completions: i64) -> Option<i64> {
    let (one, other) = (parse(one, completions).ok()?, parse(other, completions).ok()?);
    let overlap = |(a, b): (i64, i64)| {
        other.iter().map(move |(c, d)| (a.max(*c), b.min(*d))).find(|(from, to)| from <= to)
    };
    one.into_iter().find_map(overlap).map(|(from, _)| from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_rise_and_are_fewer_than_the_completions() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert!(count("0,5", 5).unwrap_err().contains("too large index"));
        assert!(count("3,1", 5).unwrap_err().contains("non-increasing order"));
        assert!(count("4-2", 5).unwrap_err().contains("non-increasing order"));
        assert!(count("1-2-3", 5).unwrap_err().contains("at most two parts"));
        assert!(count("x", 5).unwrap_err().contains("cannot convert string to integer"));
        assert_eq!(common("0-3", "3-4", 5), Some(3));
        assert_eq!(common("0-2", "3-4", 5), None);
    }
}
