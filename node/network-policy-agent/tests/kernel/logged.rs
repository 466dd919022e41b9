//! Verdicts from the kernel's packet log.

use std::{net::SocketAddr, time::Duration};

use linux_netlink::{Logged, PacketLog};
use network_policy::Protocol::{Tcp, Udp};
use network_policy_agent::{
    ruleset::{LOG_GROUP, LOG_LEN, Log, Mode},
    verdicts::Flow,
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    packets::{Serving, inside, probe},
    world::{A, B, C, World},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is logged until nothing has been for a while.
async fn drain(log: &mut PacketLog) -> Vec<(String, u8, u16)> {
    let mut seen = Vec::new();
    while let Ok(logged) = timeout(Duration::from_millis(500), log.next()).await {
        let Logged::Packets(packets) = logged.unwrap() else { panic!("lost") };
        for packet in packets {
            let flow = Flow::parse(&packet.bytes).unwrap();
            seen.push((packet.prefix, flow.protocol, flow.destination_port));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_logged_with_what_they_are_about() {
    let Some(mut world) = World::new("l") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    let runtime = tokio::runtime::Handle::current();
    let mut log = inside(&world.node(), || {
        let _here = runtime.enter();
        PacketLog::open(LOG_GROUP, LOG_LEN).unwrap()
    });
    let deny = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes":
        ["Ingress", "Egress"], "egress": [{"ports": [{"port": 80}]}]});
    let a: SocketAddr = (A.address(), 80).into();
    let b: SocketAddr = (B.address(), 80).into();

    world.log = Log::Denied;
    world.enforce(&[("x", deny.clone())], Mode::Standard);
    assert!(!probe(&world.pod(C), a, Udp));
    assert!(!probe(&world.pod(A), b, Udp));
    assert!(probe(&world.pod(A), b, Tcp));
    assert_eq!(
        drain(&mut log).await,
        [
            ("DENY ingress NETWORK_POLICY".to_owned(), UDP, 80),
            ("DENY egress NETWORK_POLICY".to_owned(), UDP, 80)
        ]
    );

    world.log = Log::Everything;
    world.enforce(&[("x", deny)], Mode::Strict);
    assert!(!probe(&world.pod(A), b, Tcp));
    let seen = drain(&mut log).await;
    assert_eq!(seen[0], ("ACCEPT egress NETWORK_POLICY".to_owned(), TCP, 80));
    // No policy speaks of b.
    assert_eq!(seen[1], ("DENY ingress DEFAULT".to_owned(), TCP, 80));
}
