//! An API server that somebody else runs, by its kubeconfig (`NODESTEAD_SWAP_KUBECONFIG`).
//!
//! Each bed has a namespace and a node of its own there, both by the bed's name, and removes them in
//! the end. Nothing else of the cluster is touched, and the cluster's daemons are kept off the node:
//! by a label that those of EKS avoid, and by a taint for the others.

use std::env;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        coordination::v1::Lease,
        core::v1::{Namespace, Taint},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;

const VARIABLE: &str = "NODESTEAD_SWAP_KUBECONFIG";
/// How long the cluster has to sign; one that signs nothing for kubelets never does.
const SIGNING: Duration = Duration::from_secs(15);

/// The way there, and what is to be removed.
pub(super) struct Given {
    administrator: Config,
    node: Config,
    request: Option<String>,
}

/// The kubeconfig's path, if there is one.
pub(super) fn kubeconfig() -> Option<PathBuf> {
    env::var_os(VARIABLE).filter(|it| !it.is_empty()).map(PathBuf::from)
}

impl Given {
    /// Makes the namespace of this name, and credentials for the node of this name.
    pub(super) async fn prepare(kubeconfig: &Path, name: &str) -> (Self, Client) {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let administrator = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = Client::try_from(administrator.clone()).unwrap();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let mut given = Self { node: administrator.clone(), administrator, request: None };
        match given.sign(&client, name).await {
            Some(own) => given.node.auth_info = own,
            None => println!("{name}: nobody signs for kubelets: it is the administrator"),
        }
        (given, client)
    }

    /// A client certificate of the node, as the kubelet's signer makes it.
    async fn sign(&mut self, client: &Client, name: &str) -> Option<AuthInfo> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let usages = ["digital signature", "client auth"].map(str::to_owned).to_vec();
        let spec = CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: "kubernetes.io/kube-apiserver-client-kubelet".to_owned(),
            usages: Some(usages),
            ..CertificateSigningRequestSpec::default()
        };
        let requests = Api::<CertificateSigningRequest>::all(client.clone());
        let request = CertificateSigningRequest { metadata, spec, status: None };
        requests.create(&PostParams::default(), &request).await.unwrap();
        self.request = Some(name.to_owned());
        let approval = json!({ "status": { "conditions": [
            { "type": "Approved", "status": "True", "reason": "Test", "message": "a test's node" },
        ]}});
        // Some other approver may have been quicker.
        let patch = Patch::Merge(&approval);
        drop(requests.patch_approval(name, &PatchParams::default(), &patch).await);
        let deadline = Instant::now() + SIGNING;
        while Instant::now() < deadline {
            let status = requests.get(name).await.unwrap().status.unwrap_or_default();
            if let Some(certificate) = status.certificate.filter(|it| !it.0.is_empty()) {
                return Some(AuthInfo {
                    client_certificate_data: Some(BASE64_STANDARD.encode(&certificate.0)),
                    client_key_data: Some(BASE64_STANDARD.encode(key.serialize_pem()).into()),
                    ..AuthInfo::default()
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    pub(super) fn node_client(&self) -> Client {
        Client::try_from(self.node.clone()).unwrap()
    }

    /// Removes what a bed of this name has made. Runs where nothing else of the test does any more.
    pub(super) fn clean_up(&self, name: &str) {
        let (config, name) = (self.administrator.clone(), name.to_owned());
        let request = self.request.clone();
        let work = async move {
            let client = Client::try_from(config).unwrap();
            let at_once = DeleteParams::default().grace_period(0);
            let pods = Api::<Pod>::namespaced(client.clone(), &name);
            for pod in pods.list(&Default::default()).await.map(|it| it.items).unwrap_or_default() {
                drop(pods.delete(&pod.name_any(), &at_once).await);
            }
            let params = DeleteParams::default();
            drop(Api::<Namespace>::all(client.clone()).delete(&name, &params).await);
            drop(Api::<Node>::all(client.clone()).delete(&name, &params).await);
            let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
            drop(leases.delete(&name, &params).await);
            if let Some(request) = request {
                let requests = Api::<CertificateSigningRequest>::all(client);
                drop(requests.delete(&request, &params).await);
            }
        };
        elsewhere(work);
    }
}

/// What keeps the cluster's daemons off the node, and the cloud's controllers from removing it.
pub(super) fn keep_apart(settings: &mut Settings) {
    settings.config.provider_id = format!("nst-test:///{}", settings.node_name);
    let label = "eks.amazonaws.com/compute-type".to_owned();
    settings.node_labels.insert(label, "fargate".to_owned());
    settings.taints.push(Taint {
        key: "nodestead.test/swap".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    });
}
