//! Certificates of kubelets: asked for with a bootstrap token, and approved and signed by upstream's
//! controllers.

use super::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(node: &str, signer: &str, usages: &[&str]) -> Value {
    let mut profile = rcgen::CertificateParams::default();
    profile.distinguished_name = rcgen::DistinguishedName::new();
    profile.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    profile.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = profile.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {"request": base64(pem.as_bytes()), "signerName": signer, "usages": usages},
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_node_of_upstream_gets_its_first_certificate_by_a_bootstrap_token() {
    let cluster = cluster().await;
    // As kubeadm, and whoever begins a cluster by hand.
    for (name, role) in [
        ("bootstrap", "system:node-bootstrapper"),
        ("approve", "system:certificates.k8s.io:certificatesigningrequests:nodeclient"),
    ] {
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:bootstrappers"}],
        });
        cluster.made(&format!("/apis/{group}/v1/clusterrolebindings"), binding).await;
    }
    let user = UserInfo::new("system:bootstrap:abcdef", &["system:bootstrappers"]);
    let newcomer = Component { cluster: &cluster, user };
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let asked = request("n1", signer, &["digital signature", "client auth"]);
    let asked = done(newcomer.write("POST", REQUESTS, &asked).await);
    let name = asked["metadata"]["name"].as_str().unwrap();
    assert_eq!(asked["spec"]["username"], "system:bootstrap:abcdef");
    let own = newcomer.follow(&format!("{REQUESTS}?fieldSelector=metadata.name%3D{name}")).await;
    assert_eq!(own.len(), 1);

    let controller = Component::controller(&cluster, "certificate-controller");
    controller.follow(REQUESTS).await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {
            "user": asked["spec"]["username"], "groups": asked["spec"]["groups"],
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": "nodeclient", "version": "*",
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(done(controller.write("POST", path, &review).await)["status"]["allowed"], true);
    let mut approved = asked.clone();
    approved["status"]["conditions"] = json!([{
        "type": "Approved", "status": "True", "reason": "AutoApproved", "message": "approved",
        "lastUpdateTime": null, "lastTransitionTime": null,
    }]);
    let path = format!("{REQUESTS}/{name}");
    let mut approved = done(controller.write("PUT", &format!("{path}/approval"), &approved).await);
    assert!(approved["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let certificate = pki::Ca::new("kubernetes").unwrap().certificate_pem().to_owned();
    approved["status"]["certificate"] = base64(certificate.as_bytes()).into();
    done(controller.write("PUT", &format!("{path}/status"), &approved).await);
    let signed = done(newcomer.ask("GET", &path).await);
    assert_eq!(signed["status"]["certificate"], approved["status"]["certificate"]);
}

#[tokio::test]
async fn a_node_of_upstream_asks_for_its_serving_certificate_as_itself() {
    let cluster = cluster().await;
    let kubelet = Component::node(&cluster, "n1");
    let mut params = rcgen::CertificateParams::new(["n1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let asked = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64(pem.as_bytes()), "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    });
    let asked = done(kubelet.write("POST", REQUESTS, &asked).await);
    assert_eq!(asked["spec"]["username"], "system:node:n1");
}
