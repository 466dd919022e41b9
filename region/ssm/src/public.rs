//! AWS's public parameters for EKS-optimized images.
//!
//! Upstream: "Retrieve recommended Amazon Linux AMI IDs" in the EKS user guide.

use std::collections::BTreeMap;

use serde_json::json;

/// One release of an image. Later releases of the same Kubernetes version replace earlier ones as
/// the recommended one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ami {
    /// `1.36`.
    pub kubernetes: String,
    /// `1.36.2-20261106`.
    pub release_version: String,
    pub image_id: String,
    pub image_name: String,
}

/// The parameters of these releases, which come oldest first.
pub fn eks_parameters(releases: &[Ami]) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for release in releases {
        let of_version = format!("/aws/service/eks/optimized-ami/{}", release.kubernetes);
        for family in ["amazon-linux-2023/x86_64/standard"] {
            let of_release = format!("{of_version}/{family}/{}", release.image_name);
            for path in [format!("{of_version}/{family}/recommended"), of_release] {
                for (name, value) in of_image(&path, release) {
                    parameters.insert(name, value);
                }
            }
        }
    }
    parameters
}

/// One release of Bottlerocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BottlerocketAmi {
    /// `1.36`.
    pub kubernetes: String,
    /// `1.52.0`.
    pub version: String,
    /// `1.52.0-c03dd7b1`.
    pub image_version: String,
    pub image_id: String,
}

/// The parameters of these releases, which come oldest first.
///
/// Upstream: "Retrieve recommended Bottlerocket AMI IDs" in the EKS user guide.
pub fn bottlerocket_parameters(releases: &[BottlerocketAmi]) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for release in releases {
        let of_variant = format!("/aws/service/bottlerocket/aws-k8s-{}/x86_64", release.kubernetes);
        for name in ["latest", &release.version, &release.image_version] {
            let (id, version) = (release.image_id.clone(), release.image_version.clone());
            parameters.insert(format!("{of_variant}/{name}/image_id"), id);
            parameters.insert(format!("{of_variant}/{name}/image_version"), version);
        }
    }
    parameters
}

fn of_image(path: &str, release: &Ami) -> [(String, String); 4] {
    let all = json!({
        "schema_version": "2",
        "image_id": release.image_id,
        "image_name": release.image_name,
        "release_version": release.release_version,
    });
    [
        (path.to_owned(), all.to_string()),
        (format!("{path}/image_id"), release.image_id.clone()),
        (format!("{path}/image_name"), release.image_name.clone()),
        (format!("{path}/release_version"), release.release_version.clone()),
    ]
}
