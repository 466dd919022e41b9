//! The tree of metadata: what is at a path, as a pure function of an instance.
//!
//! A folder's answer lists its entries, those that are folders with a slash; that is also what
//! tells a client that a path without the final slash was meant as a folder.

use std::collections::BTreeMap;

use api_imds::{IamInfo, IdentityDocument};
use serde_json::json;

use crate::{InstanceMetadata, Interface};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    Json(String),
    Bytes(Vec<u8>),
    /// Credentials of that role, which must be asked for.
    Credentials(String),
    NotFound,
}

enum Node {
    Folder(BTreeMap<String, Node>),
    /// A folder that lists itself in other words.
    Named {
        listing: String,
        entries: BTreeMap<String, Node>,
    },
    Leaf(Answer),
}

/// The versions that the service lists at its root; `latest` is what everybody uses.
const VERSIONS: [&str; 5] = ["1.0", "2016-09-02", "2021-07-15", "2024-04-11", "latest"];

/// What is at `path`, which begins with a slash and a version.
pub fn lookup(instance: &InstanceMetadata, path: &str) -> Answer {
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    let Some(version) = names.next() else { return Answer::Text(VERSIONS.join("\n")) };
    if !is_version(version) {
        return Answer::NotFound;
    }
    let mut node = root(instance);
    for name in names {
        let (Node::Folder(mut entries) | Node::Named { mut entries, .. }) = node else {
            return Answer::NotFound;
        };
        match entries.remove(name) {
            Some(entry) => node = entry,
            None => return Answer::NotFound,
        }
    }
    match node {
        Node::Leaf(answer) => answer,
        Node::Folder(entries) => Answer::Text(listing(&entries)),
        Node::Named { listing, .. } => Answer::Text(listing),
    }
}

fn is_version(text: &str) -> bool {
    let is_date = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    text == "latest" || text == "1.0" || is_date
}

fn listing(entries: &BTreeMap<String, Node>) -> String {
    let name = |(name, node): (&String, &Node)| match node {
        Node::Folder(_) | Node::Named { .. } => format!("{name}/"),
        Node::Leaf(_) => name.clone(),
    };
    entries.iter().map(name).collect::<Vec<_>>().join("\n")
}

fn root(instance: &InstanceMetadata) -> Node {
    let mut root = Folder::default();
    root.put("meta-data", meta_data(instance));
    root.put("dynamic", dynamic(instance));
    if let Some(data) = &instance.user_data {
        root.put("user-data", Node::Leaf(Answer::Bytes(data.clone())));
    }
    root.node()
}

#[derive(Default)]
struct Folder(BTreeMap<String, Node>);

impl Folder {
    fn put(&mut self, name: &str, node: Node) {
        self.0.insert(name.to_owned(), node);
    }

    fn text(&mut self, name: &str, text: impl ToString) {
        self.put(name, Node::Leaf(Answer::Text(text.to_string())));
    }

    fn list<T: ToString>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        let lines: Vec<String> = items.into_iter().map(|it| it.to_string()).collect();
        if !lines.is_empty() {
            self.text(name, lines.join("\n"));
        }
    }

    fn node(self) -> Node {
        Node::Folder(self.0)
    }
}

fn meta_data(instance: &InstanceMetadata) -> Node {
    let identity = &instance.identity;
    let mut data = Folder::default();
    data.text("ami-id", &identity.image_id);
    data.text("ami-launch-index", instance.launch_index);
    data.text("ami-manifest-path", "(unknown)");
    data.text("hostname", &instance.hostname);
    data.text("instance-action", "none");
    data.text("instance-id", &identity.instance_id);
    data.text("instance-life-cycle", life_cycle(instance));
    data.text("instance-type", &identity.instance_type);
    data.text("local-hostname", &instance.hostname);
    data.text("profile", "default-hvm");
    data.text("reservation-id", &instance.reservation_id);
    if let Some(primary) = instance.interfaces.first() {
        data.text("local-ipv4", primary.primary);
        data.list("ipv6", primary.ipv6_addresses.first());
        data.text("mac", &primary.mac);
        data.list("security-groups", primary.security_groups.iter().map(|(_, name)| name));
    }
    if let Some(address) = instance.public_ipv4 {
        data.text("public-ipv4", address);
        data.text("public-hostname", public_hostname(address));
    }
    if let Some(key) = &instance.key_name {
        data.put("public-keys", public_keys(key, instance.public_key.as_deref()));
    }
    data.put("network", network(instance));
    data.put("placement", placement(instance));
    let mut services = Folder::default();
    services.text("domain", "amazonaws.com");
    services.text("partition", "aws");
    data.put("services", services.node());
    optional(instance, &mut data);
    data.node()
}

