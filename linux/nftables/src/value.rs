//! The value: tables, chains, sets and maps.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Hook priorities by their names in nft(8).
pub mod priority {
    pub const RAW: i32 = -300;
    pub const MANGLE: i32 = -150;
    pub const DSTNAT: i32 = -100;
    pub const FILTER: i32 = 0;
    pub const SECURITY: i32 = 50;
    pub const SRCNAT: i32 = 100;
}

/// Words of nft(8)'s grammar that are tempting names and that it refuses as such.
const KEYWORDS: &[&str] = &[
    "accept",
    "add",
    "all",
    "arp",
    "chain",
    "continue",
    "counter",
    "ct",
    "delete",
    "dnat",
    "drop",
    "dup",
    "element",
    "ether",
    "fib",
    "flow",
    "flush",
    "fwd",
    "goto",
    "hook",
    "icmp",
    "iif",
    "inet",
    "ip",
    "ip6",
    "jump",
    "limit",
    "list",
    "log",
    "map",
    "mark",
    "masquerade",
    "meta",
    "meter",
    "notrack",
    "numgen",
    "oif",
    "policy",
    "queue",
    "quota",
    "redirect",
    "reject",
    "return",
    "rt",
    "rule",
    "ruleset",
    "set",
    "snat",
    "socket",
    "synproxy",
    "table",
    "tcp",
    "udp",
    "update",
];

/// Whether nft takes `name` as a table's, chain's or set's.
pub fn is_valid_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_other = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    name.len() < 128
        && name.starts_with(is_first)
        && name.chars().all(is_other)
        && !KEYWORDS.contains(&name)
}

/// A string for a rule: an interface's name, a comment. Quotes and control characters, which nft
/// cannot escape, are left out.
pub fn quote(text: &str) -> String {
    let clean: String =
        text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
    format!("\"{clean}\"")
}

/// The packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps.
    pub sets: BTreeMap<String, Set>,
    /// How long connections are tracked, for rules that say `ct timeout set "NAME"`.
    pub timeouts: BTreeMap<String, CtTimeout>,
}

impl Table {
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            timeouts: BTreeMap::new(),
        }
    }

    /// The chain of that name; made, without a hook, where it is not there.
    pub fn chain(&mut self, name: impl Into<String>) -> &mut Chain {
        self.chains.entry(name.into()).or_default()
    }

    /// Adds or replaces a set or map.
    pub fn set(&mut self, name: impl Into<String>, set: Set) -> &mut Set {
        let name = name.into();
        self.sets.insert(name.clone(), set);
        self.sets.get_mut(&name).expect("it was inserted on the line above")
    }
}

/// After how many seconds of silence a connection is forgotten, by its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtTimeout {
    /// `tcp`, `udp`.
    pub protocol: &'static str,
    /// `established`; `unreplied`, `replied`. Others keep the kernel's.
    pub states: Vec<(&'static str, u32)>,
}

impl CtTimeout {
    /// The block of an `add ct timeout` command.
    pub(crate) fn definition(&self, family: Family) -> String {
        let states: Vec<String> =
            self.states.iter().map(|(state, seconds)| format!("{state} : {seconds}")).collect();
        let (protocol, states) = (self.protocol, states.join(", "));
        format!("{{ protocol {protocol}; l3proto {family}; policy = {{ {states} }}; }}")
    }
}

/// A chain: its hook, where it is a base chain, and its rules in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub hook: Option<Hook>,
    /// Each as nft(8) writes it, on one line.
    pub rules: Vec<String>,
}

impl Chain {
    pub fn hooked(hook: Hook) -> Self {
        Self { hook: Some(hook), rules: Vec::new() }
    }

    pub fn rule(&mut self, rule: impl Into<String>) -> &mut Self {
        self.rules.push(rule.into());
        self
    }
}

/// Where a base chain hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub kind: ChainKind,
    pub point: HookPoint,
    pub priority: i32,
    pub policy: Policy,
    /// For `netdev` tables.
    pub device: Option<String>,
}

