//! `nodestead plan subnets`: how many pods a layout of subnets can hold, in each mode of the CNI.
//!
//! The layout is the region's, or one that is given as CIDRs; then no region is needed. In the
//! region's, what instances hold counts as free, since their nodes are placed anew, and what anybody
//! else holds is taken. Subnets outside of the VPC's first CIDR block are the pods' in custom
//! networking, and no node's.

use std::collections::{BTreeMap, BTreeSet};

use aws_ec2::{network_interface::NetworkInterface, subnet::Subnet, vpc::Vpc};
use comfy_table::{Table, presets::NOTHING};
use ipam::{
    SubnetAddresses,
    layout::{Fleet, Layout, Mode, Outcome, Place, most_nodes, simulate},
};
use ipnet::Ipv4Net;
use serde::Serialize;

use crate::{
    admin::{Admin, DaemonStatus},
    cli::{Format, PlanSubnets},
    failure::Failure,
    layout::Layout as Folder,
    progress::Waiting,
    region::Network,
};

/// Where no zone is named.
const ANY_ZONE: &str = "-";

/// A mode's row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    outcome: Outcome,
    /// `maxPods` by instance type.
    max_pods: BTreeMap<String, u32>,
    /// How many nodes of the first type there could be, all with all their pods.
    most_nodes: u32,
    is_enough: bool,
}

pub(super) async fn run(args: PlanSubnets) -> anyhow::Result<()> {
    let waiting = Waiting::new("asking the region and planning");
    let (layout, fleets) = wanted(&args).await?;
    if fleets.iter().all(|it| it.count == 0) {
        return Err(Failure::new(
            "there are no nodes to plan for",
            "say how many with `--nodes m5.large=3`",
        )
        .into());
    }
    let rows = rows(&layout, &fleets);
    drop(waiting);
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Format::Table => print!("{}", rendered(&layout, &fleets, &rows)),
    }
    Ok(())
}

async fn wanted(args: &PlanSubnets) -> anyhow::Result<(Layout, Vec<Fleet>)> {
    let mut fleets = parsed(&args.nodes, fleet)?;
    let mut layout =
        Layout { nodes: parsed(&args.cidr, place)?, pods: parsed(&args.pod_cidr, place)? };
    if layout.nodes.is_empty() || fleets.is_empty() {
        let folder = Folder::new(&args.at.data_dir)?;
        let status: DaemonStatus = Admin::new(folder.admin_socket()).get("/v1/status").await?;
        if fleets.is_empty() {
            fleets = of_region(&status);
        }
        if layout.nodes.is_empty() {
            let network = Network::of(&folder, &status)?;
            let (subnets, vpcs) = (network.subnets().await?, network.vpcs().await?);
            let live = of_subnets(&subnets, &network.interfaces(None).await?, &vpcs);
            layout.nodes = live.nodes;
            layout.pods.extend(live.pods);
        }
    }
    check(&layout)?;
    Ok((layout, fleets))
}

/// A given subnet has no name but its network.
fn shown(place: &Place) -> String {
    let cidr = place.addresses.cidr().to_string();
    if place.name == cidr { cidr } else { format!("{} ({cidr})", place.name) }
}

/// Subnets do not overlap, and pods' ones are of a zone that nodes are in.
fn check(layout: &Layout) -> Result<(), Failure> {
    let all: Vec<&Place> = layout.nodes.iter().chain(&layout.pods).collect();
    for (number, one) in all.iter().enumerate() {
        let its = one.addresses.cidr();
        let overlaps = |other: &&&Place| {
            let other = other.addresses.cidr();
            its.contains(&other) || other.contains(&its)
        };
        if let Some(other) = all[number + 1..].iter().find(overlaps) {
            return Err(Failure::usage(
                format!("{} and {} overlap", shown(one), shown(other)),
                "give subnets that have no address in common, as EC2 does",
            ));
        }
    }
    let zones: BTreeSet<&str> = layout.nodes.iter().map(|it| it.zone.as_str()).collect();
    let Some(lost) = layout.pods.iter().find(|it| !zones.contains(it.zone.as_str())) else {
        return Ok(());
    };
    let zones: Vec<&str> = zones.into_iter().filter(|it| *it != ANY_ZONE).collect();
    let next = match zones.as_slice() {
        [] => "leave the zone out, or name one with `--cidr ZONE=…` too".to_owned(),
        zones => format!(
            "write it as `--pod-cidr ZONE={}`; the nodes' zones are: {}",
            lost.addresses.cidr(),
            zones.join(", ")
        ),
    };
    let zone =
        if lost.zone == ANY_ZONE { "no zone".to_owned() } else { format!("zone `{}`", lost.zone) };
    Err(Failure::usage(
        format!("{} is in {zone}, where no subnet for nodes is", lost.addresses.cidr()),
        next,
    ))
}

