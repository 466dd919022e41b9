//! The user data of a managed node: MIME multi-part with a nodeadm `NodeConfig`, or Bottlerocket's
//! settings.
//!
//! Source: the AL2023 section of the EKS user guide ("Customize managed nodes with launch
//! templates") for the form, compute facts §2.1 for the fields.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{bottlerocket, records::Nodegroup, validate::BOTTLEROCKET};
use crate::records::Cluster;

/// What a node learns from its user data besides the group.
pub(crate) struct Facts<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) region: &'a str,
    pub(crate) image_id: &'a str,
}

/// The headers of EKS's part.
const PART: &str = "Content-Type: application/node.eks.aws\r\n\r\n";

/// Base64, as launch templates want it.
pub(crate) fn render(group: &Nodegroup, facts: &Facts<'_>) -> String {
    if group.ami_type == BOTTLEROCKET {
        return STANDARD.encode(bottlerocket::settings(group, facts).to_string());
    }
    let config = config(group, facts);
    let text = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"//\"\r\n\r\n--//\r\n\
         {PART}{config}\r\n--//--\r\n"
    );
    STANDARD.encode(text)
}

/// The customer's user data with EKS's part behind theirs; `None` when theirs is no multi-part
/// message. Both are in base64.
pub(crate) fn merge(theirs: &str, group: &Nodegroup, facts: &Facts<'_>) -> Option<String> {
    let text = String::from_utf8(mime_parts::decode_base64(theirs.as_bytes())?).ok()?;
    if group.ami_type == BOTTLEROCKET {
        return bottlerocket::merge(&text, group, facts).map(|it| STANDARD.encode(it));
    }
    let end = format!("--{}", mime_parts::boundary(text.as_bytes())?);
    let part = format!("{end}\r\n{PART}{}\r\n{end}--\r\n", config(group, facts));
    // What stands behind the last boundary is no part.
    let last = text.rfind(&format!("\n{end}--")).map_or(text.len(), |at| at + 1);
    let before = text.get(..last)?;
    let line = if before.ends_with('\n') { "" } else { "\r\n" };
    Some(STANDARD.encode(format!("{before}{line}{part}")))
}

/// JSON is YAML.
fn config(group: &Nodegroup, facts: &Facts<'_>) -> String {
    let ca = facts.cluster.certificate_authority_pem.as_deref().unwrap_or_default();
    let config = json!({
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": facts.cluster.name,
                "apiServerEndpoint":
                    format!("https://{}", facts.cluster.endpoint_host(facts.region)),
                "certificateAuthority": STANDARD.encode(ca),
                "cidr": facts.cluster.service_cidr,
            },
            "kubelet": {"flags": flags(group, facts.image_id)},
        },
    });
    serde_json::to_string_pretty(&config).unwrap_or_default()
}

fn flags(group: &Nodegroup, image_id: &str) -> Vec<String> {
    let labels = group.node_labels(image_id);
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut flags = vec![format!("--node-labels={}", labels.join(","))];
    let taints: Vec<_> = group.taints.iter().map(taint).collect();
    if !taints.is_empty() {
        flags.push(format!("--register-with-taints={}", taints.join(",")));
    }
    flags
}

/// `key=value:NoSchedule`.
fn taint(taint: &aws_eks::Taint) -> String {
    format!(
        "{}={}:{}",
        taint.key.as_deref().unwrap_or_default(),
        taint.value.as_deref().unwrap_or_default(),
        effect(taint.effect.as_deref().unwrap_or_default())
    )
}

/// EKS's spelling to Kubernetes'.
pub(crate) fn effect(eks: &str) -> &'static str {
    match eks {
        "NO_EXECUTE" => "NoExecute",
        "PREFER_NO_SCHEDULE" => "PreferNoSchedule",
        _ => "NoSchedule",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_spelled_as_the_kubelet_wants_them() {
        let spelled = taint(&aws_eks::Taint {
            key: Some("a".to_owned()),
            value: Some("b".to_owned()),
            effect: Some("PREFER_NO_SCHEDULE".to_owned()),
        });
        assert_eq!(spelled, "a=b:PreferNoSchedule");
    }
}
