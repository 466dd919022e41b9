//! Transactions as messages to the kernel, without nft.
//!
//! Starting `nft` costs milliseconds, and it reads the whole table before it changes an element. So
//! what has a simple form is said to the kernel directly: chains without a hook, rules that
//! [`rule`] understands, and elements of sets whose types are known. A transaction that has anything else in it is nft's, all of it.
//!
//! **Invariant:** the outcome is the same either way: what the kernel holds, and what an error says.
//!
//! Source: Linux `include/uapi/linux/netfilter/nf_tables.h`.

mod batch;
mod data;
mod expression;
mod network;
mod rule;
mod socket;

use std::{collections::HashMap, path::Path};

use batch::{Batch, MAX_NEST, NLM_F_CREATE, Nest};
use data::{Layout, Part, Value, Verdict};
use rule::Rule;
pub(crate) use socket::Kept;

use crate::{ApplyError, Family, Transaction, transaction::Command};

const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const DELETE_RULE: u8 = 8;
const DELETE_SET: u8 = 11;
const NEW_ELEMENT: u8 = 12;
const DELETE_ELEMENT: u8 = 14;

/// The first attributes of chains, rules, sets and elements: the table and the object.
const TABLE: u16 = 1;
const SET: u16 = 2;
const RULE_CHAIN: u16 = 2;
const CHAIN_NAME: u16 = 3;
const ELEMENTS: u16 = 3;
const SET_ID: u16 = 4;
const LIST_ITEM: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// So many entries of an anonymous map fit into one message.
const MAX_ANONYMOUS: usize = 400;

/// The messages of a transaction; `None` where nft has to say it.
pub(crate) fn encode(transaction: &Transaction) -> Option<Vec<u8>> {
    let family = match transaction.family() {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Ip6 => 10,
        Family::Arp | Family::Bridge | Family::Netdev => return None,
    };
    let mut encoder = Encoder {
        transaction,
        batch: Batch::new(family),
        number: 0,
        layouts: HashMap::new(),
        next_id: 1,
    };
    for (number, command) in transaction.commands().iter().enumerate() {
        encoder.number = number;
        encoder.command(command)?;
    }
    Some(encoder.batch.finish())
}

/// Sends the messages of `transaction` in the namespace at `netns` (`None`: here).
pub(crate) fn send(
    netns: Option<&Path>,
    kept: &Kept,
    transaction: &Transaction,
    messages: Vec<u8>,
) -> Result<(), ApplyError> {
    let refused = |command: Option<&Command>, errno: nix::errno::Errno| {
        let text = command.map(|it| transaction.text_of(it)).unwrap_or_default();
        ApplyError::refused(transaction.table(), errno.desc(), text.trim())
    };
    match socket::exchange(netns, kept, messages)? {
        Ok(()) => Ok(()),
        Err((number, errno)) => {
            let command = number.and_then(|it| transaction.commands().get(it));
            Err(refused(command, errno))
        }
    }
}

struct Encoder<'a> {
    transaction: &'a Transaction,
    batch: Batch,
    /// The command's, which an error names.
    number: usize,
    layouts: HashMap<&'a str, Option<Layout>>,
    /// Of the next anonymous map.
    next_id: u32,
}

impl<'a> Encoder<'a> {
    fn command(&mut self, command: &'a Command) -> Option<()> {
        match command {
            Command::AddChain { name, hook: None } => {
                self.begin(NEW_CHAIN, NLM_F_CREATE);
                self.batch.string(CHAIN_NAME, name);
            }
            Command::DeleteChain { name } => {
                self.begin(DELETE_CHAIN, 0);
                self.batch.string(CHAIN_NAME, name);
            }
            Command::FlushChain { name } => {
                self.begin(DELETE_RULE, 0);
                self.batch.string(RULE_CHAIN, name);
            }
            Command::AddRule { chain, rule } if self.transaction.family() != Family::Inet => {
                let is_ipv4 = self.transaction.family() == Family::Ip;
                self.rule(chain, &rule::parse(rule, is_ipv4)?)?;
            }
            Command::DeleteSet { name, .. } => {
                self.begin(DELETE_SET, 0);
                self.batch.string(SET, name);
            }
            Command::AddElements { set, elements } => {
                let elements = elements.iter().map(|(key, value)| (&**key, Some(&**value)));
                self.elements(NEW_ELEMENT, NLM_F_CREATE, set, elements)?;
            }
            Command::DeleteElements { set, keys } => {
                let elements = keys.iter().map(|key| (&**key, None));
                self.elements(DELETE_ELEMENT, 0, set, elements)?;
            }
            Command::AddTable
            | Command::CreateTable
            | Command::DeleteTable
            | Command::AddChain { .. }
            | Command::AddRule { .. }
            | Command::AddSet { .. }
            | Command::AddTimeout { .. }
            | Command::DeleteTimeout { .. } => return None,
        }
        Some(())
    }

