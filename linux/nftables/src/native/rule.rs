//! Rules of simple forms, read into the kernel's expressions.
//!
//! What is understood: matches of addresses, of the protocol and of where an address is; lookups in
//! sets; verdicts; `update`, `reject`, and `dnat` to a constant or through `numgen` and a map. Any
//! other word makes the rule nft's business.
//!
//! Source: nft(8); Linux `nf_tables.h`. Values pass from one expression to the next in registers
//! of four bytes.

use super::{
    data::{self, Part, Value, Verdict},
    network::Network,
};

/// `NFT_REG32_00`: the first register that is free for values.
const FIRST: u32 = 8;
const TCP_DPORT_OFFSET: u32 = 2;

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Loads `len` bytes at `offset` of the network (1) or transport (2) header.
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        to: u32,
    },
    /// `NFT_META_L4PROTO`
    Protocol {
        to: u32,
    },
    /// The type of the source (1) or destination (2) address.
    FibType {
        flags: u32,
        to: u32,
    },
    Random {
        modulus: u32,
        to: u32,
    },
    Mask {
        register: u32,
        mask: Vec<u8>,
    },
    Equals {
        register: u32,
        value: Vec<u8>,
    },
    /// `to`: where a map's value goes; zero is the verdict.
    Lookup {
        set: SetName,
        from: u32,
        to: Option<u32>,
    },
    Constant {
        to: u32,
        value: Vec<u8>,
    },
    Verdict {
        code: i32,
        chain: Option<String>,
    },
    Dnat {
        is_ipv4: bool,
        address: u32,
        port: u32,
    },
    Update {
        set: String,
        from: u32,
    },
    Reject {
        is_ipv4: bool,
    },
}

/// A set of the table, or the one of that number that the rule brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetName {
    Named(String),
    Anonymous(usize),
}

/// A map from numbers that belongs to one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnonymousMap {
    pub(super) value: Value,
    pub(super) entries: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) expressions: Vec<Expression>,
    pub(super) maps: Vec<AnonymousMap>,
}

