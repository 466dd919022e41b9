//! Expressions and anonymous maps as attributes.
//!
//! Source: Linux `include/uapi/linux/netfilter/nf_tables.h`.

use super::{
    ELEMENT_DATA, append_verdict,
    batch::{Batch, NLM_F_APPEND, NLM_F_CREATE},
    data::{Part, Value, Verdict},
    rule::{AnonymousMap, Expression, Rule, SetName},
};

pub(super) const NEW_RULE: u8 = 6;
pub(super) const NEW_SET: u8 = 9;
pub(super) const RULE_FLAGS: u16 = NLM_F_CREATE | NLM_F_APPEND;
/// The kernel numbers it; the name tells a set from a map to who lists it.
pub(super) const ANONYMOUS_NAME: &str = "__map%d";

const RULE_EXPRESSIONS: u16 = 4;
const LIST_ITEM: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;

/// The body of an anonymous map's message after its table; `id` is what the batch knows it by.
pub(super) fn anonymous_map(map: &AnonymousMap, id: u32, batch: &mut Batch) {
    const ANONYMOUS_CONSTANT_MAP: u32 = 0x1 | 0x2 | 0x8;
    const TYPE_INTEGER: u32 = 4;
    const TYPE_VERDICT: u32 = 0xffff_ff00;
    batch.string(2, ANONYMOUS_NAME);
    batch.u32(3, ANONYMOUS_CONSTANT_MAP);
    batch.u32(4, TYPE_INTEGER);
    batch.u32(5, 4);
    let (kind, len) = match &map.value {
        Value::Nothing | Value::Verdict => (TYPE_VERDICT, 16),
        Value::Data(parts) => (type_of(parts), len_of(parts)),
    };
    batch.u32(6, kind);
    batch.u32(7, len);
    let description = batch.nest(9);
    batch.u32(1, u32::try_from(map.entries.len()).unwrap_or(u32::MAX));
    batch.end(description);
    batch.u32(10, id);
    // What nft keeps there for itself: the keys are in the host's order.
    batch.attribute(13, &[0, 4, 1, 0, 0, 0]);
}

/// nft's number for a concatenation: six bits for each part.
fn type_of(parts: &[Part]) -> u32 {
    let number = |part: &Part| match part {
        Part::Ipv4 => 7,
        Part::Ipv6 => 8,
        Part::Protocol => 12,
        Part::Port => 13,
        Part::Number => 4,
    };
    parts.iter().fold(0, |all, part| all << 6 | number(part))
}

fn len_of(parts: &[Part]) -> u32 {
    parts.iter().map(|part| if *part == Part::Ipv6 { 16 } else { 4 }).sum()
}

/// The expressions of `rule`, whose first anonymous map has the number `first_id`.
pub(super) fn append(rule: &Rule, first_id: u32, batch: &mut Batch) {
    let list = batch.nest(RULE_EXPRESSIONS);
    for expression in &rule.expressions {
        let item = batch.nest(LIST_ITEM);
        batch.string(NAME, name(expression));
        let data = batch.nest(DATA);
        body(expression, first_id, batch);
        batch.end(data);
        batch.end(item);
    }
    batch.end(list);
}

fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Payload { .. } => "payload",
        Expression::Protocol { .. } => "meta",
        Expression::FibType { .. } => "fib",
        Expression::Random { .. } => "numgen",
        Expression::Mask { .. } => "bitwise",
        Expression::Equals { .. } => "cmp",
        Expression::Lookup { .. } => "lookup",
        Expression::Constant { .. } | Expression::Verdict { .. } => "immediate",
        Expression::Dnat { .. } => "nat",
        Expression::Update { .. } => "dynset",
        Expression::Reject { .. } => "reject",
    }
}

fn body(expression: &Expression, first_id: u32, batch: &mut Batch) {
    match expression {
        Expression::Payload { base, offset, len, to } => {
            [*to, *base, *offset, *len].iter().zip(1..).for_each(|(it, kind)| batch.u32(kind, *it));
        }
        Expression::Protocol { to } => {
            const L4PROTO: u32 = 16;
            batch.u32(2, L4PROTO);
            batch.u32(1, *to);
        }
        Expression::FibType { flags, to } => {
            const ADDRESS_TYPE: u32 = 3;
            batch.u32(1, *to);
            batch.u32(2, ADDRESS_TYPE);
            batch.u32(3, *flags);
        }
        Expression::Random { modulus, to } => {
            const RANDOM: u32 = 1;
            batch.u32(1, *to);
            batch.u32(2, *modulus);
            batch.u32(3, RANDOM);
            batch.u32(4, 0);
        }
        Expression::Mask { register, mask } => {
            batch.u32(1, *register);
            batch.u32(2, *register);
            batch.u32(3, u32::try_from(mask.len()).unwrap_or(0));
            value(4, mask, batch);
            value(5, &vec![0; mask.len()], batch);
        }
        Expression::Equals { register, value: bytes } => {
            batch.u32(1, *register);
            batch.u32(2, 0);
            value(3, bytes, batch);
        }
        Expression::Lookup { set, from, to } => lookup(set, *from, *to, first_id, batch),
        Expression::Constant { to, value: bytes } => {
            batch.u32(1, *to);
            value(ELEMENT_DATA, bytes, batch);
        }
        Expression::Verdict { code, chain } => {
            batch.u32(1, 0);
            let nest = batch.nest(ELEMENT_DATA);
            append_verdict(batch, Verdict { code: *code, chain: chain.as_deref() });
            batch.end(nest);
        }
        Expression::Dnat { is_ipv4, address, port } => {
            const DNAT: u32 = 1;
            let family = if *is_ipv4 { 2 } else { 10 };
            [DNAT, family].iter().zip(1..).for_each(|(it, kind)| batch.u32(kind, *it));
            batch.u32(3, *address);
            batch.u32(5, *port);
        }
        Expression::Update { set, from } => {
            const UPDATE: u32 = 1;
            batch.string(1, set);
            batch.u32(3, UPDATE);
            batch.u32(4, *from);
        }
        Expression::Reject { is_ipv4 } => {
            // Port unreachable.
            let code = if *is_ipv4 { 3 } else { 4 };
            batch.u32(1, 0);
            batch.attribute(2, &[code]);
        }
    }
}

fn lookup(set: &SetName, from: u32, to: Option<u32>, first_id: u32, batch: &mut Batch) {
    let id = match set {
        SetName::Named(name) => {
            batch.string(1, name);
            None
        }
        SetName::Anonymous(number) => {
            batch.string(1, ANONYMOUS_NAME);
            Some(first_id + u32::try_from(*number).unwrap_or(0))
        }
    };
    batch.u32(2, from);
    if let Some(to) = to {
        batch.u32(3, to);
    }
    if let Some(id) = id {
        batch.u32(4, id);
    }
}

fn value(kind: u16, bytes: &[u8], batch: &mut Batch) {
    let nest = batch.nest(kind);
    batch.attribute(VALUE, bytes);
    batch.end(nest);
}