    fn rule(&mut self, chain: &str, rule: &Rule) -> Option<()> {
        let first_id = self.next_id;
        for map in &rule.maps {
            let id = self.next_id;
            self.next_id += 1;
            self.begin(expression::NEW_SET, NLM_F_CREATE);
            expression::anonymous_map(map, id, &mut self.batch);
            let layout = Layout { key: vec![Part::Number], value: map.value.clone() };
            for some in map.entries.chunks(MAX_ANONYMOUS) {
                self.begin(NEW_ELEMENT, NLM_F_CREATE);
                self.batch.string(SET, expression::ANONYMOUS_NAME);
                self.batch.u32(SET_ID, id);
                let nest = self.batch.nest(ELEMENTS);
                for (key, value) in some {
                    self.element(&layout, key, Some(value))?;
                }
                self.batch.end(nest);
            }
        }
        self.begin(expression::NEW_RULE, expression::RULE_FLAGS);
        self.batch.string(RULE_CHAIN, chain);
        expression::append(rule, first_id, &mut self.batch);
        Some(())
    }

    fn begin(&mut self, kind: u8, flags: u16) {
        self.batch.message(kind, flags, self.number);
        self.batch.string(TABLE, self.transaction.table());
    }

    fn elements(
        &mut self,
        kind: u8,
        flags: u16,
        set: &'a str,
        elements: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Option<()> {
        let transaction = self.transaction;
        let layout = self
            .layouts
            .entry(set)
            .or_insert_with(|| transaction.shape(set).and_then(Layout::of))
            .clone()?;
        let mut open: Option<Nest> = None;
        for (key, value) in elements {
            if open.as_ref().is_some_and(|nest| self.batch.len_of(nest) > MAX_NEST)
                && let Some(full) = open.take()
            {
                self.batch.end(full);
            }
            if open.is_none() {
                self.begin(kind, flags);
                self.batch.string(SET, set);
                open = Some(self.batch.nest(ELEMENTS));
            }
            self.element(&layout, key, value)?;
        }
        if let Some(last) = open {
            self.batch.end(last);
        }
        Some(())
    }

    fn element(&mut self, layout: &Layout, key: &str, value: Option<&str>) -> Option<()> {
        let item = self.batch.nest(LIST_ITEM);
        let key = data::encode(key, &layout.key)?;
        let nest = self.batch.nest(ELEMENT_KEY);
        self.batch.attribute(DATA_VALUE, &key);
        self.batch.end(nest);
        if let Some(value) = value {
            match &layout.value {
                Value::Nothing if value.is_empty() => {}
                Value::Nothing => return None,
                Value::Verdict => {
                    let nest = self.batch.nest(ELEMENT_DATA);
                    append_verdict(&mut self.batch, data::verdict(value)?);
                    self.batch.end(nest);
                }
                Value::Data(parts) => {
                    let bytes = data::encode(value, parts)?;
                    let nest = self.batch.nest(ELEMENT_DATA);
                    self.batch.attribute(DATA_VALUE, &bytes);
                    self.batch.end(nest);
                }
            }
        }
        self.batch.end(item);
        Some(())
    }
}

fn append_verdict(batch: &mut Batch, verdict: Verdict<'_>) {
    let nest = batch.nest(DATA_VERDICT);
    batch.u32(VERDICT_CODE, verdict.code.cast_unsigned());
    if let Some(chain) = verdict.chain {
        batch.string(VERDICT_CHAIN, chain);
    }
    batch.end(nest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Set, Table};

    fn transaction() -> Transaction {
        let mut transaction = Transaction::on(Family::Ip, "t");
        transaction.know_set("m", &Set::map("ipv4_addr", "verdict"));
        transaction.add_elements("m", [("10.0.0.1", "goto web")]);
        transaction
    }

    #[test]
    fn elements_of_known_sets_are_spoken_and_others_are_not() {
        assert!(encode(&transaction()).is_some());
        let mut unknown = transaction();
        unknown.add_elements("n", [("10.0.0.1", "")]);
        assert!(encode(&unknown).is_none());
        let mut table = Table::new(Family::Ip, "t");
        table.set("m", Set::map("ipv4_addr", "verdict"));
        assert!(encode(&Transaction::replace(&table)).is_none());
    }

    #[test]
    fn many_elements_are_cut_into_messages_that_a_length_can_tell() {
        let mut transaction = Transaction::on(Family::Ip, "t");
        transaction.know_set("m", &Set::map("ipv4_addr . inet_service", "verdict"));
        let keys: Vec<String> =
            (0..5000).map(|n| format!("10.0.{}.{} . 80", n / 256, n % 256)).collect();
        transaction
            .add_elements("m", keys.iter().map(|key| (key.as_str(), "goto a-chain-of-some-name")));
        let bytes = encode(&transaction).unwrap();
        let (mut at, mut kinds) = (0, Vec::new());
        while at < bytes.len() {
            let len = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            kinds.push(bytes[at + 4]);
            at += len;
        }
        assert_eq!(at, bytes.len());
        assert!(kinds.len() > 4, "{kinds:?}");
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), (16, 17));
        assert!(kinds[1..kinds.len() - 1].iter().all(|kind| *kind == NEW_ELEMENT));
    }
}
