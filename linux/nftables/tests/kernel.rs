//! Shows that the kernel takes what is rendered, in throw-away namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{path::PathBuf, process::Command, time::Duration};

use linux_nftables::{
    ApplyError, Chain, ChainKind, Family, Hook, HookPoint, Nft, Set, Table, Transaction, priority,
};

struct Netns(String);

impl Netns {
    /// `None`, with a word on the terminal, where namespaces cannot be made.
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-nft-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    fn nft(&self) -> Nft {
        Nft::at(PathBuf::from("/run/netns").join(&self.0))
    }
}

impl Netns {
    /// Gives nft a text in the namespace.
    fn feed(&self, text: &str) {
        let file = std::env::temp_dir().join(format!("{}.nft", self.0));
        std::fs::write(&file, text).unwrap();
        let command = ["netns", "exec", &self.0, "nft", "-f", file.to_str().unwrap()];
        let status = Command::new("ip").args(command).status().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(status.success(), "nft refused {text}");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

fn table() -> Table {
    let mut table = Table::new(Family::Ip, "nst-test");
    table.chain("web").rule("tcp dport { 80, 443 } accept comment \"web\"");
    let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER).dropping();
    table.chains.insert("forward".into(), Chain::hooked(hook));
    table
        .chain("forward")
        .rule("ct state established,related accept")
        .rule("iifname . ip saddr vmap @sources")
        .rule("ip saddr @recent drop");
    table
        .set("sources", Set::map("ifname . ipv4_addr", "verdict").flag("interval"))
        .entry("\"eth0\" . 10.0.0.0/24", "goto web");
    table.set(
        "recent",
        Set::of("ipv4_addr")
            .flag("dynamic")
            .flag("timeout")
            .timeout(Duration::from_secs(60))
            .size(65536),
    );
    table
        .set("numbers", Set::map("inet_service", "ipv4_addr . inet_service"))
        .entry("80", "10.0.0.1 . 8080");
    table
}

#[test]
fn a_table_is_put_in_place_changed_and_removed_without_touching_another() {
    let Some(netns) = Netns::new("a") else { return };
    let nft = netns.nft();
    let mut other = Table::new(Family::Ip, "other");
    other.chain("mine").rule("counter accept");
    nft.replace(&other).unwrap();

    nft.replace(&table()).unwrap();
    nft.replace(&table()).unwrap();
    let mut new = table();
    new.chains.remove("web");
    new.chain("db").rule("tcp dport 5432 accept");
    new.set("sources", Set::map("ifname . ipv4_addr", "verdict").flag("interval"))
        .entry("\"eth0\" . 10.0.0.0/24", "goto db")
        .entry("\"eth1\" . 10.0.1.0/24", "drop");
    new.sets.remove("numbers");
    nft.apply(&new.changes_from(&table())).unwrap();
    let listed = nft.list_table(Family::Ip, "nst-test").unwrap().unwrap();
    assert!(listed.contains("goto db") && !listed.contains("chain web"), "{listed}");
    assert!(!listed.contains("numbers"), "{listed}");
    nft.apply(&table().changes_from(&new)).unwrap();

    nft.delete_table(Family::Ip, "nst-test").unwrap();
    nft.delete_table(Family::Ip, "nst-test").unwrap();
    assert!(!nft.has_table(Family::Ip, "nst-test").unwrap());
    assert!(nft.has_table(Family::Ip, "other").unwrap());
}

/// What netlink makes of a transaction is what nft makes of its text.
#[test]
fn the_kernel_holds_the_same_whoever_spoke_to_it() {
    for family in [Family::Ip, Family::Ip6] {
        let (Some(ours), Some(theirs)) = (Netns::new("s"), Netns::new("n")) else { return };
        let (ip, address) = match family {
            Family::Ip => ("ip", "ipv4_addr"),
            _ => ("ip6", "ipv6_addr"),
        };
        let mut table = Table::new(family, "nst-test");
        let hook = Hook::new(ChainKind::Nat, HookPoint::Prerouting, priority::DSTNAT);
        table.chains.insert("nat".into(), Chain::hooked(hook));
        table.chain("nat").rule(format!("{ip} daddr . meta l4proto . th dport vmap @services"));
        let kind = format!("{address} . inet_proto . inet_service");
        table.set("services", Set::map(&kind, "verdict"));
        table.set("plain", Set::of(address));
        let target = format!("{ip} daddr . tcp dport");
        let by_number = format!("{target} . numgen random mod 2");
        table.set("targets", Set::map_typeof(&by_number, &target));
        let sticky = Set::of(address).flag("dynamic").flag("timeout");
        table.set("sticky", sticky.timeout(Duration::from_secs(60)).size(65535));
        for netns in [&ours, &theirs] {
            netns.nft().replace(&table).unwrap();
        }

        let (a, b, net, constant) = match family {
            Family::Ip => ("10.0.0.1", "10.0.0.2", "192.168.0.0/20", "10.0.0.1:80"),
            _ => ("fd00::1", "fd00::2", "fd00:1::/52", "[fd00::1]:80"),
        };
        let mut change = Transaction::on(family, "nst-test");
        for (name, set) in &table.sets {
            change.know_set(name, set);
        }
        for chain in ["lb", "stick", "local", "to-mark", "gone"] {
            change.add_chain(chain, None);
        }
        for (chain, rule) in [
            ("lb", format!("dnat {ip} to {target} . numgen random mod 3 map @targets")),
            ("stick", format!("{ip} saddr @sticky goto lb")),
            ("stick", format!("update @sticky {{ {ip} saddr }}")),
            ("stick", "numgen random mod 2 vmap { 0 : goto lb, 1 : goto local }".to_owned()),
            ("local", format!("{ip} saddr {net} goto lb")),
            ("local", format!("{ip} saddr {a} return")),
            ("local", "fib saddr type local jump to-mark".to_owned()),
            ("local", "fib daddr type local goto lb".to_owned()),
            (
                "local",
                format!(
                    "meta l4proto udp dnat {ip} to numgen random mod 2 map \
                     {{ 0 : {a} . 53, 1 : {b} . 53 }}"
                ),
            ),
            ("to-mark", format!("meta l4proto tcp dnat {ip} to {constant}")),
            ("gone", "drop".to_owned()),
        ] {
            change.add_rule(chain, &rule);
        }
        let services =
            [(format!("{a} . tcp . 80"), "goto lb"), (format!("{a} . udp . 53"), "drop")];
        change.add_elements("services", services.iter().map(|(key, value)| (&**key, *value)));
        let targets = [
            (format!("{a} . 80 . 0"), format!("{b} . 8080")),
            (format!("{a} . 80 . 300"), format!("{b} . 8081")),
        ];
        change.add_elements("targets", targets.iter().map(|(key, value)| (&**key, &**value)));
        change.add_elements("plain", [(a, ""), (b, "")]);
        change.delete_elements("plain", [b]);
        change.flush_chain("gone");
        change.delete_chain("gone");
        ours.nft().apply(&change).unwrap();
        theirs.feed(&change.text());

        let listed = |netns: &Netns| netns.nft().list_table(family, "nst-test").unwrap().unwrap();
        assert_eq!(listed(&ours), listed(&theirs));
        assert!(listed(&ours).contains("numgen random mod 2 vmap"), "{}", listed(&ours));
    }
}

#[test]
fn a_table_that_several_make_at_once_is_made_by_one_and_keeps_what_all_put_into_it() {
    let Some(netns) = Netns::new("ensure") else { return };
    let mut table = Table::new(Family::Ip, "nst-test");
    table.set("ports", Set::of("inet_service"));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (netns, table) = (&netns, &table);
            scope.spawn(move || {
                let nft = netns.nft();
                nft.ensure(table).unwrap();
                let mut transaction = Transaction::on(Family::Ip, "nst-test");
                transaction.add_elements("ports", [(number.to_string().as_str(), "")]);
                nft.apply(&transaction).unwrap();
            });
        }
    });
    let listed = netns.nft().list_table(Family::Ip, "nst-test").unwrap().unwrap();
    let listed = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(listed.contains("elements = { 0, 1, 2, 3, 4, 5, 6, 7 }"), "{listed}");
    let mut wrong = Table::new(Family::Ip, "nst-other");
    wrong.chain("web").rule("this is no rule");
    netns.nft().ensure(&wrong).unwrap_err();
}

#[test]
fn a_refused_transaction_changes_nothing_and_says_why() {
    let Some(netns) = Netns::new("b") else { return };
    let nft = netns.nft();
    nft.replace(&table()).unwrap();
    let mut transaction = Transaction::on(Family::Ip, "nst-test");
    transaction.flush_chain("forward");
    transaction.add_rule("nowhere", "accept");
    let error = nft.apply(&transaction).unwrap_err();
    assert!(matches!(&error, ApplyError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    assert!(error.to_string().contains("add rule ip nst-test nowhere accept"), "{error}");
    assert!(nft.list_table(Family::Ip, "nst-test").unwrap().unwrap().contains("established"));
}

#[test]
fn an_update_heals_a_table_that_someone_else_broke() {
    let Some(netns) = Netns::new("c") else { return };
    let nft = netns.nft();
    nft.update(None, &table()).unwrap();
    nft.delete_table(Family::Ip, "nst-test").unwrap();
    let mut new = table();
    new.chain("web").rule("drop");
    nft.update(Some(&table()), &new).unwrap();
    assert!(nft.list_table(Family::Ip, "nst-test").unwrap().unwrap().contains("chain web"));
}
