//! Policy routing rules.

use ipnet::IpNet;

use crate::{
    Netlink, RequestError,
    codec::{AF_INET, AF_INET6, Message, Request, attributes, ip_of, string_of, u32_at},
    link::gone_is_fine,
    route::TABLE_MAIN,
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_EXCL},
};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRHDR_LEN: usize = 12;
const FR_ACT_TO_TBL: u8 = 1;

/// A rule that looks a table up for the packets that it matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub priority: u32,
    pub is_ipv6: bool,
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    pub input: Option<String>,
    pub output: Option<String>,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    pub table: u32,
}

impl Rule {
    /// An IPv4 rule at `priority` that matches everything and looks up `table`.
    pub fn new(priority: u32, table: u32) -> Self {
        Self {
            priority,
            is_ipv6: false,
            from: None,
            to: None,
            input: None,
            output: None,
            mark: None,
            table,
        }
    }

    pub fn from(mut self, net: IpNet) -> Self {
        self.is_ipv6 = matches!(net, IpNet::V6(_));
        self.from = Some(net.trunc());
        self
    }

    pub fn to(mut self, net: IpNet) -> Self {
        self.is_ipv6 = matches!(net, IpNet::V6(_));
        self.to = Some(net.trunc());
        self
    }

    pub fn input(mut self, link: impl Into<String>) -> Self {
        self.input = Some(link.into());
        self
    }

    pub fn mark(mut self, mark: u32, mask: u32) -> Self {
        self.mark = Some((mark, mask));
        self
    }

    pub fn ipv6(mut self) -> Self {
        self.is_ipv6 = true;
        self
    }
}

impl Netlink {
    /// The rules of both families, by priority.
    pub fn rules(&self) -> Result<Vec<Rule>, RequestError> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut fixed = [0; FRHDR_LEN];
            fixed[0] = family;
            let request = Request::new(RTM_GETRULE, DUMP, &fixed);
            self.query("list rules", request, |message| found.extend(parse(message)))?;
        }
        Ok(found)
    }

    pub fn add_rule(&self, rule: &Rule) -> Result<(), RequestError> {
        let request = message(RTM_NEWRULE, CHANGE | NLM_F_CREATE | NLM_F_EXCL, rule);
        match self.change(&format!("add rule {}", describe(rule)), request) {
            Err(error) if error.is_already_there() => Ok(()),
            other => other,
        }
    }

    pub fn delete_rule(&self, rule: &Rule) -> Result<(), RequestError> {
        let request = message(RTM_DELRULE, CHANGE, rule);
        gone_is_fine(self.change(&format!("delete rule {}", describe(rule)), request))
    }
}

fn describe(rule: &Rule) -> String {
    let mut text = format!("{}:", rule.priority);
    if let Some(from) = rule.from {
        text.push_str(&format!(" from `{from}`"));
    }
    if let Some(to) = rule.to {
        text.push_str(&format!(" to `{to}`"));
    }
    if let Some(input) = &rule.input {
        text.push_str(&format!(" iif `{input}`"));
    }
    if let Some((mark, mask)) = rule.mark {
        text.push_str(&format!(" fwmark {mark:#x}/{mask:#x}"));
    }
    text.push_str(&format!(" lookup {}", rule.table));
    text
}

fn message(kind: u16, flags: u16, rule: &Rule) -> Request {
    let mut fixed = [0; FRHDR_LEN];
    fixed[0] = if rule.is_ipv6 { AF_INET6 } else { AF_INET };
    fixed[1] = rule.to.map_or(0, |net| net.prefix_len());
    fixed[2] = rule.from.map_or(0, |net| net.prefix_len());
    fixed[4] = u8::try_from(rule.table).unwrap_or(0);
    fixed[7] = FR_ACT_TO_TBL;
    let mut request = Request::new(kind, flags, &fixed);
    if let Some(to) = rule.to {
        request.ip(FRA_DST, to.network());
    }
    if let Some(from) = rule.from {
        request.ip(FRA_SRC, from.network());
    }
    if let Some(input) = &rule.input {
        request.string(FRA_IIFNAME, input);
    }
    if let Some(output) = &rule.output {
        request.string(FRA_OIFNAME, output);
    }
    if let Some((mark, mask)) = rule.mark {
        request.u32(FRA_FWMARK, mark);
        request.u32(FRA_FWMASK, mask);
    }
    request.u32(FRA_PRIORITY, rule.priority);
    request.u32(FRA_TABLE, rule.table);
    request
}

fn parse(message: Message<'_>) -> Option<Rule> {
    if message.kind != RTM_NEWRULE {
        return None;
    }
    let fixed = message.payload.get(..FRHDR_LEN)?;
    let mut rule = Rule::new(0, TABLE_MAIN);
    rule.is_ipv6 = fixed[0] == AF_INET6;
    rule.table = u32::from(fixed[4]);
    let (mut mark, mut mask) = (None, u32::MAX);
    for (kind, value) in attributes(message.payload.get(FRHDR_LEN..)?) {
        match kind {
            FRA_DST => rule.to = IpNet::new(ip_of(value)?, fixed[1]).ok(),
            FRA_SRC => rule.from = IpNet::new(ip_of(value)?, fixed[2]).ok(),
            FRA_IIFNAME => rule.input = Some(string_of(value)),
            FRA_OIFNAME => rule.output = Some(string_of(value)),
            FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
            FRA_FWMARK => mark = u32_at(value, 0),
            FRA_FWMASK => mask = u32_at(value, 0)?,
            FRA_TABLE => rule.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    Some(rule)
}