impl Hook {
    /// A hook whose policy is to accept.
    pub fn new(kind: ChainKind, point: HookPoint, priority: i32) -> Self {
        Self { kind, point, priority, policy: Policy::Accept, device: None }
    }

    pub fn dropping(mut self) -> Self {
        self.policy = Policy::Drop;
        self
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let point = match self.point {
            HookPoint::Ingress => "ingress",
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        write!(f, "type {kind} hook {point}")?;
        if let Some(device) = &self.device {
            write!(f, " device {}", quote(device))?;
        }
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, " priority {}; policy {policy};", self.priority)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
    Route,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

/// A set, or with `value` a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// `type ipv4_addr . inet_service` or `typeof ip daddr . numgen random mod 2`, with the word.
    pub key: String,
    /// What a map gives: `verdict`, `ipv4_addr . inet_service`, or an expression after `typeof`.
    pub value: Option<String>,
    /// `interval`, `timeout`, `dynamic`, `constant`.
    pub flags: Vec<&'static str>,
    pub timeout: Option<Duration>,
    pub size: Option<u32>,
    /// Key to value; the value is empty in a set. Packets may add more where the set is dynamic:
    /// those are the kernel's, and no transaction touches them.
    pub elements: BTreeMap<String, String>,
}

impl Set {
    /// A set of `kind` (`ipv4_addr . inet_service`).
    pub fn of(kind: &str) -> Self {
        Self {
            key: format!("type {kind}"),
            value: None,
            flags: Vec::new(),
            timeout: None,
            size: None,
            elements: BTreeMap::new(),
        }
    }

    /// A map from `kind` to `value` (`verdict`, `ipv4_addr . inet_service`).
    pub fn map(kind: &str, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..Self::of(kind) }
    }

    /// A map whose types are those of expressions.
    pub fn map_typeof(key: &str, value: &str) -> Self {
        Self { key: format!("typeof {key}"), ..Self::map("", value) }
    }

    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    pub fn size(mut self, size: u32) -> Self {
        self.size = Some(size);
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds a member of a set.
    pub fn member(&mut self, key: impl Into<String>) -> &mut Self {
        self.elements.insert(key.into(), String::new());
        self
    }

    /// Adds an entry of a map.
    pub fn entry(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.elements.insert(key.into(), value.into());
        self
    }

    /// `set` or `map`, as commands name it.
    pub(crate) fn word(&self) -> &'static str {
        if self.value.is_some() { "map" } else { "set" }
    }

    /// All but the elements.
    pub(crate) fn shape(&self) -> Self {
        Self {
            key: self.key.clone(),
            value: self.value.clone(),
            flags: self.flags.clone(),
            timeout: self.timeout,
            size: self.size,
            elements: BTreeMap::new(),
        }
    }

    /// Whether only the elements may differ.
    pub(crate) fn has_shape_of(&self, other: &Self) -> bool {
        self.key == other.key
            && self.value == other.value
            && self.flags == other.flags
            && self.timeout == other.timeout
            && self.size == other.size
    }

    /// The block of an `add set` or `add map` command.
    pub(crate) fn definition(&self) -> String {
        let mut text = format!("{{ {}", self.key);
        if let Some(value) = &self.value {
            text.push_str(&format!(" : {value}"));
        }
        text.push(';');
        if !self.flags.is_empty() {
            text.push_str(&format!(" flags {};", self.flags.join(", ")));
        }
        if let Some(timeout) = self.timeout {
            text.push_str(&format!(" timeout {}s;", timeout.as_secs()));
        }
        if let Some(size) = self.size {
            text.push_str(&format!(" size {size};"));
        }
        text.push_str(" }");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nft_would_refuse_are_not_valid() {
        for name in ["kube-proxy", "aws_cni", "lb-10", "eni-0a1.x", "_"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "fwd", "1a", "-a", "a b", "a;flush ruleset", "é", "drop"] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    #[test]
    fn a_quoted_string_cannot_end_early() {
        assert_eq!(quote("eth0\"; flush ruleset\n"), "\"eth0; flush ruleset\"");
    }
}