/// Reads a rule; `None` where it has a form that is not known.
pub(super) fn parse(text: &str, is_ipv4: bool) -> Option<Rule> {
    let spaced = text.replace(',', " , ");
    let mut reader = Reader {
        words: spaced.split_whitespace().collect::<Vec<_>>(),
        at: 0,
        is_ipv4,
        rule: Rule::default(),
    };
    while reader.at < reader.words.len() {
        reader.statement()?;
    }
    Some(reader.rule)
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    is_ipv4: bool,
    rule: Rule,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> &'a str {
        self.words.get(self.at + ahead).copied().unwrap_or_default()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    /// Takes these words, if they are next.
    fn take(&mut self, words: &[&str]) -> Option<()> {
        let is_next = words.iter().enumerate().all(|(n, word)| self.peek(n) == *word);
        is_next.then(|| self.at += words.len())
    }

    fn push(&mut self, expression: Expression) {
        self.rule.expressions.push(expression);
    }

    fn ip(&self) -> &'static str {
        if self.is_ipv4 { "ip" } else { "ip6" }
    }

    fn address(&self) -> Part {
        if self.is_ipv4 { Part::Ipv4 } else { Part::Ipv6 }
    }

    fn statement(&mut self) -> Option<()> {
        match self.peek(0) {
            "accept" | "drop" | "return" => self.verdict(1),
            "jump" | "goto" => self.verdict(2),
            "reject" => {
                self.at += 1;
                let is_ipv4 = self.is_ipv4;
                self.push(Expression::Reject { is_ipv4 });
                Some(())
            }
            "update" => self.update(),
            "dnat" => self.dnat(),
            "numgen" => self.random_verdict(),
            _ => self.matching(),
        }
    }

    fn verdict(&mut self, words: usize) -> Option<()> {
        let text = self.words.get(self.at..self.at + words)?.join(" ");
        self.at += words;
        let Verdict { code, chain } = data::verdict(&text)?;
        self.push(Expression::Verdict { code, chain: chain.map(str::to_owned) });
        Some(())
    }

    /// `ip saddr @set`, `ip saddr 10.0.0.0/8`, `meta l4proto tcp`, `fib daddr type local`
    fn matching(&mut self) -> Option<()> {
        if self.take(&["meta", "l4proto"]).is_some() {
            let value = data::encode(self.next()?, &[Part::Protocol])?;
            self.push(Expression::Protocol { to: FIRST });
            self.push(Expression::Equals { register: FIRST, value });
            return Some(());
        }
        if self.take(&["fib"]).is_some() {
            let flags = match self.next()? {
                "saddr" => 1,
                "daddr" => 2,
                _ => return None,
            };
            self.take(&["type", "local"])?;
            self.push(Expression::FibType { flags, to: FIRST });
            // `RTN_LOCAL`
            self.push(Expression::Equals { register: FIRST, value: 2u32.to_ne_bytes().to_vec() });
            return Some(());
        }
        self.load_address(FIRST)?;
        let operand = self.next()?;
        if let Some(set) = operand.strip_prefix('@') {
            let set = SetName::Named(set.to_owned());
            self.push(Expression::Lookup { set, from: FIRST, to: None });
            return Some(());
        }
        let network = Network::parse(operand, self.is_ipv4)?;
        if let Some(mask) = network.mask() {
            self.push(Expression::Mask { register: FIRST, mask });
        }
        self.push(Expression::Equals { register: FIRST, value: network.address });
        Some(())
    }

    /// `ip saddr` into the register; gives back the next free one.
    fn load_address(&mut self, to: u32) -> Option<u32> {
        let is_source = match (self.peek(0) == self.ip(), self.peek(1)) {
            (true, "saddr") => true,
            (true, "daddr") => false,
            _ => return None,
        };
        self.at += 2;
        let (offset, len) = match (self.is_ipv4, is_source) {
            (true, true) => (12, 4),
            (true, false) => (16, 4),
            (false, true) => (8, 16),
            (false, false) => (24, 16),
        };
        self.push(Expression::Payload { base: 1, offset, len, to });
        Some(to + len / 4)
    }

    /// `update @set { ip saddr }`
    fn update(&mut self) -> Option<()> {
        self.take(&["update"])?;
        let set = self.next()?.strip_prefix('@')?.to_owned();
        self.take(&["{"])?;
        self.load_address(FIRST)?;
        self.take(&["}"])?;
        self.push(Expression::Update { set, from: FIRST });
        Some(())
    }

    /// `dnat ip to` an address and port, a map of a random number, or a map of the packet's own
    /// destination and a random number.
    fn dnat(&mut self) -> Option<()> {
        let ip = self.ip();
        self.take(&["dnat", ip, "to"])?;
        let parts = [self.address(), Part::Port];
        let port = FIRST + if self.is_ipv4 { 1 } else { 4 };
        if self.peek(0) == "numgen" {
            self.random(FIRST)?;
            let value = Value::Data(parts.to_vec());
            self.take(&["map"])?;
            let set = self.anonymous(value)?;
            self.push(Expression::Lookup { set, from: FIRST, to: Some(FIRST) });
        } else if self.peek(1).ends_with("addr") || self.peek(1) == "dport" {
            self.by_destination()?;
        } else {
            let (address, number) = self.next()?.rsplit_once(':')?;
            let address = address.trim_start_matches('[').trim_end_matches(']');
            let address = data::encode(address, &parts[..1])?;
            let number = data::encode(number, &parts[1..])?;
            self.push(Expression::Constant { to: FIRST, value: address });
            self.push(Expression::Constant { to: port, value: number });
        }
        let is_ipv4 = self.is_ipv4;
        self.push(Expression::Dnat { is_ipv4, address: FIRST, port });
        Some(())
    }

    /// `[ip daddr .] tcp dport . numgen random mod N map @set`
    fn by_destination(&mut self) -> Option<()> {
        // A port is of a protocol: that it is this one is matched first, as nft does.
        let at_port = if self.peek(0) == self.ip() { 3 } else { 0 };
        let protocol = data::encode(self.peek(at_port), &[Part::Protocol])?;
        self.push(Expression::Protocol { to: FIRST });
        self.push(Expression::Equals { register: FIRST, value: protocol });
        let mut register = FIRST;
        if at_port > 0 {
            register = self.load_address(register)?;
            self.take(&["."])?;
        }
        self.at += 1;
        self.take(&["dport", "."])?;
        self.push(Expression::Payload { base: 2, offset: TCP_DPORT_OFFSET, len: 2, to: register });
        self.random(register + 1)?;
        self.take(&["map"])?;
        let set = SetName::Named(self.next()?.strip_prefix('@')?.to_owned());
        self.push(Expression::Lookup { set, from: FIRST, to: Some(FIRST) });
        Some(())
    }

    /// `numgen random mod N vmap { 0 : goto a, … }`
    fn random_verdict(&mut self) -> Option<()> {
        self.random(FIRST)?;
        self.take(&["vmap"])?;
        let set = self.anonymous(Value::Verdict)?;
        self.push(Expression::Lookup { set, from: FIRST, to: Some(0) });
        Some(())
    }

    fn random(&mut self, to: u32) -> Option<()> {
        self.take(&["numgen", "random", "mod"])?;
        let modulus = self.next()?.parse().ok()?;
        self.push(Expression::Random { modulus, to });
        Some(())
    }

    /// `{ 0 : value, … }`
    fn anonymous(&mut self, value: Value) -> Option<SetName> {
        self.take(&["{"])?;
        let mut entries = Vec::new();
        loop {
            let key = self.next()?.to_owned();
            self.take(&[":"])?;
            let mut words = Vec::new();
            while !matches!(self.peek(0), "," | "}") {
                words.push(self.next()?);
            }
            entries.push((key, words.join(" ")));
            if self.next()? == "}" {
                break;
            }
        }
        self.rule.maps.push(AnonymousMap { value, entries });
        Some(SetName::Anonymous(self.rule.maps.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_load_balancer_are_understood() {
        for rule in [
            "goto web",
            "jump mark-for-masquerade",
            "drop",
            "reject",
            "ip saddr 192.168.0.0/16 goto svc",
            "ip saddr @affinity goto ep",
            "fib saddr type local jump mark-for-masquerade",
            "update @affinity { ip saddr }",
            "meta l4proto tcp dnat ip to 10.0.0.1:80",
            "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 80 }",
            "dnat ip to ip daddr . tcp dport . numgen random mod 3 map @endpoints-tcp",
            "dnat ip to tcp dport . numgen random mod 3 map @nodeport-endpoints-tcp",
            "numgen random mod 2 vmap { 0 : goto a, 1 : goto b }",
        ] {
            assert!(parse(rule, true).is_some(), "{rule}");
        }
        assert!(parse("meta l4proto udp dnat ip6 to [fd00::1]:53", false).is_some());
    }

    #[test]
    fn other_rules_are_left_to_nft() {
        for rule in [
            "ip saddr != 10.0.0.0/8 drop",
            "ip saddr { 10.0.0.1, 10.0.0.2 } accept",
            "tcp dport 80 accept",
            "ct state established accept",
            "counter",
            "goto",
            "accept comment \"web\"",
            "ip6 saddr fd00::1 drop",
            "ip saddr 10.0.0.1-10.0.0.9 drop",
            "dnat ip to 10.0.0.1",
        ] {
            assert!(parse(rule, true).is_none(), "{rule}");
        }
    }

    #[test]
    fn a_network_is_compared_under_its_mask_and_an_address_without() {
        let rule = parse("ip saddr 192.168.0.0/16 drop", true).unwrap();
        assert_eq!(
            rule.expressions[1],
            Expression::Mask { register: 8, mask: vec![255, 255, 0, 0] }
        );
        let rule = parse("ip saddr 192.168.0.1 drop", true).unwrap();
        assert_eq!(
            rule.expressions[1],
            Expression::Equals { register: 8, value: vec![192, 168, 0, 1] }
        );
    }
}
