//! Who holds the addresses of a subnet, by what EC2 says of its interfaces.
//!
//! The same survey is made by the node's ipamd, with what its role may see, and by
//! `nodestead explain subnet`.

use std::{collections::BTreeMap, net::Ipv4Addr};

use aws_ec2::{network_interface::NetworkInterface, subnet::Subnet};
use ipnet::Ipv4Net;
use serde::Serialize;

use crate::{BLOCK, RESERVED, SubnetAddresses};

/// A subnet's addresses and their holders, the largest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    pub subnet_id: String,
    pub zone: String,
    pub cidr: Ipv4Net,
    /// All addresses but those that AWS keeps.
    pub usable: u32,
    pub reserved: u32,
    pub free: u32,
    /// Whole /28 blocks that are free, which is what prefix delegation takes.
    pub free_blocks: u32,
    /// Free addresses outside of whole blocks: of no use to prefix delegation.
    pub fragmented: u32,
    pub holders: Vec<Holder>,
}

/// An instance, or something else that has interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// An instance id, or what the interface's description says.
    pub name: String,
    pub interfaces: Vec<String>,
    /// All addresses, those of prefixes included.
    pub addresses: u32,
    pub prefixes: u32,
    /// Interfaces that are attached to nothing.
    pub unattached: u32,
}

impl Survey {
    /// `None` where EC2 tells no readable CIDR.
    pub fn of(subnet: &Subnet, interfaces: &[NetworkInterface]) -> Option<Self> {
        let cidr: Ipv4Net = subnet.cidr_block.as_deref()?.parse().ok()?;
        let mut addresses = SubnetAddresses::new(cidr).ok()?;
        let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
        let is_here = |eni: &&NetworkInterface| eni.subnet_id == subnet.subnet_id;
        for eni in interfaces.iter().filter(is_here) {
            let holder = holders.entry(name_of(eni)).or_default();
            let single: Vec<Ipv4Addr> = singles(eni);
            let prefixes: Vec<Ipv4Net> = prefixes(eni);
            single.iter().for_each(|it| drop(addresses.take(*it)));
            prefixes.iter().for_each(|it| drop(addresses.take_prefix(*it)));
            let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
            holder.addresses += count(single.len()) + BLOCK * count(prefixes.len());
            holder.prefixes += count(prefixes.len());
            holder.unattached += u32::from(eni.status.as_deref() == Some("available"));
            holder.interfaces.extend(eni.network_interface_id.clone());
        }
        let mut holders: Vec<Holder> =
            holders.into_iter().map(|(name, it)| Holder { name, ..it }).collect();
        holders.sort_by_key(|it| std::cmp::Reverse(it.addresses));
        let free_blocks = addresses.free_blocks();
        // Where not all interfaces may be seen, EC2's own count is still right.
        let told = subnet.available_ip_address_count.and_then(|it| u32::try_from(it).ok());
        let free = told.map_or(addresses.free(), |it| it.min(addresses.free()));
        Some(Self {
            subnet_id: subnet.subnet_id.clone().unwrap_or_default(),
            zone: subnet.availability_zone.clone().unwrap_or_default(),
            cidr,
            usable: addresses.size() - RESERVED,
            reserved: RESERVED,
            free,
            free_blocks,
            fragmented: free.saturating_sub(free_blocks * BLOCK),
            holders,
        })
    }

    /// The holders in words, the largest `limit` by name: `i-1: 10 (1 interface)`.
    pub fn holders_in_words(&self, limit: usize) -> String {
        let mut words: Vec<String> =
            self.holders.iter().take(limit).map(Holder::in_words).collect();
        let rest = self.holders.get(limit..).unwrap_or_default();
        if !rest.is_empty() {
            let addresses: u32 = rest.iter().map(|it| it.addresses).sum();
            words.push(format!("{} others: {addresses}", rest.len()));
        }
        if words.is_empty() { "nobody".to_owned() } else { words.join(", ") }
    }
}

