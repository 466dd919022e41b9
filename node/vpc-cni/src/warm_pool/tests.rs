//! The published rows, and the edges of each target.

use super::*;

fn targets(warm_eni: usize, warm_ip: usize, minimum_ip: usize) -> Targets {
    Targets { warm_eni, warm_ip, minimum_ip, warm_prefix: 0, is_prefix_mode: false }
}

/// Grows a pool the way ipamd does, one step at a time, until its targets are met.
fn settle(targets: Targets, max_enis: usize, per_eni: usize, pods: usize) -> (usize, usize) {
    // Pods that got no address yet are assigned as the pool grows.
    let (mut enis, mut total) = (1, 0);
    loop {
        let stock = Stock { total, assigned: pods.min(total), ..Stock::default() };
        let mut level = targets.level(&stock, per_eni);
        if pods > total {
            // Pods that wait make it grow as if they had taken what there is.
            level = match level {
                Level::TooLow { short: Some(short) } => Level::TooLow { short: Some(short) },
                _ => Level::TooLow { short: None },
            };
        }
        let Level::TooLow { short } = level else { return (enis, total) };
        let room = enis * per_eni - total;
        if room == 0 && enis == max_enis {
            return (enis, total);
        }
        if room == 0 {
            enis += 1;
            continue;
        }
        total += room.min(short.unwrap_or(room));
    }
}

/// Type, limits, targets, pods → attached interfaces, addresses, unused addresses.
#[test]
fn the_sixteen_published_rows() {
    let t3 = |targets, pods| (3, 3, targets, pods);
    let p3dn = |targets, pods| (15, 49, targets, pods);
    let rows = [
        (t3(targets(1, 0, 0), 0), (1, 3, 3)),
        (t3(targets(1, 0, 0), 5), (3, 9, 4)),
        (t3(targets(1, 0, 0), 9), (3, 9, 0)),
        (t3(targets(0, 1, 1), 0), (1, 1, 1)),
        (t3(targets(0, 1, 1), 5), (2, 6, 1)),
        (t3(targets(0, 1, 1), 9), (3, 9, 0)),
        (t3(targets(0, 2, 5), 0), (2, 5, 5)),
        (t3(targets(0, 2, 5), 5), (3, 7, 2)),
        (t3(targets(0, 2, 5), 9), (3, 9, 0)),
        (p3dn(targets(1, 0, 0), 0), (1, 49, 49)),
        (p3dn(targets(1, 0, 0), 3), (2, 98, 95)),
        (p3dn(targets(1, 0, 0), 95), (3, 147, 52)),
        (p3dn(targets(0, 5, 10), 0), (1, 10, 10)),
        (p3dn(targets(0, 5, 10), 7), (1, 12, 5)),
        (p3dn(targets(0, 5, 10), 15), (1, 20, 5)),
        (p3dn(targets(0, 5, 10), 45), (2, 50, 5)),
    ];
    for ((max_enis, per_eni, targets, pods), (enis, total, unused)) in rows {
        let found = settle(targets, max_enis, per_eni, pods);
        assert_eq!(found, (enis, total), "{targets:?} with {pods} pods");
        assert_eq!(found.1 - pods, unused, "{targets:?} with {pods} pods");
    }
}

#[test]
fn addresses_above_both_targets_are_too_many() {
    let targets = targets(1, 2, 5);
    let stock = |total, assigned| Stock { total, assigned, ..Stock::default() };
    assert_eq!(targets.level(&stock(9, 0), 3), Level::TooHigh { over: 4 });
    assert_eq!(targets.level(&stock(9, 6), 3), Level::TooHigh { over: 1 });
    assert_eq!(targets.level(&stock(5, 3), 3), Level::Right);
    assert_eq!(targets.level(&stock(5, 4), 3), Level::TooLow { short: Some(1) });
}

#[test]
fn only_a_minimum_never_grows_past_it() {
    let targets = targets(1, 0, 3);
    let full = Stock { total: 3, assigned: 3, ..Stock::default() };
    assert_eq!(targets.level(&full, 3), Level::Right);
}

#[test]
fn no_warm_interface_grows_only_when_nothing_is_left() {
    let targets = targets(0, 0, 0);
    let stock = |assigned| Stock { total: 3, assigned, ..Stock::default() };
    assert_eq!(targets.level(&stock(2), 3), Level::Right);
    assert_eq!(targets.level(&stock(3), 3), Level::TooLow { short: None });
}

#[test]
fn an_interface_is_spared_when_one_more_than_the_target_is_free() {
    let targets = targets(1, 0, 0);
    let eni = Stock { total: 3, ..Stock::default() };
    let stock = |assigned| Stock { total: 9, assigned, ..Stock::default() };
    assert!(targets.can_spare(&stock(3), &eni, 3));
    assert!(!targets.can_spare(&stock(4), &eni, 3));
}

#[test]
fn prefixes_are_counted_in_sixteens() {
    let by_prefix = Targets { is_prefix_mode: true, warm_prefix: 1, ..targets(1, 0, 0) };
    let stock = |total, assigned, prefixes, free_prefixes| Stock {
        total,
        assigned,
        prefixes,
        free_prefixes,
    };
    assert_eq!(by_prefix.level(&stock(0, 0, 0, 0), 9), Level::TooLow { short: Some(1) });
    assert_eq!(by_prefix.level(&stock(16, 0, 1, 1), 9), Level::Right);
    assert_eq!(by_prefix.level(&stock(16, 1, 1, 0), 9), Level::TooLow { short: Some(1) });
    assert_eq!(by_prefix.level(&stock(48, 1, 3, 2), 9), Level::TooHigh { over: 1 });

    let by_address = Targets { warm_ip: 5, minimum_ip: 20, ..by_prefix };
    assert_eq!(by_address.level(&stock(0, 0, 0, 0), 9), Level::TooLow { short: Some(2) });
    assert_eq!(by_address.level(&stock(32, 0, 2, 2), 9), Level::Right);
    assert_eq!(by_address.level(&stock(48, 0, 3, 3), 9), Level::TooHigh { over: 1 });
    assert_eq!(by_address.level(&stock(48, 30, 3, 1), 9), Level::Right);
}