fn parsed<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    texts.iter().map(|it| parse(it)).collect()
}

/// `m5.large=3`.
fn fleet(text: &str) -> Result<Fleet, Failure> {
    let wrong = |what: String| Failure::usage(what, "write it as `--nodes m5.large=3`");
    let (kind, count) = text.split_once('=').unwrap_or((text, "1"));
    let known = instance_types::find(kind)
        .ok_or_else(|| wrong(format!("there is no instance type `{kind}`")))?;
    let count = count.parse().ok().filter(|it| (1..=5000).contains(it));
    let count = count.ok_or_else(|| wrong(format!("`{text}` names no number from 1 to 5000")))?;
    Ok(Fleet::of(known, count))
}

/// `us-east-1a=10.0.0.0/24` or `10.0.0.0/24`.
fn place(text: &str) -> Result<Place, Failure> {
    let (zone, cidr) = text.split_once('=').unwrap_or((ANY_ZONE, text));
    let next = "write it as `ZONE=10.0.0.0/24`, with a prefix length from 16 to 28";
    let parsed: Ipv4Net =
        cidr.parse().map_err(|_| Failure::usage(format!("`{cidr}` is no IPv4 CIDR"), next))?;
    let addresses = SubnetAddresses::new(parsed.trunc())
        .map_err(|error| Failure::usage(error.to_string(), next))?;
    // As EC2 takes it: the network that the address is in.
    Ok(Place { name: addresses.cidr().to_string(), zone: zone.to_owned(), addresses })
}

/// The region's instances that run, by type.
fn of_region(status: &DaemonStatus) -> Vec<Fleet> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for instance in status.instances.iter().filter(|it| it.state == "running") {
        *counts.entry(&instance.instance_type).or_default() += 1;
    }
    let fleets = counts.into_iter();
    fleets.filter_map(|(kind, count)| Some(Fleet::of(instance_types::find(kind)?, count))).collect()
}

fn of_subnets(subnets: &[Subnet], interfaces: &[NetworkInterface], vpcs: &[Vpc]) -> Layout {
    let vpc = vpc_of_nodes(interfaces, vpcs);
    let first: Option<Ipv4Net> =
        vpc.and_then(|it| it.cidr_block.as_deref()).and_then(|it| it.parse().ok());
    let mut layout = Layout::default();
    for subnet in subnets.iter().filter(|it| it.vpc_id == vpc.and_then(|it| it.vpc_id.clone())) {
        let Some(place) = live_place(subnet, interfaces) else { continue };
        let is_for_nodes = first.is_none_or(|it| it.contains(&place.addresses.cidr()));
        if is_for_nodes { layout.nodes.push(place) } else { layout.pods.push(place) }
    }
    layout
}

/// The VPC that the instances are in, or the default one.
fn vpc_of_nodes<'a>(interfaces: &[NetworkInterface], vpcs: &'a [Vpc]) -> Option<&'a Vpc> {
    let of_instance = interfaces.iter().find(|it| is_of_instance(it));
    let id = of_instance.and_then(|it| it.vpc_id.clone());
    vpcs.iter()
        .find(|it| id.is_some() && it.vpc_id == id)
        .or_else(|| vpcs.iter().find(|it| it.is_default == Some(true)))
}

fn is_of_instance(eni: &NetworkInterface) -> bool {
    eni.attachment.as_ref().is_some_and(|it| it.instance_id.is_some())
}

