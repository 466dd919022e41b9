//! What ipamd tells on its two ports, asked over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use lifecycle::Scope;
use serde_json::{Value, json};
use tower::service_fn;
use transport::{Body, HttpClient, Place};
use vpc_cni::{introspection, ipamd::Ipamd};

use crate::{Running, sandbox, support::World, until};

/// Serves `answer` for as long as the scope lives.
fn serve<F, A>(ipamd: &Arc<Ipamd>, scope: &Scope, answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>, Arc<Ipamd>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send + 'static,
{
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let ipamd = ipamd.clone();
    let service = service_fn(move |request| answer(request, ipamd.clone()));
    drop(scope.spawn("page", transport::serve(listener, None, service, scope.clone())));
    address
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = Request::get(format!("http://{address}{path}")).body(transport::empty());
    let client = HttpClient::new(Place::Here, None, Duration::from_secs(5));
    let response = client.fetch(request.unwrap(), 1 << 20).await.unwrap();
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}

#[tokio::test]
async fn the_pool_the_interfaces_and_the_settings_are_told_by_upstreams_paths_and_names() {
    let Some(world) = World::new("w", "192.168.200.0/24").await else { return };
    let environment = [
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("WARM_IP_TARGET", "3"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.1.0.0/16"),
    ];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let _running = Running::start(&ipamd);
    let given = ipamd.add(&sandbox(7)).await.unwrap().address;
    ipamd.add(&sandbox(8)).await.unwrap();
    let released = ipamd.delete(&sandbox(8)).unwrap().address;
    until("a warm pool", || ipamd.plan().step == vpc_cni::plan::Step::Settled).await;
    let scope = Scope::new();
    let address = serve(&ipamd, &scope, introspection::introspect);
    let page = async |path: &str| {
        let (status, text) = get(address, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };

    let commands = page("/").await;
    for path in
        ["/v1/enis", "/v1/eni-configs", "/v1/networkutils-env-settings", "/v1/ipamd-env-settings"]
    {
        let all = commands["AvailableCommands"].as_array().unwrap();
        assert!(all.contains(&json!(path)), "{path}: {commands}");
    }
    let all = page("/v1/enis").await;
    let enis = &all["0"];
    assert_eq!((&enis["TotalIPs"], &enis["AssignedIPs"]), (&json!(16), &json!(1)));
    let state = world.ec2.view();
    let eni = state.interfaces_of(&world.instance).remove(0);
    let shown = &enis["ENIs"][&eni.id];
    assert_eq!(shown["ID"], json!(eni.id));
    assert_eq!((&shown["IsPrimary"], &shown["IsTrunk"]), (&json!(true), &json!(false)));
    assert_eq!(shown["DeviceNumber"], 0);
    let prefix = eni.prefixes.first().unwrap();
    let cidr = &shown["AvailableIPv4Cidrs"][prefix.to_string()];
    assert_eq!(cidr["IsPrefix"], true);
    assert_eq!(cidr["Cidr"], json!({ "IP": prefix.network(), "Mask": "////8A==" }));
    let of_pod = &cidr["IPAddresses"][given.to_string()];
    assert_eq!(of_pod["Address"], json!(given));
    assert_eq!(
        of_pod["IPAMMetadata"],
        json!({ "k8sPodNamespace": "default", "k8sPodName": "pod-7" })
    );
    assert_eq!(of_pod["UnassignedTime"], "0001-01-01T00:00:00Z");
    let resting = &cidr["IPAddresses"][released.to_string()];
    assert_eq!(
        (&resting["IPAMMetadata"], &resting["AssignedTime"]),
        (&json!({}), &json!("0001-01-01T00:00:00Z"))
    );
    // Who can read this port need not know sandboxes by name.
    assert!(!all.to_string().contains("container-7"), "{all}");

    assert_eq!(page("/v1/eni-configs").await, json!("default"));
    let settings = page("/v1/ipamd-env-settings").await;
    assert_eq!(settings["WARM_IP_TARGET"], 3);
    assert_eq!(settings["WARM_ENI_TARGET"], 1);
    assert_eq!(settings["AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"], false);
    let settings = page("/v1/networkutils-env-settings").await;
    assert_eq!(settings["AWS_VPC_K8S_CNI_CONNMARK"], 128);
    assert_eq!(settings["AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"], json!(["10.1.0.0/16"]));
    assert_eq!(settings["AWS_VPC_K8S_CNI_VETHPREFIX"], "eni");
    assert!(page("/v1/pool").await["reason"].is_string());
    scope.cancel();
}

#[tokio::test]
async fn metrics_are_served_and_brought_up_to_date_when_they_are_read() {
    let Some(world) = World::new("x", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("nine warm addresses", || ipamd.snapshot().stock().total == 9).await;
    let scope = Scope::new();
    let address = serve(&ipamd, &scope, introspection::metrics);
    for pods in 0..3 {
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        let assigned = format!("awscni_assigned_ip_addresses {pods}");
        assert!(text.lines().any(|it| it == assigned), "{assigned}: {text}");
        assert!(text.contains("# TYPE awscni_total_ip_addresses gauge"), "{text}");
        ipamd.add(&sandbox(pods)).await.unwrap();
    }
    assert_eq!(get(address, "/").await.0, 404);
    scope.cancel();
}
