//! What the checker accepts, and above all what it refuses.

use super::*;

fn operation(ask: Ask, answer: Option<Answer>, began: usize, ended: Option<usize>) -> Operation {
    Operation { ask, answer, began, ended }
}

fn write(value: u64, began: usize, ended: usize) -> Operation {
    operation(Ask::Write(Some(value)), Some(Answer::Done), began, Some(ended))
}

fn lost(value: u64, began: usize, ended: Option<usize>) -> Operation {
    operation(Ask::Write(Some(value)), None, began, ended)
}

fn read(value: impl Into<Held>, began: usize, ended: usize) -> Operation {
    operation(Ask::Read, Some(Answer::Found(value.into())), began, Some(ended))
}

fn swap(expected: u64, to: u64, answer: Answer, began: usize, ended: usize) -> Operation {
    let ask = Ask::Swap { expected: Some(expected), to: Some(to) };
    operation(ask, Some(answer), began, Some(ended))
}

fn holds(operations: &[Operation]) -> bool {
    check(&BTreeMap::from([("k".to_owned(), operations.to_vec())])).is_ok()
}

#[test]
fn operations_at_the_same_time_may_have_either_order() {
    assert!(holds(&[write(1, 1, 4), write(2, 2, 3), read(1, 5, 6)]));
    assert!(holds(&[write(1, 1, 4), write(2, 2, 3), read(2, 5, 6)]));
    assert!(holds(&[write(1, 1, 10), read(None, 2, 3), read(1, 4, 5)]));
}

#[test]
fn a_read_of_what_had_been_overwritten_is_refused() {
    assert!(holds(&[write(1, 1, 2), write(2, 3, 4), read(2, 5, 6)]));
    assert!(!holds(&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)]));
    assert!(!holds(&[write(1, 1, 2), read(None, 3, 4)]));
}

#[test]
fn reads_that_go_back_in_time_are_refused() {
    // Both are at the same time as the write, but one had ended before the other began.
    assert!(!holds(&[write(1, 1, 10), read(1, 2, 3), read(None, 4, 5)]));
}

#[test]
fn two_reads_that_disagree_about_an_order_are_refused() {
    let writes = [write(1, 1, 2), write(2, 1, 2)];
    let reads = [read(1, 3, 4), read(2, 5, 6)];
    assert!(!holds(&[writes[0], writes[1], reads[0], reads[1]]));
}

#[test]
fn a_write_that_was_acknowledged_and_lost_is_refused() {
    assert!(!holds(&[write(1, 1, 2), write(2, 3, 4), lost(3, 5, None), read(1, 6, 7)]));
}

#[test]
fn two_swaps_from_the_same_value_are_refused() {
    let both = |answer| [write(1, 1, 2), swap(1, 2, Answer::Done, 3, 6), swap(1, 3, answer, 4, 5)];
    assert!(!holds(&both(Answer::Done)));
    assert!(holds(&both(Answer::Refused)));
    assert!(!holds(&[write(1, 1, 2), swap(1, 2, Answer::Refused, 3, 4)]), "nobody was before it");
}

#[test]
fn what_was_not_answered_may_have_happened_or_not_or_happen_late() {
    let lost = lost(2, 3, None);
    assert!(holds(&[write(1, 1, 2), lost, read(1, 4, 5)]));
    assert!(holds(&[write(1, 1, 2), lost, read(2, 4, 5)]));
    assert!(holds(&[write(1, 1, 2), lost, read(1, 4, 5), read(2, 6, 7)]));
    assert!(!holds(&[write(1, 1, 2), lost, read(2, 4, 5), read(1, 6, 7)]), "but once");
    assert!(!holds(&[write(1, 1, 2), lost, read(3, 4, 5)]), "and nothing else");
}

#[test]
fn what_a_kill_cut_off_does_not_happen_after_it() {
    let cut = lost(2, 3, Some(4));
    assert!(holds(&[write(1, 1, 2), cut, read(2, 5, 6)]));
    assert!(holds(&[write(1, 1, 2), cut, read(1, 5, 6)]));
    assert!(!holds(&[write(1, 1, 2), cut, read(1, 5, 6), read(2, 7, 8)]));
}

#[test]
fn what_fits_before_and_after_a_cut_does_not_hide_what_was_cut() {
    let refused = swap(9, 4, Answer::Refused, 5, 6);
    assert!(holds(&[write(1, 1, 2), lost(2, 3, Some(4)), refused, read(2, 7, 8)]));
}

#[test]
fn a_violation_says_where_it_is() {
    let keys = BTreeMap::from([
        ("good".to_owned(), vec![write(1, 1, 2)]),
        ("wrong".to_owned(), vec![write(1, 1, 2), read(7, 3, 4)]),
    ]);
    let violation = check(&keys).unwrap_err();
    assert_eq!((violation.key.as_str(), violation.explained), ("wrong", 1));
    assert_eq!(violation.stuck, [read(7, 3, 4)]);
}

/// Many clients at once over one correct register, and the same record with one answer changed.
#[test]
fn a_long_history_is_accepted_and_one_wrong_answer_in_it_is_not() {
    let (mut operations, mut held, mut seed) = (Vec::new(), None, 3_u64);
    let mut under_way: Vec<Operation> = Vec::new();
    for step in 0..3000_usize {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let draw = seed >> 33;
        if under_way.len() < 6 {
            // It takes effect at once, and is answered some time later.
            let value = Some(step as u64);
            let (ask, answer) = match draw % 4 {
                0 => (Ask::Write(value), Answer::Done),
                1 => (Ask::Swap { expected: held, to: value }, Answer::Done),
                2 => (Ask::Swap { expected: Some(u64::MAX), to: value }, Answer::Refused),
                _ => (Ask::Read, Answer::Found(held)),
            };
            if answer == Answer::Done {
                held = value;
            }
            under_way.push(operation(ask, Some(answer), step, None));
        } else {
            let mut ended = under_way.swap_remove(usize::try_from(draw % 6).unwrap());
            ended.ended = Some(step);
            operations.push(ended);
        }
    }
    for mut last in under_way {
        last.ended = Some(3000);
        operations.push(last);
    }
    assert!(holds(&operations));
    let middle = operations.iter().position(|it| it.began > 1500 && it.ask == Ask::Read).unwrap();
    operations[middle].answer = Some(Answer::Found(Some(1)));
    assert!(!holds(&operations));
}
