//! Fragments as a table, and the transaction that turns fragments into others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use linux_nftables::{Chain, ChainKind, Hook, HookPoint, Set, Table, Transaction, priority};

use crate::{
    compile::{By, Fragment, NodePorts, Options, Shared, endpoints_map},
    service_map::Protocol,
};

pub const TABLE: &str = "kube-proxy";

/// Before DNAT, where the address is still the Service's.
const BEFORE_DNAT: i32 = priority::DSTNAT - 10;
const AFTER_DNAT: i32 = priority::DSTNAT + 10;

/// How many fragments use what they share. See [`Ledger::change`].
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    members: HashMap<(&'static str, String), usize>,
    chains: BTreeSet<Shared>,
}

/// The table without any Service.
pub fn base(options: &Options) -> Table {
    let ip = options.ip();
    let address = if options.is_ipv4() { "ipv4_addr" } else { "ipv6_addr" };
    let service = format!("{address} . inet_proto . inet_service");
    let mut table = Table::new(options.family, TABLE);
    table.set("cluster-ips", Set::of(address));
    table.set("hairpins", Set::of(&format!("{address} . {address}")));
    table.set("service-ips", Set::map(&service, "verdict"));
    table.set("service-nodeports", Set::map("inet_proto . inet_service", "verdict"));
    table.set("no-endpoint-services", Set::map(&service, "verdict"));
    table.set("no-endpoint-nodeports", Set::map("inet_proto . inet_service", "verdict"));
    table.set("firewall-ips", Set::map(&service, "verdict"));
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let port = format!("{} dport", protocol.as_str());
        let (number, target) = ("numgen random mod 2", format!("{ip} daddr . {port}"));
        let by_address = Set::map_typeof(&format!("{target} . {number}"), &target);
        table.set(endpoints_map(By::Address, protocol), by_address);
        let by_port = Set::map_typeof(&format!("{port} . {number}"), &target);
        table.set(endpoints_map(By::NodePort, protocol), by_port);
    }

    nat_chains(&mut table, options);
    filter_chains(&mut table, options);
    table
}

fn hooked(table: &mut Table, name: &str, kind: ChainKind, point: HookPoint, priority: i32) {
    table.chains.insert(name.to_owned(), Chain::hooked(Hook::new(kind, point, priority)));
}