fn live_place(subnet: &Subnet, interfaces: &[NetworkInterface]) -> Option<Place> {
    let mut addresses = SubnetAddresses::new(subnet.cidr_block.as_deref()?.parse().ok()?).ok()?;
    let others =
        interfaces.iter().filter(|it| it.subnet_id == subnet.subnet_id && !is_of_instance(it));
    for eni in others {
        let single =
            eni.private_ip_addresses.iter().filter_map(|it| it.private_ip_address.as_ref());
        single.filter_map(|it| it.parse().ok()).for_each(|it| drop(addresses.take(it)));
        let prefixes = eni.ipv4_prefixes.iter().filter_map(|it| it.ipv4_prefix.as_ref());
        prefixes.filter_map(|it| it.parse().ok()).for_each(|it| drop(addresses.take_prefix(it)));
    }
    Some(Place {
        name: subnet.subnet_id.clone()?,
        zone: subnet.availability_zone.clone().unwrap_or_else(|| ANY_ZONE.to_owned()),
        addresses,
    })
}

fn rows(layout: &Layout, fleets: &[Fleet]) -> Vec<Row> {
    let modes = Mode::ALL.into_iter().filter(|it| !it.is_custom() || !layout.pods.is_empty());
    let row = |mode: Mode| {
        let outcome = simulate(layout, fleets, mode);
        let max_pods = fleets.iter().map(|it| (it.instance_type.clone(), it.max_pods(mode)));
        Row {
            is_enough: outcome.is_enough(),
            outcome,
            max_pods: max_pods.collect(),
            most_nodes: fleets.first().map_or(0, |fleet| most_nodes(layout, fleet, mode)),
        }
    };
    modes.map(row).collect()
}

fn rendered(layout: &Layout, fleets: &[Fleet], rows: &[Row]) -> String {
    let mut text = String::new();
    for (what, places) in [("Nodes in", &layout.nodes), ("Pods in", &layout.pods)] {
        for it in places {
            let addresses = &it.addresses;
            text += &format!(
                "{what} {} in zone {}: {} addresses, {} whole /28 blocks\n",
                shown(it),
                it.zone,
                addresses.free(),
                addresses.free_blocks()
            );
        }
    }
    let wanted: Vec<String> =
        fleets.iter().map(|it| format!("{} {}", it.count, it.instance_type)).collect();
    text += &format!("For {}\n\n", wanted.join(", "));
    let first = fleets.first().map_or("", |it| it.instance_type.as_str());
    let mut table = Table::new();
    table.load_style(NOTHING);
    let most = format!("MOST {}", first.to_uppercase());
    table.set_header(["MODE", "NODES", "PODS", "IDLE ADDRESSES", "MAXPODS", &most, "LIMITED BY"]);
    for Row { outcome: it, max_pods, most_nodes, is_enough } in rows {
        let max_pods: Vec<String> = max_pods.values().map(u32::to_string).collect();
        table.add_row([
            name(it.mode).to_owned(),
            format!("{} of {}", it.nodes, it.nodes_wanted),
            format!("{} of {}", it.pods, it.pods_wanted),
            it.idle_addresses.to_string(),
            max_pods.join(", "),
            most_nodes.to_string(),
            limit(it, *is_enough),
        ]);
    }
    text += &format!("{}\n", table.trim_fmt());
    if layout.pods.is_empty() {
        text += "\nCustom networking needs subnets for pods: give them with `--pod-cidr`.\n";
    }
    text
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Secondary => "secondary addresses",
        Mode::Prefix => "prefixes",
        Mode::Custom => "custom networking",
        Mode::CustomPrefix => "custom networking, prefixes",
    }
}

fn limit(outcome: &Outcome, is_enough: bool) -> String {
    if is_enough {
        return "instance types".to_owned();
    }
    let exhausted: Vec<&str> = outcome.exhausted.iter().map(String::as_str).collect();
    match outcome.homeless {
        0 => exhausted.join(", "),
        count => format!("{count} nodes have no subnet for pods in their zone"),
    }
}

#[cfg(test)]
mod tests {
    use aws_ec2::network_interface::{
        NetworkInterfaceAttachment, NetworkInterfacePrivateIpAddress,
    };

    use super::*;

