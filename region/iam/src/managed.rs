//! The policies that AWS manages, as far as EKS and its operators use them.
//!
//! Deviation: `ReadOnlyAccess` lists the services of this region only.

use jiff::Timestamp;
use serde::Deserialize;

use crate::records::{Entity, ManagedPolicy, Tags, Version};

const POLICIES: &str = include_str!("managed_policies.json");

#[derive(Deserialize)]
struct Written {
    name: String,
    path: String,
    version: String,
    description: String,
    document: serde_json::Value,
}

/// All of them.
pub(crate) fn policies() -> Vec<ManagedPolicy> {
    let written: Vec<Written> =
        serde_json::from_str(POLICIES).expect("the file is part of the program and tested");
    written.into_iter().map(policy).collect()
}

fn policy(written: Written) -> ManagedPolicy {
    let created = Timestamp::from_second(1_423_180_000).unwrap_or(Timestamp::UNIX_EPOCH);
    let document = written.document.to_string();
    ManagedPolicy {
        entity: Entity {
            arn: format!("arn:aws:iam::aws:policy{}{}", written.path, written.name),
            id: id(&written.name),
            name: written.name,
            path: written.path,
            created,
            tags: Tags::new(),
        },
        description: Some(written.description).filter(|it| !it.is_empty()),
        last_version: written.version.trim_start_matches('v').parse().unwrap_or(1),
        versions: vec![Version { id: written.version.clone(), document, created }],
        default_version: written.version,
        updated: created,
    }
}

/// The same in every run, as on AWS in every account.
fn id(name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("ANPA{hash:017X}")
}

/// A role that AWS services make for themselves.
pub(crate) struct ServiceLinked {
    pub(crate) service: &'static str,
    pub(crate) role: &'static str,
    pub(crate) policy: Option<&'static str>,
}

pub(crate) const SERVICE_LINKED: [ServiceLinked; 5] = [
    ServiceLinked {
        service: "eks.amazonaws.com",
        role: "AWSServiceRoleForAmazonEKS",
        policy: Some("AmazonEKSServiceRolePolicy"),
    },
    ServiceLinked {
        service: "eks-nodegroup.amazonaws.com",
        role: "AWSServiceRoleForAmazonEKSNodegroup",
        policy: Some("AWSServiceRoleForAmazonEKSNodegroup"),
    },
    ServiceLinked {
        service: "autoscaling.amazonaws.com",
        role: "AWSServiceRoleForAutoScaling",
        policy: Some("AutoScalingServiceRolePolicy"),
    },
    ServiceLinked { service: "spot.amazonaws.com", role: "AWSServiceRoleForEC2Spot", policy: None },
    ServiceLinked {
        service: "elasticloadbalancing.amazonaws.com",
        role: "AWSServiceRoleForElasticLoadBalancing",
        policy: None,
    },
];

#[cfg(test)]
mod tests {
    use iam_policy::{Kind, Policy};

    use super::*;

    #[test]
    fn every_managed_policy_is_a_policy() {
        let all = policies();
        assert!(all.len() >= 20);
        for it in all {
            let document = it.document().expect("it has a default version");
            let parsed = Policy::parse(document, Kind::Identity);
            assert!(parsed.is_ok(), "{}: {parsed:?}", it.entity.name);
        }
    }
}