/// The one folder whose listing says more than the names of its entries.
fn public_keys(name: &str, key: Option<&str>) -> Node {
    let mut formats = Folder::default();
    formats.list("openssh-key", key);
    let mut keys = Folder::default();
    keys.put("0", formats.node());
    Node::Named { listing: format!("0={name}"), entries: keys.0 }
}

fn optional(instance: &InstanceMetadata, data: &mut Folder) {
    if let Some(profile) = &instance.instance_profile {
        let info = IamInfo {
            code: "Success".to_owned(),
            last_updated: instance.identity.launch_time.clone(),
            instance_profile_arn: profile.arn.clone(),
            instance_profile_id: profile.id.clone(),
        };
        let mut iam = Folder::default();
        iam.put("info", Node::Leaf(Answer::Json(pretty(&info))));
        if let Some(role) = &profile.role {
            let mut credentials = Folder::default();
            credentials.put(role, Node::Leaf(Answer::Credentials(role.clone())));
            iam.put("security-credentials", credentials.node());
        }
        data.put("iam", iam.node());
    }
    if instance.options.tags_enabled {
        let mut tags = Folder::default();
        for (key, value) in &instance.tags {
            tags.text(key, value);
        }
        let mut folder = Folder::default();
        folder.put("instance", tags.node());
        data.put("tags", folder.node());
    }
    if let Some(state) = &instance.target_lifecycle_state {
        let mut autoscaling = Folder::default();
        autoscaling.text("target-lifecycle-state", state);
        data.put("autoscaling", autoscaling.node());
    }
    if let Some(action) = &instance.spot_action {
        let mut spot = Folder::default();
        spot.put("instance-action", Node::Leaf(Answer::Json(action.clone())));
        data.put("spot", spot.node());
    }
    if let Some(notice) = &instance.rebalance_recommendation {
        let mut recommendations = Folder::default();
        recommendations.put("rebalance", Node::Leaf(Answer::Json(notice.clone())));
        let mut events = Folder::default();
        events.put("recommendations", recommendations.node());
        data.put("events", events.node());
    }
}

fn life_cycle(instance: &InstanceMetadata) -> &str {
    if instance.life_cycle.is_empty() { "on-demand" } else { &instance.life_cycle }
}

fn public_hostname(address: std::net::Ipv4Addr) -> String {
    format!("ec2-{}.compute-1.amazonaws.com", address.to_string().replace('.', "-"))
}

fn placement(instance: &InstanceMetadata) -> Node {
    let mut placement = Folder::default();
    placement.text("availability-zone", &instance.identity.zone);
    placement.text("availability-zone-id", &instance.zone_id);
    placement.text("region", &instance.identity.region);
    if let Some((name, partition)) = &instance.placement_group {
        placement.text("group-name", name);
        placement.list("partition-number", *partition);
    }
    placement.node()
}

fn network(instance: &InstanceMetadata) -> Node {
    let mut macs = Folder::default();
    for interface in &instance.interfaces {
        macs.put(&interface.mac, of_interface(interface));
    }
    let mut interfaces = Folder::default();
    interfaces.put("macs", macs.node());
    let mut network = Folder::default();
    network.put("interfaces", interfaces.node());
    network.node()
}

fn of_interface(interface: &Interface) -> Node {
    let mut folder = Folder::default();
    folder.text("device-number", interface.device_number);
    folder.text("interface-id", &interface.id);
    let secondary = interface.secondary.iter().copied();
    folder.list("local-ipv4s", std::iter::once(interface.primary).chain(secondary));
    folder.list("ipv4-prefix", &interface.prefixes);
    folder.list("ipv6s", &interface.ipv6_addresses);
    folder.list("ipv6-prefix", &interface.ipv6_prefixes);
    folder.text("local-hostname", &interface.hostname);
    folder.text("mac", &interface.mac);
    folder.text("network-card", 0);
    folder.text("owner-id", &interface.owner);
    folder.list("security-group-ids", interface.security_groups.iter().map(|(id, _)| id));
    folder.list("security-groups", interface.security_groups.iter().map(|(_, name)| name));
    folder.text("subnet-id", &interface.subnet_id);
    folder.text("subnet-ipv4-cidr-block", interface.subnet_cidr);
    folder.text("vpc-id", &interface.vpc_id);
    folder.list("vpc-ipv4-cidr-block", interface.vpc_cidrs.first());
    folder.list("vpc-ipv4-cidr-blocks", &interface.vpc_cidrs);
    folder.list("subnet-ipv6-cidr-blocks", &interface.subnet_ipv6_cidrs);
    folder.list("vpc-ipv6-cidr-blocks", &interface.vpc_ipv6_cidrs);
    if let Some(address) = interface.public_ipv4 {
        folder.text("public-ipv4s", address);
        folder.text("public-hostname", public_hostname(address));
        let mut associations = Folder::default();
        associations.text(&address.to_string(), interface.primary);
        folder.put("ipv4-associations", associations.node());
    }
    folder.node()
}

