//! From a query's bytes to an answer's: pure, but for what must be asked outside.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SOA},
    },
};

use crate::{Found, Zone};

/// Seconds that an answer may be kept. Short: addresses move between instances.
const TTL: u32 = 60;
/// Seconds that "there is no such name" may be kept.
const NEGATIVE_TTL: u32 = 5;

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Vec<u8>),
    /// The outside resolvers must be asked.
    Forward,
    /// Not even the beginning of a query.
    Nothing,
}

/// Answers one query; an answer over UDP is at most as long as the client can take.
pub fn answer(zone: &Zone, query: &[u8], limit: Limit) -> Answer {
    let Ok(request) = Message::from_vec(query) else {
        return malformed(query);
    };
    if request.metadata.message_type != MessageType::Query {
        return Answer::Nothing;
    }
    let mut reply = empty_reply(&request);
    let [question] = request.queries.as_slice() else {
        return finish(reply, ResponseCode::FormErr, &request, limit);
    };
    if request.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return finish(reply, ResponseCode::NotImp, &request, limit);
    }
    let code = match find(zone, question) {
        Found::Outside => return Answer::Forward,
        Found::Addresses(addresses) => {
            let record = |it: Ipv4Addr| record(question, RData::A(A(it)));
            reply.add_answers(addresses.into_iter().map(record));
            ResponseCode::NoError
        }
        Found::Ipv6Address(address) => {
            reply.add_answer(record(question, RData::AAAA(AAAA(address))));
            ResponseCode::NoError
        }
        Found::Name(name) => match Name::from_ascii(format!("{name}.")) {
            Ok(name) => {
                reply.add_answer(record(question, RData::PTR(PTR(name))));
                ResponseCode::NoError
            }
            Err(_) => ResponseCode::ServFail,
        },
        Found::Nothing => ResponseCode::NoError,
        Found::Unknown => ResponseCode::NXDomain,
    };
    if reply.answers.is_empty() {
        reply.add_authorities(authority(question.name()));
    }
    finish(reply, code, &request, limit)
}

/// How long an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// 512 bytes, or what the client says that it can take.
    Udp,
    Tcp,
}

fn find(zone: &Zone, question: &Query) -> Found {
    let name = question.name().to_ascii();
    match question.query_type() {
        RecordType::A | RecordType::ANY => zone.addresses(&name),
        RecordType::AAAA => zone.ipv6_address(&name),
        RecordType::PTR => match question.name().parse_arpa_name().map(|it| it.addr()) {
            Ok(IpAddr::V4(address)) => zone.name_of(address),
            _ => Found::Unknown,
        },
        _ => zone.other(&name),
    }
}

fn empty_reply(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if let Some(theirs) = &request.edns {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(theirs.max_payload().clamp(512, 4096)).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

fn record(question: &Query, data: RData) -> Record {
    Record::from_rdata(question.name().clone(), TTL, data)
}

/// So that resolvers in between know how long "no" is good for (RFC 2308).
fn authority(name: &Name) -> Option<Record> {
    let server = Name::from_ascii("ns.amazonaws.internal.").ok()?;
    let mailbox = Name::from_ascii("hostmaster.amazonaws.internal.").ok()?;
    let soa = SOA::new(server, mailbox, 1, 7200, 900, 1_209_600, NEGATIVE_TTL);
    Some(Record::from_rdata(name.base_name(), NEGATIVE_TTL, RData::SOA(soa)))
}

fn finish(mut reply: Message, code: ResponseCode, request: &Message, limit: Limit) -> Answer {
    reply.metadata.response_code = code;
    let Ok(bytes) = reply.to_vec() else { return Answer::Nothing };
    let room = match limit {
        Limit::Tcp => usize::from(u16::MAX),
        Limit::Udp => usize::from(request.max_payload()).clamp(512, 4096),
    };
    if bytes.len() <= room {
        return Answer::Reply(bytes);
    }
    reply.truncate().to_vec().map_or(Answer::Nothing, Answer::Reply)
}

/// "Not now", for a query that would have to be forwarded.
pub(crate) fn failed(query: &[u8]) -> Option<Vec<u8>> {
    let mut reply = empty_reply(&Message::from_vec(query).ok()?);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.to_vec().ok()
}

/// "I did not understand", for what has at least an id.
fn malformed(query: &[u8]) -> Answer {
    const HEADER_LEN: usize = 12;
    let Some(id) = query.first_chunk::<2>().filter(|_| query.len() >= HEADER_LEN) else {
        return Answer::Nothing;
    };
    let reply = Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, ResponseCode::FormErr);
    reply.to_vec().map_or(Answer::Nothing, Answer::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tests::zone;

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        match answer(&zone(), &query.to_vec().unwrap(), Limit::Udp) {
            Answer::Reply(bytes) => {
                let reply = Message::from_vec(&bytes).unwrap();
                assert_eq!(reply.metadata.id, query.metadata.id);
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_addresses_are_each_others_answers() {
        let reply = ask("ip-192-168-0-12.ec2.internal.", RecordType::A);
        assert_eq!(reply.answers[0].data, RData::A(A(Ipv4Addr::new(192, 168, 0, 12))));
        let reply = ask("12.0.168.192.in-addr.arpa.", RecordType::PTR);
        let RData::PTR(PTR(name)) = &reply.answers[0].data else { panic!() };
        assert_eq!(name.to_ascii(), "ip-192-168-0-12.ec2.internal.");
    }

    #[test]
    fn a_known_name_without_ipv6_exists_and_an_unknown_one_does_not() {
        let reply = ask("sts.us-east-1.amazonaws.com.", RecordType::AAAA);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty() && !reply.authorities.is_empty());
        let reply = ask("example.com.", RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn nonsense_gets_an_error_or_nothing() {
        assert_eq!(answer(&zone(), b"", Limit::Udp), Answer::Nothing);
        assert_eq!(answer(&zone(), &[1, 2, 3], Limit::Udp), Answer::Nothing);
        let Answer::Reply(bytes) = answer(&zone(), &[0xff; 40], Limit::Udp) else { panic!() };
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    }
}
