//! Shows that the kernel takes what is rendered, in throw-away namespaces.

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