fn nat_chains(table: &mut Table, options: &Options) {
    use {ChainKind::Nat, HookPoint::*};
    let (ip, mark) = (options.ip(), options.masquerade_mark);
    hooked(table, "nat-prerouting", Nat, Prerouting, priority::DSTNAT);
    hooked(table, "nat-output", Nat, Output, priority::DSTNAT);
    hooked(table, "nat-postrouting", Nat, Postrouting, priority::SRCNAT);
    table.chain("nat-prerouting").rule("jump services");
    table.chain("nat-output").rule("jump services");
    let services = table.chain("services");
    if options.masquerade_all {
        services.rule(format!("{ip} daddr @cluster-ips jump mark-for-masquerade"));
    } else if let Some(others) = options.local.matching(ip, "!= ") {
        services.rule(format!("{ip} daddr @cluster-ips {others} jump mark-for-masquerade"));
    }
    services.rule(format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"));
    if let Some(ours) = node_port(options) {
        services.rule(format!("{ours} meta l4proto . th dport vmap @service-nodeports"));
    }
    table.chain("mark-for-masquerade").rule(format!("meta mark set meta mark or {mark:#x}"));
    table
        .chain("nat-postrouting")
        .rule(format!(
            "meta mark and {mark:#x} == {mark:#x} meta mark set meta mark xor {mark:#x} \
             masquerade fully-random"
        ))
        .rule(format!("ct status dnat {ip} saddr . {ip} daddr @hairpins masquerade fully-random"));
}

/// Whether a packet is for an address of the node that has node ports; `None`: for none.
fn node_port(options: &Options) -> Option<String> {
    let ip = options.ip();
    let not_loopback = match options.is_ipv4() {
        true => "ip daddr != 127.0.0.0/8",
        false => "ip6 daddr != ::1",
    };
    match &options.node_ports {
        NodePorts::All => Some(format!("{not_loopback} fib daddr type local")),
        NodePorts::Primary => {
            let own = options.node_ip.filter(|ip| !ip.is_loopback())?;
            Some(format!("{ip} daddr {own}"))
        }
        NodePorts::Cidrs(cidrs) => {
            let ours = cidrs.iter().filter(|it| it.addr().is_ipv4() == options.is_ipv4());
            let ours: Vec<IpNet> = IpNet::aggregate(&ours.map(IpNet::trunc).collect());
            if ours.is_empty() || ours.iter().any(|it| it.prefix_len() == 0) {
                return Some(format!("{not_loopback} fib daddr type local"));
            }
            let list: Vec<String> = ours.iter().map(ToString::to_string).collect();
            let list = list.join(", ");
            Some(format!("{not_loopback} {ip} daddr {{ {list} }} fib daddr type local"))
        }
    }
}

fn filter_chains(table: &mut Table, options: &Options) {
    use {ChainKind::Filter, HookPoint::*};
    let ip = options.ip();
    hooked(table, "filter-prerouting", Filter, Prerouting, BEFORE_DNAT);
    hooked(table, "filter-input", Filter, Input, BEFORE_DNAT);
    hooked(table, "filter-forward", Filter, Forward, BEFORE_DNAT);
    hooked(table, "filter-output", Filter, Output, BEFORE_DNAT);
    hooked(table, "filter-output-post-dnat", Filter, Output, AFTER_DNAT);
    let firewall = format!("ct state new {ip} daddr . meta l4proto . th dport vmap @firewall-ips");
    table.chain("filter-prerouting").rule(firewall.clone());
    table.chain("filter-output").rule(firewall);
    // After DNAT: what was translated has an endpoint's address, and is none of these.
    for chain in ["filter-input", "filter-forward", "filter-output-post-dnat"] {
        table.chain(chain).rule("ct state new jump no-endpoints");
    }
    let nobody = table.chain("no-endpoints");
    nobody.rule(format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services"));
    if let Some(ours) = node_port(options) {
        nobody.rule(format!("{ours} meta l4proto . th dport vmap @no-endpoint-nodeports"));
    }
    // A cluster address that was not translated has no such port.
    for chain in ["filter-forward", "filter-output-post-dnat"] {
        table.chain(chain).rule(format!("ct state new {ip} daddr @cluster-ips goto reject-chain"));
    }
    // One that no Service has leads nowhere, and not out of the node.
    if !options.service_cidrs.is_empty() {
        let all = IpNet::aggregate(&options.service_cidrs.iter().map(IpNet::trunc).collect());
        let list = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        for chain in ["filter-forward", "filter-output-post-dnat"] {
            table.chain(chain).rule(format!("ct state new {ip} daddr {{ {list} }} drop"));
        }
    }
    table.chain("reject-chain").rule("reject");
}

/// The whole table for `fragments`, and the ledger to go on with.
pub fn whole(options: &Options, fragments: impl Iterator<Item = Fragment>) -> (Table, Ledger) {
    let mut table = base(options);
    let mut ledger = Ledger::default();
    for fragment in fragments {
        for (name, rules) in fragment.chains {
            table.chain(name).rules = rules;
        }
        table.sets.extend(fragment.sets);
        for ((map, key), value) in fragment.elements {
            elements(&mut table, map).insert(key, value);
        }
        for (set, key) in fragment.members {
            elements(&mut table, set).insert(key.clone(), String::new());
            *ledger.members.entry((set, key)).or_default() += 1;
        }
        for shared in fragment.shared {
            table.chain(shared.name()).rules = shared.rules(options.ip());
            ledger.chains.insert(shared);
        }
    }
    (table, ledger)
}

fn elements<'a>(table: &'a mut Table, set: &str) -> &'a mut BTreeMap<String, String> {
    &mut table.sets.get_mut(set).expect("the base table has every map that fragments use").elements
}

/// A fragment that takes another's place; empty ones for what is new or gone.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub old: Fragment,
    pub new: Fragment,
}

impl Ledger {
    /// The transaction for `changes`, which costs what differs. `base` is the table without any
    /// Service: what its sets are is said to the kernel. Shared chains stay when nobody leads
    /// to them any more: there are as many as there are numbers of endpoints.
    pub fn change(&mut self, options: &Options, base: &Table, changes: &[Change]) -> Transaction {
        let mut transaction = Transaction::on(options.family, TABLE);
        base.sets.iter().for_each(|(name, set)| transaction.know_set(name, set));
        let (mut gone, mut added) = (Elements::new(), Elements::new());
        for change in changes {
            difference(&change.old, &change.new, &mut gone, &mut added);
        }
        self.count_members(changes, &mut gone, &mut added);
        self.add_chains(options, changes, &mut transaction);
        drop_moves(&mut gone, &mut added);
        for (map, elements) in &gone {
            transaction.delete_elements(map, elements.keys().map(String::as_str));
        }
        for (map, elements) in &added {
            let pairs = elements.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            transaction.add_elements(map, pairs);
        }
        change_chains(changes, &mut transaction);
        transaction
    }