fn dynamic(instance: &InstanceMetadata) -> Node {
    let identity = &instance.identity;
    let document = IdentityDocument {
        account_id: identity.account.clone(),
        architecture: identity.architecture.clone(),
        availability_zone: identity.zone.clone(),
        image_id: identity.image_id.clone(),
        instance_id: identity.instance_id.clone(),
        instance_type: identity.instance_type.clone(),
        pending_time: identity.launch_time.clone(),
        private_ip: instance.interfaces.first().map_or(String::new(), |it| it.primary.to_string()),
        region: identity.region.clone(),
        version: "2017-09-30".to_owned(),
        ..IdentityDocument::default()
    };
    let mut folder = Folder::default();
    folder.put("document", Node::Leaf(Answer::Json(pretty(&document))));
    let mut dynamic = Folder::default();
    dynamic.put("instance-identity", folder.node());
    dynamic.node()
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| json!({}).to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Identity, Options, Profile};

    pub(crate) fn sample() -> InstanceMetadata {
        let interface = |number: u8| Interface {
            id: format!("eni-{number}"),
            mac: format!("02:00:00:00:00:0{number}"),
            device_number: number.into(),
            primary: Ipv4Addr::new(192, 168, number, 10),
            secondary: vec![Ipv4Addr::new(192, 168, number, 11)],
            prefixes: vec!["192.168.5.16/28".parse().unwrap()],
            ipv6_addresses: vec!["2001:db8:0:1::10".parse().unwrap()],
            ipv6_prefixes: vec!["2001:db8:0:1:5::/80".parse().unwrap()],
            public_ipv4: None,
            subnet_id: "subnet-1".to_owned(),
            subnet_cidr: "192.168.0.0/19".parse().unwrap(),
            vpc_id: "vpc-1".to_owned(),
            vpc_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "10.1.0.0/16".parse().unwrap()],
            subnet_ipv6_cidrs: vec!["2001:db8:0:1::/64".parse().unwrap()],
            vpc_ipv6_cidrs: vec!["2001:db8::/56".parse().unwrap()],
            security_groups: vec![("sg-1".to_owned(), "cluster".to_owned())],
            owner: "111122223333".to_owned(),
            hostname: "ip-192-168-0-10.ec2.internal".to_owned(),
        };
        InstanceMetadata {
            identity: Identity {
                account: "111122223333".to_owned(),
                region: "us-east-1".to_owned(),
                zone: "us-east-1a".to_owned(),
                instance_id: "i-1".to_owned(),
                instance_type: "m5.large".to_owned(),
                architecture: "x86_64".to_owned(),
                ..Identity::default()
            },
            hostname: "ip-192-168-0-10.ec2.internal".to_owned(),
            user_data: Some(b"#!/bin/sh\n".to_vec()),
            interfaces: vec![interface(0), interface(1)],
            instance_profile: Some(Profile {
                arn: "arn:aws:iam::111122223333:instance-profile/p".to_owned(),
                id: "AIPA1".to_owned(),
                role: Some("node".to_owned()),
            }),
            tags: BTreeMap::from([("Name".to_owned(), "x".to_owned())]),
            options: Options::default(),
            ..InstanceMetadata::default()
        }
    }

    fn text(path: &str) -> String {
        match lookup(&sample(), path) {
            Answer::Text(text) | Answer::Json(text) => text,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn what_the_vpc_cni_reads_is_there() {
        let mac = "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01";
        for (path, wanted) in [
            ("/latest/meta-data/placement/availability-zone", "us-east-1a"),
            ("/latest/meta-data/mac", "02:00:00:00:00:00"),
            (&format!("{mac}/device-number"), "1"),
            (&format!("{mac}/local-ipv4s"), "192.168.1.10\n192.168.1.11"),
            (&format!("{mac}/ipv4-prefix"), "192.168.5.16/28"),
            (&format!("{mac}/vpc-ipv4-cidr-blocks"), "192.168.0.0/16\n10.1.0.0/16"),
            (&format!("{mac}/vpc-ipv4-cidr-block"), "192.168.0.0/16"),
            (&format!("{mac}/security-group-ids"), "sg-1"),
            ("/latest/meta-data/ipv6", "2001:db8:0:1::10"),
            (&format!("{mac}/ipv6s"), "2001:db8:0:1::10"),
            (&format!("{mac}/ipv6-prefix"), "2001:db8:0:1:5::/80"),
            (&format!("{mac}/vpc-ipv6-cidr-blocks"), "2001:db8::/56"),
            (&format!("{mac}/subnet-ipv6-cidr-blocks"), "2001:db8:0:1::/64"),
            ("/2021-07-15/meta-data/services/domain", "amazonaws.com"),
        ] {
            assert_eq!(text(path), wanted, "{path}");
        }
    }

    #[test]
    fn folders_are_listed_with_their_slashes() {
        assert_eq!(
            text("/latest/meta-data/network/interfaces/macs/"),
            "02:00:00:00:00:00/\n02:00:00:00:00:01/"
        );
        assert_eq!(text("/latest"), "dynamic/\nmeta-data/\nuser-data");
        assert_eq!(text("/latest/meta-data/iam/security-credentials/"), "node");
        assert!(text("/").ends_with("latest"));
    }

    #[test]
    fn an_instance_knows_its_place_in_a_placement_group() {
        let at = |placement_group, name: &str| {
            let instance = InstanceMetadata { placement_group, ..sample() };
            lookup(&instance, &format!("/latest/meta-data/placement/{name}"))
        };
        let text = |it: &str| Answer::Text(it.to_owned());
        let group = |partition| Some(("parts".to_owned(), partition));
        assert_eq!(at(group(Some(2)), "group-name"), text("parts"));
        assert_eq!(at(group(Some(2)), "partition-number"), text("2"));
        assert_eq!(at(group(None), "partition-number"), Answer::NotFound);
        assert_eq!(at(None, "group-name"), Answer::NotFound);
    }

    #[test]
    fn the_key_pair_is_found_as_cloud_init_looks_for_it() {
        let key = "ssh-ed25519 AAAAC3 my key";
        let instance = InstanceMetadata {
            key_name: Some("my key".to_owned()),
            public_key: Some(key.to_owned()),
            ..sample()
        };
        let folder = "/latest/meta-data/public-keys";
        let text = |path: &str| match lookup(&instance, &format!("{folder}{path}")) {
            Answer::Text(text) => text,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(text("/"), "0=my key");
        assert_eq!(text("/0/"), "openssh-key");
        assert_eq!(text("/0/openssh-key"), key);
        assert_eq!(lookup(&sample(), folder), Answer::NotFound);
    }

    #[test]
    fn what_an_instance_does_not_have_is_not_there() {
        for path in [
            "/latest/meta-data/spot/instance-action",
            "/latest/meta-data/tags/instance/Name",
            "/latest/meta-data/public-ipv4",
            "/latest/meta-data/mac/x",
            "/soon/meta-data",
            "/latest/nothing",
        ] {
            assert_eq!(lookup(&sample(), path), Answer::NotFound, "{path}");
        }
        let mut tagged = sample();
        tagged.options.tags_enabled = true;
        let answer = lookup(&tagged, "/latest/meta-data/tags/instance/Name");
        assert_eq!(answer, Answer::Text("x".to_owned()));
        let path = format!("/latest/{}", api_imds::paths::TARGET_LIFECYCLE_STATE);
        assert_eq!(lookup(&sample(), &path), Answer::NotFound, "it is of no group");
        let state = "Warmed:Stopped".to_owned();
        let pooled = InstanceMetadata { target_lifecycle_state: Some(state.clone()), ..sample() };
        assert_eq!(lookup(&pooled, &path), Answer::Text(state));
    }

    #[test]
    fn the_identity_document_says_where_the_instance_is() {
        let document: IdentityDocument =
            serde_json::from_str(&text("/latest/dynamic/instance-identity/document")).unwrap();
        assert_eq!(document.private_ip, "192.168.0.10");
        assert_eq!(document.instance_type, "m5.large");
    }
}
