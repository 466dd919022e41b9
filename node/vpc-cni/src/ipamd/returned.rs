//! What was just given back to EC2, and IMDS may still show for a moment: it is not taken in again for
//! a minute, unless EC2 has assigned it anew.
//!
//! Upstream: ipamd's reconcile cooldown cache, 60 s.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::datastore::AttachedEni;

const BLOCKED: Duration = Duration::from_secs(60);

/// By interface and address, or prefix: since when.
#[derive(Debug, Default)]
pub(super) struct Returned(BTreeMap<(String, Ipv4Net), Timestamp>);

impl Returned {
    pub(super) fn note(&mut self, eni: &str, nets: &[Ipv4Net], now: Timestamp) {
        self.0.extend(nets.iter().map(|net| ((eni.to_owned(), *net), now)));
    }

    /// They are the interface's (again).
    pub(super) fn forget(&mut self, eni: &str, nets: &[Ipv4Net]) {
        self.0.retain(|(of, net), _| !(of == eni && nets.contains(net)));
    }

    /// Takes out of what IMDS shows what is the interface's no more.
    pub(super) fn leave_out(&mut self, attached: &mut [AttachedEni], now: Timestamp) {
        self.0.retain(|_, since| now < *since + BLOCKED);
        if self.0.is_empty() {
            return;
        }
        for eni in attached {
            let is_returned = |net: Ipv4Net| self.0.contains_key(&(eni.id.clone(), net));
            eni.addresses.retain(|it| !is_returned((*it).into()));
            eni.prefixes.retain(|it| !is_returned(*it));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);

    fn shown(returned: &mut Returned, seconds: u64) -> (usize, usize) {
        let mut attached = [AttachedEni {
            id: "eni-1".to_owned(),
            mac: String::new(),
            device_number: 0,
            primary_address: Ipv4Addr::new(10, 0, 0, 10),
            subnet_id: String::new(),
            subnet_cidr: "10.0.0.0/24".parse().unwrap(),
            security_groups: Vec::new(),
            addresses: [ADDRESS].into(),
            prefixes: ["10.0.0.32/28".parse().unwrap()].into(),
            is_trunk: false,
        }];
        returned.leave_out(&mut attached, NOW + Duration::from_secs(seconds));
        (attached[0].addresses.len(), attached[0].prefixes.len())
    }

    #[test]
    fn what_imds_still_shows_is_left_out_for_a_minute() {
        let mut returned = Returned::default();
        returned.note("eni-1", &[ADDRESS.into(), "10.0.0.32/28".parse().unwrap()], NOW);
        returned.note("eni-2", &[ADDRESS.into()], NOW);
        assert_eq!(shown(&mut returned, 59), (0, 0));
        assert_eq!(shown(&mut returned, 60), (1, 1));
    }

    #[test]
    fn what_ec2_assigns_again_is_there_at_once() {
        let mut returned = Returned::default();
        returned.note("eni-1", &[ADDRESS.into(), "10.0.0.32/28".parse().unwrap()], NOW);
        returned.forget("eni-2", &[ADDRESS.into()]);
        returned.forget("eni-1", &[ADDRESS.into()]);
        assert_eq!(shown(&mut returned, 1), (1, 0));
    }
}
