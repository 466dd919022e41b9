//! Pods with an address of each family.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::support::Bed;

fn field(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_has_an_address_of_each_family_that_of_the_nodes_first_one_first() {
    let Some(bed) = Bed::own("dual").await else { return };
    bed.install_dual_stack_cni();
    let nodes = ["::1", "127.0.0.1"];
    let kubelet = bed
        .start_kubelet_configured(|it| {
            it.node_ips = nodes.map(|it| it.parse::<IpAddr>().unwrap()).into();
        })
        .await;
    bed.until_node("True", "").await;
    let addresses = bed.node().await.status.unwrap().addresses.unwrap();
    let internal = addresses.iter().filter(|it| it.type_ == "InternalIP");
    assert!(internal.map(|it| it.address.as_str()).eq(nodes));

    let script =
        "echo $IP $IPS $HOST $HOSTS; busybox grep -w $HOSTNAME /etc/hosts; exec sleep 1000";
    let mut container = bed.container("main", script);
    container["env"] = json!([
        field("IP", "status.podIP"),
        field("IPS", "status.podIPs"),
        field("HOST", "status.hostIP"),
        field("HOSTS", "status.hostIPs"),
    ]);
    let pod = |name: &str, is_host: bool| {
        json!({
            "metadata": { "name": name },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "hostNetwork": is_host,
                "containers": [container],
            },
        })
    };
    bed.create_pod(pod("own", false)).await;
    let status = bed.until_ready("own").await.status.unwrap();
    let hosts: Vec<_> = status.host_ips.iter().flatten().map(|it| it.ip.as_str()).collect();
    assert_eq!((status.host_ip.as_deref(), hosts.as_slice()), (Some("::1"), &nodes[..]));
    let own: Vec<_> = status.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
    let [six, four] = own.as_slice() else { panic!("{own:?}") };
    assert!(six.starts_with("fd99::") && four.starts_with("10.99.0."), "{own:?}");
    assert_eq!(status.pod_ip.as_ref(), Some(six));
    let wanted = format!("{six} {six},{four} ::1 ::1,127.0.0.1\n{six}\town\n{four}\town\n");
    bed.eventually(async || (bed.log("own", "main").await == wanted).then_some(())).await;

    bed.create_pod(pod("host", true)).await;
    let status = bed.until_ready("host").await.status.unwrap();
    let own: Vec<_> = status.pod_ips.iter().flatten().map(|it| it.ip.as_str()).collect();
    assert_eq!((status.pod_ip.as_deref(), own.as_slice()), (Some("::1"), &nodes[..]));
    let wanted = "::1 ::1,127.0.0.1 ::1 ::1,127.0.0.1\n";
    bed.eventually(async || bed.log("host", "main").await.starts_with(wanted).then_some(())).await;
    for name in ["own", "host"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