    #[test]
    fn given_cidrs_are_planned_without_a_region() {
        let layout = Layout { nodes: vec![place("a=10.0.0.0/24").unwrap()], pods: vec![] };
        let fleets = [fleet("m5.large=9").unwrap()];
        let rows = rows(&layout, &fleets);
        assert_eq!(rows.len(), 2, "no subnets for pods, no custom networking");
        assert_eq!((rows[0].outcome.pods, rows[0].most_nodes), (251 - 27, 8));
        let text = rendered(&layout, &fleets, &rows);
        assert!(text.contains("9 of 9") && text.contains("224 of 243"), "{text}");
        assert!(text.contains("--pod-cidr"), "{text}");
    }

    #[test]
    fn subnets_that_overlap_or_lie_where_no_node_is_are_refused() {
        let layout = |nodes: &[&str], pods: &[&str]| {
            let places = |of: &[&str]| of.iter().map(|it| place(it).unwrap()).collect();
            Layout { nodes: places(nodes), pods: places(pods) }
        };
        let refused = |nodes: &[&str], pods: &[&str]| {
            check(&layout(nodes, pods)).map_err(|it| it.to_string()).unwrap_err()
        };
        let found = refused(&["a=10.0.0.0/24", "b=10.0.0.0/25"], &[]);
        assert_eq!(found, "10.0.0.0/24 and 10.0.0.0/25 overlap");
        let found = refused(&["10.0.0.0/24"], &["10.0.0.128/25"]);
        assert_eq!(found, "10.0.0.0/24 and 10.0.0.128/25 overlap");
        let found = refused(&["us-east-1a=10.0.0.0/24"], &["a=100.64.0.0/18"]);
        assert_eq!(found, "100.64.0.0/18 is in zone `a`, where no subnet for nodes is");
        let found = refused(&["us-east-1a=10.0.0.0/24"], &["100.64.0.0/18"]);
        assert_eq!(found, "100.64.0.0/18 is in no zone, where no subnet for nodes is");
        check(&layout(&["a=10.0.0.0/24", "b=10.0.1.0/24"], &["a=100.64.0.0/18"])).unwrap();
        check(&layout(&["10.0.0.0/24"], &["100.64.0.0/18"])).unwrap();
    }

    #[test]
    fn an_address_in_a_subnet_stands_for_the_subnet() {
        let layout = Layout { nodes: vec![place("a=10.0.0.5/24").unwrap()], pods: vec![] };
        let fleets = [fleet("m5.large=1").unwrap()];
        let text = rendered(&layout, &fleets, &rows(&layout, &fleets));
        assert!(text.starts_with("Nodes in 10.0.0.0/24 in zone a: 251 addresses"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_says_how_to_write_it() {
        for error in [fleet("m5.huge=1").err(), fleet("m5.large=x").err(), fleet("=1").err()] {
            assert!(error.unwrap().to_string().contains('`'));
        }
        for text in ["10.0.0.0/8", "10.0.0.0/29", "a=b"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn in_the_region_what_instances_hold_is_free_and_what_others_hold_is_not() {
        let eni = |address: &str, instance: Option<&str>| NetworkInterface {
            subnet_id: Some("subnet-1".to_owned()),
            vpc_id: Some("vpc-1".to_owned()),
            attachment: Some(NetworkInterfaceAttachment {
                instance_id: instance.map(str::to_owned),
                ..Default::default()
            }),
            private_ip_addresses: vec![NetworkInterfacePrivateIpAddress {
                private_ip_address: Some(address.to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let subnet = |id: &str, cidr: &str| Subnet {
            subnet_id: Some(id.to_owned()),
            vpc_id: Some("vpc-1".to_owned()),
            cidr_block: Some(cidr.to_owned()),
            ..Default::default()
        };
        let vpc = Vpc {
            vpc_id: Some("vpc-1".to_owned()),
            cidr_block: Some("10.0.0.0/16".to_owned()),
            ..Default::default()
        };
        let layout = of_subnets(
            &[subnet("subnet-1", "10.0.0.0/24"), subnet("subnet-2", "100.64.0.0/24")],
            &[eni("10.0.0.10", Some("i-1")), eni("10.0.0.11", None)],
            &[vpc],
        );
        assert_eq!(layout.nodes[0].addresses.free(), 250);
        assert_eq!(layout.pods[0].name, "subnet-2");
    }
}
