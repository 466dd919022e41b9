//! Addresses and blocks of small subnets.

use proptest::prelude::*;

use super::*;

fn subnet(cidr: &str) -> SubnetAddresses {
    SubnetAddresses::new(cidr.parse().unwrap()).unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn a_subnet_of_256_has_251_free_addresses_and_the_first_is_the_fourth() {
    let mut subnet = subnet("10.0.1.0/24");
    assert_eq!(subnet.free(), 251);
    assert_eq!(subnet.take_next(), Ok(ip("10.0.1.4")));
    assert_eq!(subnet.free(), 250);
}

#[test]
fn reserved_taken_and_foreign_addresses_are_refused_with_their_reason() {
    let mut subnet = subnet("10.0.1.0/28");
    for reserved in ["10.0.1.0", "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.15"] {
        assert!(matches!(subnet.take(ip(reserved)), Err(TakeError::Reserved { .. })), "{reserved}");
    }
    assert!(matches!(subnet.take(ip("10.0.1.16")), Err(TakeError::OutOfRange { .. })));
    assert_eq!(subnet.take(ip("10.0.1.4")), Ok(()));
    assert_eq!(subnet.take(ip("10.0.1.4")), Err(TakeError::InUse { address: ip("10.0.1.4") }));
}

#[test]
fn a_request_that_does_not_fit_takes_nothing() {
    let mut subnet = subnet("10.0.1.0/28");
    assert!(matches!(subnet.take_many(12), Err(TakeError::Exhausted { free: 11, .. })));
    assert_eq!(subnet.free(), 11);
    assert_eq!(subnet.take_many(11).unwrap().len(), 11);
    assert!(matches!(subnet.take_next(), Err(TakeError::Exhausted { free: 0, .. })));
}

#[test]
fn blocks_are_aligned_and_avoid_anything_taken() {
    let mut subnet = subnet("10.0.1.0/24");
    assert_eq!(subnet.free_blocks(), 14);
    subnet.take(ip("10.0.1.20")).unwrap();
    assert_eq!(subnet.take_prefixes(1), Ok(vec!["10.0.1.32/28".parse().unwrap()]));
    assert_eq!(subnet.free(), 251 - 1 - 16);
    assert!(matches!(subnet.take(ip("10.0.1.40")), Err(TakeError::InUse { .. })));
    let crossing = "10.0.1.16/28".parse().unwrap();
    assert_eq!(subnet.take_prefix(crossing), Err(TakeError::InUse { address: ip("10.0.1.20") }));
    subnet.release_prefix("10.0.1.32/28".parse().unwrap());
    assert_eq!(subnet.free(), 250);
}

#[test]
fn a_released_address_is_given_again_last() {
    let mut subnet = subnet("10.0.1.0/28");
    let first = subnet.take_next().unwrap();
    subnet.release(first);
    let rest: Vec<_> = (0..11).map(|_| subnet.take_next().unwrap()).collect();
    assert_eq!(rest.last(), Some(&first));
}

#[test]
fn sizes_that_aws_does_not_make_are_refused() {
    for cidr in ["10.0.0.0/15", "10.0.0.0/29"] {
        assert!(SubnetAddresses::new(cidr.parse().unwrap()).is_err(), "{cidr}");
    }
}

#[test]
fn networks_overlap_when_one_holds_the_other() {
    let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
    assert!(overlaps(net("10.0.0.0/16"), net("10.0.3.0/24")));
    assert!(overlaps(net("10.0.3.0/24"), net("10.0.0.0/16")));
    assert!(!overlaps(net("10.0.0.0/24"), net("10.0.1.0/24")));
}

proptest! {
    #[test]
    fn whatever_is_taken_and_released_the_count_is_that_of_the_map(
        steps in proptest::collection::vec((0u8..4, 0u32..64), 0..120),
    ) {
        let mut subnet = subnet("10.0.0.0/26");
        for (step, offset) in steps {
            let address = subnet.address(offset);
            let block = Ipv4Net::new(subnet.address(offset / 16 * 16), 28).unwrap();
            let outcome = match step {
                0 => subnet.take(address),
                1 => subnet.take_next().map(|_| ()),
                2 => subnet.take_prefix(block),
                _ => { subnet.release(address); Ok(()) }
            };
            drop(outcome);
            let zeros: u32 = subnet.blocks.iter().map(|block| block.count_zeros()).sum();
            prop_assert_eq!(subnet.free(), zeros);
        }
    }
}
