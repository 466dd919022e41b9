//! Connections on the loopback: two instances, one node.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use free_port::free_port;
use lifecycle::Scope;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use transport::Place;

use super::*;
use crate::records::{HealthCheck, Protocol};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of the loopback's addresses that nobody else uses.
const INSTANCES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 200, 0, 2), Ipv4Addr::new(127, 200, 0, 3)];

/// Says which instance it is, then echoes in upper case until the end.
async fn answer(mut stream: TcpStream, name: usize) {
    let mut said = Vec::new();
    let mut block = [0; 256];
    if stream.write_all(format!("{name}\n").as_bytes()).await.is_err() {
        return;
    }
    while let Ok(count @ 1..) = stream.read(&mut block).await {
        said.extend_from_slice(&block[..count]);
    }
    drop(stream.write_all(&said.to_ascii_uppercase()).await);
}

struct World {
    balancers: Balancers,
    spec: BalancerSpec,
    port: u16,
    scope: Scope,
}

impl World {
    async fn start(protocol: Protocol, change: impl FnOnce(&mut BalancerSpec)) -> Self {
        let scope = Scope::new();
        let instance_port = free_port();
        for (name, address) in INSTANCES.into_iter().enumerate() {
            let listener = Place::Here.listen((address, instance_port).into()).unwrap();
            let inner = scope.clone();
            drop(scope.spawn("instance", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(inner.spawn("answer", answer(stream, name)));
                }
            }));
        }
        let port = free_port();
        let front = Front { protocol, instance_port, proxy_protocol: false };
        let member =
            |(name, address)| (format!("i-{name}"), Member { address, zone: "a".to_owned() });
        let node =
            NodeSpec { address: Ipv4Addr::LOCALHOST, zone: "a".to_owned(), place: Place::Here };
        let mut spec = BalancerSpec {
            listeners: BTreeMap::from([(port, front)]),
            health_check: HealthCheck {
                interval: 1,
                timeout: 1,
                healthy_threshold: 1,
                unhealthy_threshold: 1,
                ..HealthCheck::of_port(instance_port)
            },
            instances: INSTANCES.into_iter().enumerate().map(member).collect(),
            nodes: BTreeMap::from([("eni-1".to_owned(), node)]),
            ..BalancerSpec::default()
        };
        change(&mut spec);
        let balancers = Balancers::new(Some(Duration::from_millis(20)), scope.child());
        let world = Self { balancers, spec, port, scope };
        world.apply();
        world.has_in_service(2).await;
        world
    }

    fn apply(&self) {
        self.balancers.apply(&BTreeMap::from([("web".to_owned(), self.spec.clone())]));
    }

    async fn has_in_service(&self, count: usize) {
        let waiting = async {
            while self.balancers.status("web").in_service != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("instances in service");
    }

    /// A connection, and the first line that comes out of it.
    async fn connect(&self) -> (TcpStream, String) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let connecting = async {
            loop {
                if let Ok(stream) = Place::Here.connect(address, PATIENCE).await {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut stream = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
        let mut line = String::new();
        while !line.ends_with('\n') {
            match tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap() {
                Ok(byte) => line.push(byte.into()),
                Err(_) => break,
            }
        }
        (stream, line)
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        drop(read.expect("an end"));
        String::from_utf8(rest).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

#[tokio::test]
async fn instances_take_turns_and_a_client_that_has_said_all_still_hears_the_answer() {
    let world = World::start(Protocol::Tcp, |_| {}).await;
    let (mut one, first) = world.connect().await;
    let (_other, second) = world.connect().await;
    assert_ne!(first, second);
    one.write_all(b"half closed").await.unwrap();
    one.shutdown().await.unwrap();
    assert_eq!(World::rest(one).await, "HALF CLOSED");
}

#[tokio::test]
async fn one_that_is_taken_out_loses_its_connections_at_once_or_after_the_draining() {
    let mut world = World::start(Protocol::Tcp, |_| {}).await;
    let (stream, name) = world.connect().await;
    world.spec.instances.remove(&format!("i-{}", name.trim()));
    world.apply();
    assert_eq!(World::rest(stream).await, "");
    let (_kept, other) = world.connect().await;
    assert_ne!(other, name);

    let draining = |spec: &mut BalancerSpec| spec.draining = Some(Duration::from_secs(3600));
    let mut world = World::start(Protocol::Tcp, draining).await;
    let (mut stream, name) = world.connect().await;
    world.spec.instances.remove(&format!("i-{}", name.trim()));
    world.apply();
    stream.write_all(b"still here").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(World::rest(stream).await, "STILL HERE");
    let (_one, next) = world.connect().await;
    assert_ne!(next, name);
}

#[tokio::test]
async fn who_says_nothing_for_too_long_is_hung_up_on() {
    let world = World::start(Protocol::Tcp, |it| it.idle = Duration::from_millis(300)).await;
    let (stream, _) = world.connect().await;
    assert_eq!(World::rest(stream).await, "");
}

#[tokio::test]
async fn without_an_instance_in_service_a_connection_is_closed_and_what_is_deleted_listens_no_more()
{
    let mut world = World::start(Protocol::Tcp, |_| {}).await;
    world.spec.instances.clear();
    world.apply();
    let (_, line) = world.connect().await;
    assert_eq!(line, "");
    assert_eq!(world.balancers.addresses("web"), [Ipv4Addr::LOCALHOST]);
    world.balancers.apply(&BTreeMap::new());
    let closed = async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, world.port));
        while Place::Here.connect(address, PATIENCE).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("nobody listens");
}

#[tokio::test]
async fn an_instance_of_another_zone_is_used_across_zones_only() {
    let other_zone = |it: &mut BalancerSpec| {
        it.cross_zone = true;
        it.instances.get_mut("i-1").unwrap().zone = "b".to_owned();
    };
    let mut world = World::start(Protocol::Tcp, other_zone).await;
    world.spec.cross_zone = false;
    world.apply();
    for _ in 0..4 {
        assert_eq!(world.connect().await.1, "0\n");
    }
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told_and_taken_once_it_is_free() {
    let taken = Place::Here.listen((Ipv4Addr::new(127, 200, 0, 9), free_port()).into()).unwrap();
    let at = taken.local_addr().unwrap();
    let scope = Scope::new();
    let balancers = Balancers::new(None, scope.child());
    let front = Front { protocol: Protocol::Tcp, instance_port: 1, proxy_protocol: false };
    let spec = BalancerSpec {
        listeners: BTreeMap::from([(at.port(), front)]),
        host: Some(HostSpec { address: Ipv4Addr::new(127, 200, 0, 9), admits: Vec::new() }),
        ..BalancerSpec::default()
    };
    balancers.apply(&BTreeMap::from([("web".to_owned(), spec)]));
    let told = async {
        while balancers.status("web").problems.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a problem");
    let problem = balancers.status("web").problems.remove(0);
    assert!(problem.starts_with(&format!("cannot listen on {at}:")), "{problem}");
    drop(taken);
    let taken = async {
        while !balancers.status("web").problems.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the port");
    scope.cancel();
}

/// A backend that answers one request with what it was asked.
async fn mirror(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (mut said, mut block) = (Vec::new(), [0; 1024]);
        while !said.ends_with(b"\r\n\r\n") {
            match stream.read(&mut block).await {
                Ok(count @ 1..) => said.extend_from_slice(&block[..count]),
                _ => break,
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len());
        drop(stream.write_all(head.as_bytes()).await);
        drop(stream.write_all(&said).await);
    }
}

async fn asked(protocol: Protocol, proxy_protocol: bool) -> String {
    let scope = Scope::new();
    let (instance_port, port) = (free_port(), free_port());
    let listener = Place::Here.listen((INSTANCES[0], instance_port).into()).unwrap();
    drop(scope.spawn("mirror", mirror(listener)));
    let front = Front { protocol, instance_port, proxy_protocol };
    let member = Member { address: INSTANCES[0], zone: "a".to_owned() };
    let node = NodeSpec { address: Ipv4Addr::LOCALHOST, zone: "a".to_owned(), place: Place::Here };
    let spec = BalancerSpec {
        listeners: BTreeMap::from([(port, front)]),
        health_check: HealthCheck { healthy_threshold: 1, ..HealthCheck::of_port(instance_port) },
        instances: BTreeMap::from([("i-0".to_owned(), member)]),
        nodes: BTreeMap::from([("eni-1".to_owned(), node)]),
        ..BalancerSpec::default()
    };
    let balancers = Balancers::new(Some(Duration::from_millis(20)), scope.child());
    balancers.apply(&BTreeMap::from([("web".to_owned(), spec.clone())]));
    let world = World { balancers, spec, port, scope };
    world.has_in_service(1).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connecting = async {
        loop {
            if let Ok(stream) = Place::Here.connect(address, PATIENCE).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut stream = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
    let request = b"GET /x HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For: 198.51.100.7\r\n\
                    Connection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    World::rest(stream).await
}

#[tokio::test]
async fn an_http_listener_says_who_asked_and_a_tcp_one_leaves_all_as_it_is() {
    let http = asked(Protocol::Http, false).await.to_ascii_lowercase();
    assert!(http.contains("x-forwarded-for: 198.51.100.7, 127.0.0.1\r\n"), "{http}");
    assert!(http.contains("x-forwarded-proto: http\r\n"), "{http}");
    assert!(http.contains("host: web.example\r\n"), "{http}");
    assert!(!http.contains("\r\nconnection: close\r\nx-"), "{http}");
    let tcp = asked(Protocol::Tcp, false).await;
    assert!(tcp.contains("\r\n\r\nGET /x HTTP/1.1\r\nHost: web.example\r\n"), "{tcp}");
    let proxy = asked(Protocol::Tcp, true).await;
    assert!(proxy.contains("\r\n\r\nPROXY TCP4 127.0.0.1 127.0.0.1 "), "{proxy}");
}
