//! Who is approved, who waits, who is left to a person.

use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequestSpec};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use super::*;

const NODE: &str = "system:node:ip-192-168-0-12.ec2.internal";

struct Ask {
    user: &'static str,
    groups: &'static [&'static str],
    common_name: &'static str,
    organization: &'static str,
    names: &'static [&'static str],
    usages: &'static [&'static str],
    signer: &'static str,
}

const GOOD: Ask = Ask {
    user: NODE,
    groups: &["system:nodes", "system:authenticated"],
    common_name: NODE,
    organization: "system:nodes",
    names: &["ip-192-168-0-12.ec2.internal", "192.168.0.12"],
    usages: &["digital signature", "server auth"],
    signer: KUBELET_SERVING,
};

impl Ask {
    fn request(&self) -> CertificateSigningRequest {
        let names: Vec<_> = self.names.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name);
        params.distinguished_name.push(DnType::OrganizationName, self.organization);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let list = |it: &[&str]| Some(it.iter().map(|it| (*it).to_owned()).collect());
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                signer_name: self.signer.to_owned(),
                username: Some(self.user.to_owned()),
                groups: list(self.groups),
                usages: list(self.usages),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        }
    }

    fn verdict(&self) -> &'static str {
        let node: Node = serde_json::from_value(json!({ "status": { "addresses": [
            { "type": "InternalIP", "address": "192.168.0.12" },
            { "type": "InternalDNS", "address": "ip-192-168-0-12.ec2.internal" },
        ] } }))
        .unwrap();
        let belong = |name: &str, dns: &[String], ips: &[IpAddr]| {
            name == "ip-192-168-0-12.ec2.internal" && are_of_node(&node, dns, ips)
        };
        match verdict(&self.request(), belong) {
            Verdict::Approve { .. } => "approve",
            Verdict::NotYet { .. } => "not yet",
            Verdict::NotOurs => "not ours",
        }
    }
}

#[test]
fn a_node_gets_a_serving_certificate_for_itself() {
    assert_eq!(GOOD.verdict(), "approve");
    const RSA: [&str; 3] = ["digital signature", "key encipherment", "server auth"];
    assert_eq!(Ask { usages: &RSA, ..GOOD }.verdict(), "approve");
}

#[test]
fn whoever_asks_for_more_than_itself_is_left_to_a_person() {
    for (what, ask) in [
        ("another user", Ask { user: "system:node:other", ..GOOD }),
        ("not a node by group", Ask { groups: &["system:authenticated"], ..GOOD }),
        ("another organization", Ask { organization: "system:masters", ..GOOD }),
        ("not a node's subject", Ask { common_name: "admin", user: "admin", ..GOOD }),
        ("an empty node name", Ask { common_name: "system:node:", user: "system:node:", ..GOOD }),
        ("no names", Ask { names: &[], ..GOOD }),
        ("client usage", Ask { usages: &["digital signature", "client auth"], ..GOOD }),
        (
            "more usages",
            Ask { usages: &["digital signature", "server auth", "client auth"], ..GOOD },
        ),
        ("another signer", Ask { signer: "example.com/mine", ..GOOD }),
    ] {
        assert_eq!(ask.verdict(), "not ours", "{what}");
    }
}

#[test]
fn names_that_are_not_the_nodes_wait() {
    for names in [
        &["192.168.0.13"][..],
        &["ip-192-168-0-12.ec2.internal", "kubernetes.default"][..],
        &["192.168.0.12", "169.254.169.254"][..],
    ] {
        assert_eq!(Ask { names, ..GOOD }.verdict(), "not yet", "{names:?}");
    }
}

#[test]
fn a_client_certificate_has_no_names() {
    let client = Ask {
        signer: KUBELET_CLIENT,
        usages: &["digital signature", "client auth"],
        names: &[],
        ..GOOD
    };
    assert_eq!(client.verdict(), "approve");
    assert_eq!(Ask { names: &["evil.example"], ..client }.verdict(), "not ours");
}
