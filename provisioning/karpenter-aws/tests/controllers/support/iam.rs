//! Who everybody is: the account's root, who may do everything.

use std::collections::BTreeMap;

use region_ec2::{Environment, ProfileInfo};
use region_gateway::{AccessKey, AccessKeys, Attached, CallerKind, Identities, Principal, Role};

use super::ACCOUNT;

pub(super) struct Everybody;

impl Environment for Everybody {
    fn instance_profile(&self, name: &str) -> Option<ProfileInfo> {
        Some(ProfileInfo {
            arn: format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}"),
            id: "AIPANODE".to_owned(),
            role_arn: Some(format!("arn:aws:iam::{ACCOUNT}:role/node")),
        })
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl AccessKeys for Everybody {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let principal = Principal {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:{access_key_id}"),
            user_id: "AIDA".to_owned(),
            kind: CallerKind::Root,
            tags: BTreeMap::new(),
        };
        Some(AccessKey {
            secret: "secret".to_owned(),
            session_token: None,
            expires: None,
            principal,
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }
}

impl Identities for Everybody {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        Some(Attached::default())
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}
