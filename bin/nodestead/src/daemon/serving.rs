//! For which names a node may have a serving certificate: those that EC2 knows its instance by.
//!
//! What a Node object says of its addresses is the node's own word, and would let a node that was
//! taken over ask for the names of another one, or of the API server.

use std::{collections::BTreeSet, net::IpAddr};

use region_ec2::{State, names, records::Instance};

use super::{region::REGION, world};

/// Whether all names and addresses are of the instance behind the node. Nodes are named by their
/// private DNS names.
pub(crate) fn are_of_instance(state: &State, node: &str, dns: &[String], ips: &[IpAddr]) -> bool {
    let is_it = |it: &&Instance| {
        let primary = world::primary(state, &it.id);
        primary.is_some_and(|it| names::private_dns(REGION, it.primary_address) == node)
    };
    let alive = state.instances.iter().filter(|it| !it.state.is_ending());
    let Some(instance) = alive.into_iter().find(is_it) else { return false };
    let known = Known::of(state, instance);
    dns.iter().all(|it| known.dns.contains(it)) && ips.iter().all(|it| known.ips.contains(it))
}

struct Known {
    dns: BTreeSet<String>,
    ips: BTreeSet<IpAddr>,
}

impl Known {
    fn of(state: &State, instance: &Instance) -> Self {
        let mut known = Self { dns: BTreeSet::new(), ips: BTreeSet::new() };
        for eni in world::interfaces(state, &instance.id).into_values() {
            known.ips.insert(eni.primary_address.into());
            known.ips.extend(eni.ipv6_addresses.iter().copied().map(IpAddr::from));
            known.dns.insert(names::private_dns(REGION, eni.primary_address));
            if let Some(public) = eni.public_address() {
                known.ips.insert(public.into());
                known.dns.insert(names::public_dns(REGION, public));
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_ec2::run_instances::{RunInstances, RunInstancesRequest};
    use clock::Clock;
    use region_ec2::{Ec2, Environment, ProfileInfo, seed};
    use region_gateway::{Events, Gateway};
    use region_store::Store;

    use super::*;
    use crate::daemon::region::ACCOUNT;

    struct Nothing;

    impl Environment for Nothing {
        fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
            None
        }

        fn console(&self, _: &str) -> Option<Vec<u8>> {
            None
        }
    }

    /// A region with two instances, and their addresses.
    async fn two() -> (Ec2, [IpAddr; 2]) {
        let (store, clock) = (Store::in_memory(), Clock::system());
        let config = region_ec2::Config::new(ACCOUNT, REGION);
        let ec2 = Ec2::open(&store, config, clock, Arc::new(Nothing)).unwrap();
        let root = region_iam::RootKey {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
        };
        let iam = region_iam::Iam::open(&store, ACCOUNT, root, clock).unwrap();
        let gateway = Gateway::new(region_gateway::Config {
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys: Vec::new(),
            identities: iam,
            events: Events::in_memory(),
        });
        assert!(gateway.open(region_ec2::routes(&Arc::new(ec2.clone()))));
        let request = RunInstancesRequest {
            image_id: seed::releases().last().map(seed::AmiRelease::image_id),
            instance_type: Some("m5.large".to_owned()),
            min_count: 2,
            max_count: 2,
            ..Default::default()
        };
        let client = gateway.client_as("eks.amazonaws.com");
        let made = client.call::<RunInstances>(request).await.unwrap().instances;
        let address =
            |index: usize| made[index].private_ip_address.as_ref().unwrap().parse().unwrap();
        (ec2, [address(0), address(1)])
    }

    fn name(address: IpAddr) -> String {
        let IpAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
        names::private_dns(REGION, address)
    }

    #[tokio::test]
    async fn a_node_is_certified_for_the_names_of_its_instance_alone() {
        let (ec2, [mine, other]) = two().await;
        let (state, node) = (ec2.view(), name(mine));
        let check = |dns: &[&str], ips: &[IpAddr]| {
            let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
            are_of_instance(&state, &node, &dns, ips)
        };
        assert!(check(&[&node], &[mine]));
        // Another node's, the API server's.
        assert!(!check(&[&node], &[other]));
        assert!(!check(&[&name(other)], &[mine]));
        assert!(!check(&[&node, "kubernetes.default.svc"], &[mine]));
        assert!(!check(&[&node], &[IpAddr::from([10, 100, 0, 1])]));
        let nobody = name(IpAddr::from([10, 9, 9, 9]));
        assert!(!are_of_instance(&state, &nobody, &[], &[]));
    }
}
