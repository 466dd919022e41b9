//! Upstream's kube-proxy, in a network namespace of its own.

use std::{
    fs,
    process::{Command, Output},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, api::PostParams};
use serde_json::json;
use transport::Place;

use crate::{
    bed::{Bed, NODE},
    binaries::Program,
    binary,
};

/// A network namespace that goes with the test.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("nst-t-swap-{}", std::process::id());
        linux_netns::create(&name).unwrap();
        let namespace = Self(name);
        assert!(namespace.run("ip", &["link", "set", "lo", "up"]).status.success());
        namespace
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(linux_netns::delete(&self.0));
    }
}

/// As kube-proxy's file: nothing of the machine's is changed, for connection tracking is left alone.
fn configuration(kubeconfig: &str) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "hostnameOverride": NODE, "clusterCIDR": "198.51.100.0/24",
        "clientConnection": { "kubeconfig": kubeconfig },
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s" },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_proxy_leads_a_service_to_its_endpoints() {
    let Some(proxy) = binary("kube-proxy") else { return };
    if !nix::unistd::geteuid().is_root() {
        println!("not run: it needs root");
        return;
    }
    let namespace = Namespace::new();
    let bed = Bed::start_in(&Place::named(&namespace.0)).await;
    let service: Service = serde_json::from_value(json!({ "metadata": { "name": "web" },
        "spec": { "clusterIP": "10.100.7.7", "ports": [{ "port": 80, "targetPort": 8080 }] } }))
    .unwrap();
    let services = Api::<Service>::namespaced(bed.client.clone(), "default");
    services.create(&PostParams::default(), &service).await.unwrap();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": ["198.51.100.77"], "conditions": { "ready": true } }],
    }))
    .unwrap();
    let slices = Api::<EndpointSlice>::namespaced(bed.client.clone(), "default");
    slices.create(&PostParams::default(), &slice).await.unwrap();
    let file = bed.path("kube-proxy.yaml");
    fs::write(&file, configuration(&bed.kubeconfig("system:kube-proxy"))).unwrap();
    let mut command = namespace.command(&proxy.display().to_string());
    command.arg(format!("--config={file}"));
    bed.keep(Program::start_by(&mut command, "kube-proxy", bed.folder.path()));
    bed.eventually("the rules of a Service", async || {
        let rules = namespace.run("nft", &["list", "ruleset"]).stdout;
        let rules = String::from_utf8_lossy(&rules);
        rules.contains("10.100.7.7") && rules.contains("198.51.100.77")
    })
    .await;
}
