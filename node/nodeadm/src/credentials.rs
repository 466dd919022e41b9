//! The kubelet's credential provider for ECR.

use serde_json::json;

use crate::{files::PlannedFile, kubeconfig::BINARY};

pub(crate) const FOLDER: &str = "/etc/eks/image-credential-provider";
pub(crate) const CONFIG: &str = "/etc/eks/image-credential-provider/config.json";
const PROGRAM: &str = "/etc/eks/image-credential-provider/ecr-credential-provider";

/// Private registries of every partition, and the public one.
const IMAGES: [&str; 13] = [
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr-ecr.*.on.aws",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr-ecr.*.on.amazonwebservices.com.cn",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr-ecr-fips.*.on.aws",
    "*.dkr.ecr.*.amazonaws.eu",
    "*.dkr.ecr.*.c2s.ic.gov",
    "*.dkr.ecr.*.sc2s.sgov.gov",
    "*.dkr.ecr.*.cloud.adc-e.uk",
    "*.dkr.ecr.*.csp.hci.ic.gov",
    "public.ecr.aws",
    "ecr-public.aws.com",
];

pub(crate) fn files() -> Vec<PlannedFile> {
    let [config, program] = files_in(BINARY);
    vec![PlannedFile::new(CONFIG, config.1), PlannedFile::new(PROGRAM, program.1).mode(program.2)]
}

/// Name, content and mode of the configuration and of the provider, which starts `binary`.
pub(crate) fn files_in(binary: &str) -> [(&'static str, String, u32); 2] {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "ecr-credential-provider",
            "matchImages": IMAGES,
            "defaultCacheDuration": "12h0m0s",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        }],
    });
    let program = format!("#!/bin/sh\nexec {binary} run ecr-credential-provider \"$@\"\n");
    [("config.json", format!("{config:#}\n"), 0o644), ("ecr-credential-provider", program, 0o755)]
}