    fn count_members(&mut self, changes: &[Change], gone: &mut Elements, added: &mut Elements) {
        let mut before: BTreeMap<(&'static str, &str), usize> = BTreeMap::new();
        for change in changes {
            for (set, key) in change.old.members.symmetric_difference(&change.new.members) {
                let count = self.members.get(&(*set, key.clone())).copied().unwrap_or(0);
                before.entry((set, key)).or_insert(count);
            }
        }
        for change in changes {
            for member in change.new.members.difference(&change.old.members) {
                *self.members.entry(member.clone()).or_default() += 1;
            }
            for member in change.old.members.difference(&change.new.members) {
                if let Some(count) = self.members.get_mut(member) {
                    *count = count.saturating_sub(1);
                }
            }
        }
        for ((set, key), count) in before {
            let id = (set, key.to_owned());
            let is_used = self.members.get(&id).is_some_and(|count| *count > 0);
            if !is_used {
                self.members.remove(&id);
            }
            match (count > 0, is_used) {
                (true, false) => drop(gone.entry(set).or_default().insert(id.1, String::new())),
                (false, true) => drop(added.entry(set).or_default().insert(id.1, String::new())),
                _ => {}
            }
        }
    }

    fn add_chains(&mut self, options: &Options, changes: &[Change], out: &mut Transaction) {
        for shared in changes.iter().flat_map(|change| &change.new.shared) {
            if self.chains.insert(*shared) {
                let name = shared.name();
                out.add_chain(&name, None);
                shared.rules(options.ip()).iter().for_each(|rule| out.add_rule(&name, rule));
            }
        }
        for change in changes {
            for (name, set) in &change.new.sets {
                if !change.old.sets.contains_key(name) {
                    out.add_set(name, set);
                }
            }
            for name in change.new.chains.keys() {
                if !change.old.chains.contains_key(name) {
                    out.add_chain(name, None);
                }
            }
        }
    }
}

type Elements = BTreeMap<&'static str, BTreeMap<String, String>>;

fn difference(old: &Fragment, new: &Fragment, gone: &mut Elements, added: &mut Elements) {
    for ((map, key), value) in &old.elements {
        if new.elements.get(&(*map, key.clone())) != Some(value) {
            gone.entry(map).or_default().insert(key.clone(), value.clone());
        }
    }
    for ((map, key), value) in &new.elements {
        if old.elements.get(&(*map, key.clone())) != Some(value) {
            added.entry(map).or_default().insert(key.clone(), value.clone());
        }
    }
}

/// An element that one fragment drops and another takes, with the same value, does not change.
fn drop_moves(gone: &mut Elements, added: &mut Elements) {
    for (map, elements) in gone {
        let Some(others) = added.get_mut(map) else { continue };
        elements.retain(|key, value| {
            let is_same = others.get(key) == Some(value);
            if is_same {
                others.remove(key);
            }
            !is_same
        });
    }
}

/// Rules of changed chains, and the end of those that are gone: after all that referred to them.
fn change_chains(changes: &[Change], out: &mut Transaction) {
    for change in changes {
        let gone = change.old.chains.keys().filter(|name| !change.new.chains.contains_key(*name));
        gone.for_each(|name| out.flush_chain(name));
        for (name, rules) in &change.new.chains {
            match change.old.chains.get(name) {
                Some(old) if old == rules => continue,
                Some(_) => out.flush_chain(name),
                None => {}
            }
            rules.iter().for_each(|rule| out.add_rule(name, rule));
        }
    }
    for change in changes {
        let gone = change.old.chains.keys().filter(|name| !change.new.chains.contains_key(*name));
        gone.for_each(|name| out.delete_chain(name));
        for (name, set) in &change.old.sets {
            if !change.new.sets.contains_key(name) {
                out.delete_set(name, set);
            }
        }
    }
}
