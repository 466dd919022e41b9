//! A server that forges, and what is kept of its replies.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hickory_proto::{
    op::{OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use lifecycle::Scope;

use super::*;

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn reply_to(question: &[u8], ttl: u32) -> Message {
    let asked = Message::from_vec(question).unwrap();
    let mut reply = Message::response(asked.metadata.id, OpCode::Query);
    reply.add_queries(asked.queries.clone());
    let name = asked.queries[0].name().clone();
    reply.add_answer(Record::from_rdata(name, ttl, RData::A(A([203, 0, 113, 1].into()))));
    reply
}

/// A server that first sends a forged reply, and counts what it is asked.
fn server(scope: &Scope) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = Place::Here.udp(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    drop(scope.spawn("server", async move {
        let mut buffer = vec![0; 512];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let mut forged = reply_to(&buffer[..len], 300);
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers[0].data = RData::A(A([6, 6, 6, 6].into()));
            socket.send_to(&forged.to_vec().unwrap(), peer).await.unwrap();
            let reply = reply_to(&buffer[..len], 300).to_vec().unwrap();
            socket.send_to(&reply, peer).await.unwrap();
        }
    }));
    (address, asked)
}

#[tokio::test]
async fn a_reply_is_kept_for_others_with_their_id_and_a_forged_one_is_not_believed() {
    let scope = Scope::new();
    let (address, asked) = server(&scope);
    let upstream = Upstream::new(vec![address], Duration::from_secs(30));
    for id in [7, 8] {
        let reply = upstream.ask(&query(id, "Example.com."), Limit::Udp).await.unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.id, id);
        assert_eq!(reply.answers[0].data, RData::A(A([203, 0, 113, 1].into())));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    scope.cancel();
}

#[test]
fn failures_and_cut_replies_are_not_kept_and_nothing_longer_than_its_time() {
    let max = Duration::from_secs(30);
    let reply = |ttl| reply_to(&query(1, "a."), ttl);
    let age = |message: Message| age(&message.to_vec().unwrap(), max);
    assert_eq!(age(reply(300)), Some(max));
    assert_eq!(age(reply(10)), Some(Duration::from_secs(10)));
    assert_eq!(age(reply(0)), None);
    let mut failed = reply(300);
    failed.metadata.response_code = ResponseCode::ServFail;
    assert_eq!(age(failed), None);
    let mut cut = reply(300);
    cut.metadata.truncation = true;
    assert_eq!(age(cut), None);
}

#[test]
fn resolv_conf_names_servers() {
    let text = "# x\nsearch ec2.internal\nnameserver 192.168.0.2\nnameserver fd00::1\noptions y\n";
    let servers = parse_resolv_conf(text);
    assert_eq!(servers, ["192.168.0.2:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
}