impl Holder {
    fn in_words(&self) -> String {
        let plural = |count: u32, one: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {one}{}", if one.ends_with('x') { "es" } else { "s" }),
        };
        let interfaces = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let mut details = vec![plural(interfaces, "interface")];
        if self.prefixes > 0 {
            details.push(plural(self.prefixes, "prefix"));
        }
        if self.unattached > 0 {
            details.push(format!("{} attached to nothing", self.unattached));
        }
        format!("{}: {} ({})", self.name, self.addresses, details.join(", "))
    }
}

fn name_of(eni: &NetworkInterface) -> String {
    let instance = eni.attachment.as_ref().and_then(|it| it.instance_id.clone());
    let described = || eni.description.clone().filter(|it| !it.is_empty());
    let id = || eni.network_interface_id.clone().unwrap_or_default();
    instance.or_else(described).unwrap_or_else(id)
}

fn singles(eni: &NetworkInterface) -> Vec<Ipv4Addr> {
    let listed = eni.private_ip_addresses.iter().filter_map(|it| it.private_ip_address.as_deref());
    listed.filter_map(|it| it.parse().ok()).collect()
}

fn prefixes(eni: &NetworkInterface) -> Vec<Ipv4Net> {
    let listed = eni.ipv4_prefixes.iter().filter_map(|it| it.ipv4_prefix.as_deref());
    listed.filter_map(|it| it.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use aws_ec2::network_interface::{
        Ipv4PrefixSpecification, NetworkInterfaceAttachment, NetworkInterfacePrivateIpAddress,
    };

    use super::*;

    fn eni(id: &str, instance: Option<&str>, last: &[u8], prefixes: &[&str]) -> NetworkInterface {
        let attachment = instance.map(|id| NetworkInterfaceAttachment {
            instance_id: Some(id.to_owned()),
            ..Default::default()
        });
        let address = |last: &u8| NetworkInterfacePrivateIpAddress {
            private_ip_address: Some(format!("10.0.0.{last}")),
            ..Default::default()
        };
        let prefix = |it: &&str| Ipv4PrefixSpecification { ipv4_prefix: Some((*it).to_owned()) };
        NetworkInterface {
            network_interface_id: Some(id.to_owned()),
            subnet_id: Some("subnet-1".to_owned()),
            status: Some(if instance.is_some() { "in-use" } else { "available" }.to_owned()),
            attachment,
            private_ip_addresses: last.iter().map(address).collect(),
            ipv4_prefixes: prefixes.iter().map(prefix).collect(),
            ..Default::default()
        }
    }

    fn subnet(free: i64) -> Subnet {
        Subnet {
            subnet_id: Some("subnet-1".to_owned()),
            cidr_block: Some("10.0.0.0/26".to_owned()),
            available_ip_address_count: Some(free),
            ..Default::default()
        }
    }

    #[test]
    fn holders_are_counted_and_what_no_block_can_use_is_told() {
        let enis = [
            eni("eni-1", Some("i-1"), &[5, 6], &[]),
            eni("eni-2", Some("i-2"), &[20], &["10.0.0.32/28"]),
            eni("eni-3", None, &[7], &[]),
        ];
        let survey = Survey::of(&subnet(39), &enis).unwrap();
        assert_eq!((survey.usable, survey.free, survey.free_blocks), (59, 39, 0));
        assert_eq!(survey.fragmented, 39);
        assert_eq!(
            survey.holders_in_words(8),
            "i-2: 17 (1 interface, 1 prefix), i-1: 2 (1 interface), \
             eni-3: 1 (1 interface, 1 attached to nothing)"
        );
        assert_eq!(survey.holders_in_words(1), "i-2: 17 (1 interface, 1 prefix), 2 others: 3");
    }

    #[test]
    fn interfaces_of_other_subnets_hold_nothing_here_and_ec2s_count_is_believed() {
        let elsewhere = NetworkInterface {
            subnet_id: Some("subnet-2".to_owned()),
            ..eni("eni-1", Some("i-1"), &[5], &[])
        };
        let survey = Survey::of(&subnet(12), &[elsewhere]).unwrap();
        assert_eq!((survey.free, survey.holders.len()), (12, 0));
    }
}
