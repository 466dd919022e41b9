//! How long a connection on which nothing happens is remembered: what interfaces say of it.
//!
//! A connection has one timeout, which its first packet gets, and is forgotten as soon as one of its
//! two ends forgets it: rules with shorter times come later, and the last one holds. Of UDP, which has
//! two times, the shorter of each holds.
//!
//! Source: EC2 user guide, "Idle connection tracking timeout". Deviation: an interface that says
//! nothing has the kernel's times, and does not shorten the other end's.

use std::collections::{BTreeMap, BTreeSet};

use linux_nftables::{Chain, ChainKind, CtTimeout, Hook, HookPoint, Set, Table, priority, quote};

use crate::{Eni, VpcSpec, compile::link_name};

/// EC2's, where an interface says only one of UDP's times.
const UDP: u32 = 30;
const UDP_STREAM: u32 = 180;

/// Unreplied and replied.
type Udp = (u32, u32);

pub(super) fn add(spec: &VpcSpec, table: &mut Table) {
    let mut rules = Vec::new();
    add_tcp(spec, table, &mut rules);
    add_udp(spec, table, &mut rules);
    if rules.is_empty() {
        return;
    }
    let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER - 20);
    table.chains.insert("timeouts".to_owned(), Chain { hook: Some(hook), rules });
}

fn add_tcp(spec: &VpcSpec, table: &mut Table, rules: &mut Vec<String>) {
    for (seconds, links) in by_time(spec, |it| it.tracking.tcp_established).into_iter().rev() {
        let name = format!("tcp-{seconds}");
        table.set(format!("{name}-links"), links);
        let timeout = CtTimeout { protocol: "tcp", states: vec![("established", seconds)] };
        table.timeouts.insert(name.clone(), timeout);
        rules.extend(["iifname", "oifname"].map(|side| {
            format!(
                "ct state new meta l4proto tcp {side} @{name}-links ct timeout set {}",
                quote(&name)
            )
        }));
    }
}

fn add_udp(spec: &VpcSpec, table: &mut Table, rules: &mut Vec<String>) {
    let said = by_time(spec, udp);
    let known: Vec<Udp> = said.keys().copied().rev().collect();
    for (times, links) in said.into_iter().rev() {
        let name = udp_timeout(table, times);
        table.set(format!("{name}-links"), links);
        rules.extend(["iifname", "oifname"].map(|side| {
            format!(
                "ct state new meta l4proto udp {side} @{name}-links ct timeout set {}",
                quote(&name)
            )
        }));
    }
    // Where each end is the shorter one in something.
    for (a, b) in known.iter().flat_map(|a| known.iter().map(move |b| (*a, *b))) {
        let shorter = (a.0.min(b.0), a.1.min(b.1));
        if shorter == a || shorter == b {
            continue;
        }
        let name = udp_timeout(table, shorter);
        let (from, to) = (udp_name(a), udp_name(b));
        rules.push(format!(
            "ct state new meta l4proto udp iifname @{from}-links oifname @{to}-links ct timeout set {}",
            quote(&name)
        ));
    }
}

fn udp(eni: &Eni) -> Option<Udp> {
    let said = eni.tracking;
    let says = said.udp.is_some() || said.udp_stream.is_some();
    says.then(|| (said.udp.unwrap_or(UDP), said.udp_stream.unwrap_or(UDP_STREAM)))
}

fn udp_name(times: Udp) -> String {
    format!("udp-{}-{}", times.0, times.1)
}

/// Its name, where it is in the table.
fn udp_timeout(table: &mut Table, times: Udp) -> String {
    let states = vec![("unreplied", times.0), ("replied", times.1)];
    let name = udp_name(times);
    table.timeouts.insert(name.clone(), CtTimeout { protocol: "udp", states });
    name
}

/// The links of the interfaces that say each time, the shortest first.
fn by_time<T: Ord>(spec: &VpcSpec, of: impl Fn(&Eni) -> Option<T>) -> BTreeMap<T, Set> {
    let mut found: BTreeMap<T, BTreeSet<String>> = BTreeMap::new();
    for eni in &spec.enis {
        if let Some(time) = of(eni) {
            found.entry(time).or_default().insert(quote(&link_name(&eni.id)));
        }
    }
    let set = |links: BTreeSet<String>| {
        let mut set = Set::of("ifname");
        for link in links {
            set.member(link);
        }
        set
    };
    found.into_iter().map(|(time, links)| (time, set(links))).collect()
}

#[cfg(test)]
mod tests {
    use crate::{rules, spec::samples};

    #[test]
    fn shorter_times_come_later_and_of_udp_each_shorter_one_holds() {
        let mut spec = samples::vpc();
        assert!(!rules::table(&spec).chains.contains_key("timeouts"));
        spec.enis[0].tracking.tcp_established = Some(60);
        spec.enis[1].tracking.tcp_established = Some(350);
        spec.enis[0].tracking.udp_stream = Some(60);
        spec.enis[1].tracking.udp = Some(45);
        spec.enis[2].tracking.udp = Some(20);
        let table = rules::table(&spec);
        let set: Vec<&str> = table.chains["timeouts"]
            .rules
            .iter()
            .filter_map(|it| it.rsplit_once(" set ").map(|(_, name)| name))
            .collect();
        let twice = |name: &'static str| [name, name];
        let expected: Vec<&str> = [
            twice("\"tcp-350\""),
            twice("\"tcp-60\""),
            twice("\"udp-45-180\""),
            twice("\"udp-30-60\""),
            twice("\"udp-20-180\""),
            // The first and the third, in both directions.
            twice("\"udp-20-60\""),
        ]
        .concat();
        assert_eq!(set, expected);
        assert_eq!(table.timeouts["udp-20-60"].states, [("unreplied", 20), ("replied", 60)]);
        let links: Vec<_> = table.sets["tcp-60-links"].elements.keys().collect();
        assert_eq!(links, ["\"eni000000000001\""]);
    }
}
