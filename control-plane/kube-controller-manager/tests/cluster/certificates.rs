//! A kubelet's serving certificate, from request to signature.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{Api, api::PostParams};
use kube_apiserver::request::UserInfo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use crate::support::Cluster;

fn request(name: &str, addresses: &[&str]) -> CertificateSigningRequest {
    let names: Vec<_> = addresses.iter().map(|it| (*it).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "system:node:n0");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let request = k8s_openapi::ByteString(pem.into_bytes());
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "request": request,
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"] } }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_gets_a_serving_certificate_for_its_own_address_only() {
    let cluster = Cluster::start(1).await;
    let kubelet = UserInfo::new("system:node:n0", &["system:nodes"]);
    let api = Api::<CertificateSigningRequest>::all(cluster.server.client(kubelet));
    api.create(&PostParams::default(), &request("own", &["192.168.0.12"])).await.unwrap();
    api.create(&PostParams::default(), &request("other", &["192.168.0.99"])).await.unwrap();
    let all = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let certificate = async |name: &str| {
        all.get(name).await.unwrap().status.and_then(|it| it.certificate).map(|it| it.0)
    };
    cluster.eventually("it is signed", async |_| certificate("own").await.is_some()).await;
    let pem = String::from_utf8(certificate("own").await.unwrap()).unwrap();
    assert_eq!(pki::subject_of_pem(&pem).unwrap().common_name, "system:node:n0");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(certificate("other").await.is_none());
}
