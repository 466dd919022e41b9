//! Asks the server over its sockets, with another one behind it for the names of others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cluster_dns::{
    server::Server,
    upstream::Upstream,
    zone::{ServiceRecord, Zone},
};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType, rdata::A},
};
use lifecycle::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::Place;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A server of `domain` with one Service, `web`.
fn server(
    domain: &str,
    ip: [u8; 4],
    others: Vec<SocketAddr>,
    scope: &Scope,
) -> (Arc<Server>, SocketAddr) {
    let mut zone = Zone::new(domain);
    let record = ServiceRecord { cluster_ips: vec![ip.into()], ..ServiceRecord::default() };
    zone.set_service(("default".into(), "web".into()), Some(record));
    let alias = ServiceRecord {
        external_name: Some("web.default.svc.example.org".into()),
        ..ServiceRecord::default()
    };
    zone.set_service(("default".into(), "alias".into()), Some(alias));
    let server = Arc::new(Server::new(zone, Upstream::new(others, Duration::from_secs(30))));
    let address = server.listen(&Place::Here, LOOPBACK.into(), scope).unwrap();
    (server, address)
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn over_udp(server: SocketAddr, name: &str) -> Message {
    let socket = Place::Here.udp(LOOPBACK.into()).unwrap();
    socket.send_to(&question(name), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let limit = Duration::from_secs(5);
    let len = tokio::time::timeout(limit, socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..len]).unwrap()
}

/// Two questions on one connection.
async fn over_tcp(server: SocketAddr, names: [&str; 2]) -> Vec<Message> {
    let mut stream = Place::Here.connect(server, Duration::from_secs(1)).await.unwrap();
    let mut replies = Vec::new();
    for name in names {
        let question = question(name);
        stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut reply).await.unwrap();
        replies.push(Message::from_vec(&reply).unwrap());
    }
    replies
}

fn address(reply: &Message) -> Option<[u8; 4]> {
    reply.answers.iter().find_map(|record| match &record.data {
        RData::A(A(ip)) => Some(ip.octets()),
        _ => None,
    })
}

#[tokio::test]
async fn own_names_are_answered_others_are_asked_for_and_aliases_are_followed() {
    let scope = Scope::new();
    let (others, elsewhere) = server("example.org", [203, 0, 113, 7], vec![], &scope);
    let (ours, address_of) = server("cluster.local", [10, 100, 0, 20], vec![elsewhere], &scope);
    let own = "web.default.svc.cluster.local.";
    assert_eq!(over_udp(address_of, own).await.metadata.response_code, ResponseCode::ServFail);
    others.set_ready();
    ours.set_ready();

    let rows = [
        (own, Some([10, 100, 0, 20])),
        ("web.default.svc.example.org.", Some([203, 0, 113, 7])),
        ("alias.default.svc.cluster.local.", Some([203, 0, 113, 7])),
        ("nobody.default.svc.cluster.local.", None),
    ];
    for (name, expected) in rows {
        assert_eq!(address(&over_udp(address_of, name).await), expected, "{name} over UDP");
    }
    let replies = over_tcp(address_of, [own, "web.default.svc.example.org."]).await;
    assert_eq!(address(&replies[0]), Some([10, 100, 0, 20]));
    assert_eq!(address(&replies[1]), Some([203, 0, 113, 7]));
    scope.cancel();
}

#[tokio::test]
async fn when_nobody_answers_for_others_the_client_is_told_to_ask_again() {
    let scope = Scope::new();
    let silent = Place::Here.udp(LOOPBACK.into()).unwrap();
    let (ours, address_of) =
        server("cluster.local", [10, 100, 0, 20], vec![silent.local_addr().unwrap()], &scope);
    ours.set_ready();
    let reply = over_udp(address_of, "example.org.").await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    scope.cancel();
}
