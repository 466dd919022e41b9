//! Queries as bytes, and what comes back.

use super::*;
use crate::zone::{EndpointRecord, ServiceRecord, tests::zone};

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn reply(name: &str, kind: RecordType) -> Message {
    match answer(Some(&zone()), &query(name, kind), Limit::Udp) {
        Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_services_name_in_any_case_has_its_address_for_five_seconds() {
    let reply = reply("Web.Default.svc.cluster.LOCAL.", RecordType::A);
    assert_eq!(reply.answers[0].data, RData::A(A([10, 100, 0, 20].into())));
    assert_eq!(reply.answers[0].ttl, 5);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
}

#[test]
fn a_name_without_this_type_exists_and_an_unknown_one_does_not() {
    let known = reply("web.default.svc.cluster.local.", RecordType::AAAA);
    assert_eq!(known.metadata.response_code, ResponseCode::NoError);
    assert!(known.answers.is_empty() && !known.authorities.is_empty());
    let unknown = reply("nobody.default.svc.cluster.local.", RecordType::A);
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    assert!(!unknown.authorities.is_empty());
}

#[test]
fn servers_come_with_their_addresses() {
    let reply = reply("_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!((reply.answers.len(), reply.additionals.len()), (2, 2));
}

#[test]
fn an_address_leads_back_to_its_name_and_others_go_outside() {
    let reply = reply("20.0.100.10.in-addr.arpa.", RecordType::PTR);
    let RData::PTR(PTR(name)) = &reply.answers[0].data else { panic!("a name was asked for") };
    assert_eq!(name.to_ascii(), "web.default.svc.cluster.local.");
    for (name, kind) in
        [("8.8.8.8.in-addr.arpa.", RecordType::PTR), ("example.com.", RecordType::A)]
    {
        assert_eq!(answer(Some(&zone()), &query(name, kind), Limit::Udp), Answer::Forward);
    }
}

#[test]
fn an_external_name_is_an_alias_whose_target_is_followed() {
    let asked = query("out.default.svc.cluster.local.", RecordType::A);
    let Answer::Follow { reply, target } = answer(Some(&zone()), &asked, Limit::Udp) else {
        panic!("the target is outside");
    };
    assert_eq!(target.to_ascii(), "example.com.");
    let mut theirs = Message::response(1, OpCode::Query);
    theirs.add_answer(record(&target, RData::A(A([203, 0, 113, 1].into()))));
    let bytes = complete(*reply, Some(&theirs.to_vec().unwrap()), Limit::Udp);
    assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 2);
}

#[test]
fn an_external_name_within_the_cluster_comes_with_the_addresses_of_its_target() {
    let mut zone = zone();
    for (alias, target) in [("a", "b"), ("b", "web"), ("round", "round"), ("lost", "nobody")] {
        let service = ServiceRecord {
            external_name: Some(format!("{target}.default.svc.cluster.local")),
            ..ServiceRecord::default()
        };
        zone.set_service(("default".to_owned(), alias.to_owned()), Some(service));
    }
    let asked = |alias: &str, kind| {
        let asked = query(&format!("{alias}.default.svc.cluster.local."), kind);
        let Answer::Reply(bytes) = answer(Some(&zone), &asked, Limit::Udp) else {
            panic!("{alias}")
        };
        Message::from_vec(&bytes).unwrap()
    };
    let reply = asked("a", RecordType::A);
    assert_eq!(reply.answers.len(), 3);
    assert_eq!(reply.answers[2].name.to_ascii(), "web.default.svc.cluster.local.");
    assert_eq!(reply.answers[2].data, RData::A(A([10, 100, 0, 20].into())));
    assert_eq!(asked("a", RecordType::CNAME).answers.len(), 1);
    for alias in ["round", "lost"] {
        let reply = asked(alias, RecordType::A);
        assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 1), "{alias}");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{alias}");
    }
}

#[test]
fn before_the_first_lists_are_complete_the_answer_is_to_ask_again() {
    let asked = query("web.default.svc.cluster.local.", RecordType::A);
    let Answer::Reply(bytes) = answer(None, &asked, Limit::Udp) else { panic!("it is a query") };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn an_answer_that_does_not_fit_is_cut_over_udp_and_whole_over_tcp() {
    let mut zone = zone();
    let id = ("default".to_owned(), "big".to_owned());
    zone.set_service(id.clone(), Some(ServiceRecord::default()));
    let endpoint = |n: u8| EndpointRecord {
        addresses: vec![IpAddr::from([192, 168, 9, n])],
        hostname: None,
        is_ready: true,
        ports: vec![],
    };
    zone.set_slice(id, "s", Some((0..200).map(endpoint).collect()));
    let asked = query("big.default.svc.cluster.local.", RecordType::A);
    for (limit, is_cut, count) in [(Limit::Udp, true, 0), (Limit::Tcp, false, 200)] {
        let Answer::Reply(bytes) = answer(Some(&zone), &asked, limit) else { panic!("{limit:?}") };
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!((reply.metadata.truncation, reply.answers.len()), (is_cut, count), "{limit:?}");
    }
}

#[test]
fn nonsense_gets_an_error_or_nothing() {
    assert_eq!(answer(Some(&zone()), &[1, 2, 3], Limit::Udp), Answer::Nothing);
    let Answer::Reply(bytes) = answer(Some(&zone()), &[0xff; 40], Limit::Udp) else {
        panic!("it has an id");
    };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
}
