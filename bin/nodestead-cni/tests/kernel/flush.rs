//! What somebody takes away with `nft flush ruleset` comes back.

use std::path::Path;

use crate::{Netns, can_connect, cni, config, connect, ipamd, node, plumbed, program, serve};

/// As ipamd asks for it.
fn restore(node: &Netns, folder: &Path) {
    let (program, folder) = (program().to_str().unwrap(), folder.to_str().unwrap());
    let output = node.run(&[program, "restore-host-ports", folder]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn host_ports_and_the_guard_of_the_nodes_loopback_come_back_until_their_pod_is_gone() {
    let (Some(node), Some(pod), Some(client)) = (node("fh"), Netns::new("fi"), Netns::new("fj"))
    else {
        return;
    };
    node.run(&["ip", "link", "set", "lo", "up"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    let records = folder.path().join("hostports");
    ipamd(&socket, plumbed);
    connect(&node, &client);
    let ports = r#","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}"#;
    let config = config(&socket, ports);
    assert!(cni(&node, program(), "ADD", "a", &pod.path(), &config).status.success());
    let _server = serve(&pod, "192.168.0.20:80");
    let _own = serve(&node, "127.0.0.1:9999");
    pod.run(&["sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"]);
    assert!(can_connect(&client, "10.9.0.1:8080"));
    let kept = std::fs::read_dir(&records).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(kept.path()).unwrap();

    node.run(&["nft", "flush", "ruleset"]);
    assert!(!can_connect(&client, "10.9.0.1:8080"));
    assert!(can_connect(&pod, "127.0.0.1:9999"), "the guard is gone");
    restore(&node, &records);
    assert!(can_connect(&client, "10.9.0.1:8080"));
    assert!(!can_connect(&pod, "127.0.0.1:9999"));
    node.run(&["nft", "delete", "table", "ip", "aws-cni-localnet"]);
    restore(&node, &records);
    assert!(!can_connect(&pod, "127.0.0.1:9999"), "the guard alone comes back, too");

    assert!(cni(&node, program(), "DEL", "a", &pod.path(), &config).status.success());
    assert_eq!(std::fs::read_dir(&records).unwrap().count(), 0);
    // A record that a lost DEL left behind gives nobody a port.
    std::fs::write(kept.path(), text).unwrap();
    node.run(&["nft", "flush", "ruleset"]);
    restore(&node, &records);
    let listed = node.run(&["nft", "list", "ruleset"]);
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("8080"));
}
