//! From a query's bytes to an answer's: pure, but for what others must be asked.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT},
    },
};

use crate::zone::{Found, Zone};

/// Seconds that an answer may be kept, as CoreDNS has it.
const TTL: u32 = 5;
/// What an answer over UDP is cut at, whatever the client says: one Ethernet frame (DNS flag day).
const MAX_UDP: u16 = 1232;

/// How many aliases in a row are followed within the zone, as CoreDNS does: they may go in circles.
const MAX_ALIASES: usize = 8;

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Reply(Vec<u8>),
    /// Others have to be asked.
    Forward,
    /// Others have to be asked for the alias's target; the reply is completed by [`complete`].
    Follow {
        reply: Box<Message>,
        target: Name,
    },
    /// Not even the beginning of a query.
    Nothing,
}

/// How long an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Udp,
    Tcp,
}

/// Answers one query. Before the zone is complete (`None`) nothing of the cluster is answered.
pub fn answer(zone: Option<&Zone>, query: &[u8], limit: Limit) -> Answer {
    let Ok(request) = Message::from_vec(query) else { return malformed(query) };
    if request.metadata.message_type != MessageType::Query {
        return Answer::Nothing;
    }
    let [question] = request.queries.as_slice() else {
        return finish(empty(&request), ResponseCode::FormErr, limit);
    };
    if request.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return finish(empty(&request), ResponseCode::NotImp, limit);
    }
    let Some(zone) = zone else {
        return finish(empty(&request), ResponseCode::ServFail, limit);
    };
    let mut reply = empty(&request);
    reply.metadata.authoritative = true;
    let kind = question.query_type();
    let (name, found) = resolve(zone, question, &mut reply);
    if found == Found::Outside {
        return match reply.answers.is_empty() {
            true => Answer::Forward,
            false => Answer::Follow { reply: Box::new(reply), target: name },
        };
    }
    let aliases = reply.answers.len();
    let mut code = ResponseCode::NoError;
    match found {
        Found::Addresses(addresses) => {
            let records = addresses.iter().filter_map(|ip| address(&name, ip, kind));
            reply.add_answers(shuffled(records.collect()));
        }
        Found::Servers(servers) => {
            for server in servers {
                let Some(target) = absolute(&server.target) else { continue };
                let data = RData::SRV(SRV::new(0, 100, server.port, target.clone()));
                reply.add_answer(record(&name, data));
                let glue = server.addresses.iter();
                reply.add_additionals(glue.filter_map(|ip| address(&target, ip, RecordType::ANY)));
            }
        }
        Found::Names(names) => {
            let names = names.iter().filter_map(|name| absolute(name));
            reply.add_answers(names.map(|it| record(&name, RData::PTR(PTR(it)))));
        }
        Found::Text(text) if kind == RecordType::TXT => {
            let data = RData::TXT(TXT::new(vec![text.to_owned()]));
            reply.add_answer(record(&name, data));
        }
        Found::Text(_) | Found::Nothing | Found::Outside | Found::Alias(_) => {}
        // Of an alias the name itself is known.
        Found::Unknown if aliases > 0 => {}
        Found::Unknown => code = ResponseCode::NXDomain,
    }
    if reply.answers.len() == aliases && kind != RecordType::CNAME {
        // An alias of nothing says nothing, as CoreDNS has it.
        reply.answers.clear();
    }
    if reply.answers.is_empty() {
        reply.add_authorities(authority(zone));
    }
    finish(reply, code, limit)
}

/// The reply with what others said about its alias's target.
pub fn complete(mut reply: Message, theirs: Option<&[u8]>, limit: Limit) -> Vec<u8> {
    if let Some(theirs) = theirs.and_then(|bytes| Message::from_vec(bytes).ok()) {
        reply.add_answers(theirs.answers);
    }
    match finish(reply, ResponseCode::NoError, limit) {
        Answer::Reply(bytes) => bytes,
        _ => Vec::new(),
    }
}

/// What a name leads to, at the end of the zone's aliases, which are put into the reply.
fn resolve(zone: &Zone, question: &Query, reply: &mut Message) -> (Name, Found) {
    let (mut name, kind) = (question.name().clone(), question.query_type());
    let mut found = find(zone, &name, kind);
    while let Found::Alias(target) = &found {
        let Some(target) = absolute(target) else { return (name, Found::Nothing) };
        reply.add_answer(record(&name, RData::CNAME(CNAME(target.clone()))));
        if kind == RecordType::CNAME || reply.answers.len() == MAX_ALIASES {
            return (name, Found::Nothing);
        }
        found = find(zone, &target, kind);
        name = target;
    }
    (name, found)
}

fn find(zone: &Zone, asked: &Name, kind: RecordType) -> Found {
    let name = asked.to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    match kind {
        RecordType::PTR => match asked.parse_arpa_name().map(|it| it.addr()) {
            Ok(ip) => zone.reverse(&ip),
            Err(_) => zone.addresses(name),
        },
        RecordType::SRV => zone.servers(name),
        RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::CNAME => {
            zone.addresses(name)
        }
        _ => match zone.addresses(name) {
            // It exists, but not with this type.
            Found::Addresses(_) | Found::Servers(_) | Found::Names(_) => Found::Nothing,
            other => other,
        },
    }
}

fn empty(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if let Some(theirs) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(theirs.max_payload().clamp(512, MAX_UDP)).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(name: &Name, ip: &IpAddr, kind: RecordType) -> Option<Record> {
    match (ip, kind) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => Some(record(name, RData::A(A(*ip)))),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => {
            Some(record(name, RData::AAAA(AAAA(*ip))))
        }
        _ => None,
    }
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

/// Many clients use the first address only, so it is another one each time.
fn shuffled(mut records: Vec<Record>) -> Vec<Record> {
    for last in (1..records.len()).rev() {
        let other = entropy::below(last as u64 + 1);
        records.swap(last, usize::try_from(other).unwrap_or(last));
    }
    records
}

/// So that whoever caches knows how long "no" is good for (RFC 2308).
fn authority(zone: &Zone) -> Option<Record> {
    let server = absolute(&format!("ns.dns.{}", zone.domain))?;
    let mailbox = absolute(&format!("hostmaster.{}", zone.domain))?;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, TTL);
    Some(Record::from_rdata(absolute(&zone.domain)?, TTL, RData::SOA(soa)))
}

fn finish(mut reply: Message, code: ResponseCode, limit: Limit) -> Answer {
    reply.metadata.response_code = code;
    let Ok(bytes) = reply.to_vec() else { return Answer::Nothing };
    let room = match limit {
        Limit::Tcp => u16::MAX,
        Limit::Udp => reply.edns.as_ref().map_or(512, Edns::max_payload),
    };
    if bytes.len() <= usize::from(room) {
        return Answer::Reply(bytes);
    }
    // What is additional goes first; an answer that still does not fit is asked for over TCP.
    reply.additionals.clear();
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(room) => Answer::Reply(bytes),
        _ => reply.truncate().to_vec().map_or(Answer::Nothing, Answer::Reply),
    }
}

/// "I did not understand", for what has at least an id.
fn malformed(query: &[u8]) -> Answer {
    const HEADER_LEN: usize = 12;
    match query.first_chunk::<2>() {
        Some(id) if query.len() >= HEADER_LEN => {
            let id = u16::from_be_bytes(*id);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            reply.to_vec().map_or(Answer::Nothing, Answer::Reply)
        }
        _ => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests;
