//! A registry in a folder of its own, with three roles: `reader` may pull, `inside` too from
//! `vpc-1`, `bare` may nothing.
//!
//! Of the keys, `ASIALIMITED` is of a session that may only list, and `gone` is none any more.

use std::{collections::BTreeMap, sync::Arc};

use clock::Clock;
use iam_policy::{Kind, Named, Policy};
use lifecycle::Scope;
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Config as GatewayConfig, Events, Gateway,
    Identities, Principal, Role,
};
use region_store::Store;
use tempfile::TempDir;

use crate::{Config, Ecr};

const READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*",
    "Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer","ecr:ListImages"],
    "Condition":CONDITION}]}"#;

struct Roles;

impl Identities for Roles {
    fn attached(&self, kind: &CallerKind) -> Option<Attached> {
        let CallerKind::AssumedRole { role_arn, .. } = kind else { return None };
        let text = match role_arn.rsplit('/').next().unwrap() {
            "reader" => READ.replace("CONDITION", "{}"),
            "inside" => READ.replace("CONDITION", r#"{"StringEquals":{"aws:SourceVpc":"vpc-1"}}"#),
            _ => return Some(Attached::default()),
        };
        let policy = Arc::new(Policy::parse(&text, Kind::Identity).unwrap());
        let identity = vec![Named { name: "read".into(), policy }];
        Some(Attached { identity, boundary: None })
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<Named> {
        None
    }
}

impl AccessKeys for Roles {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*",
            "Action":"ecr:ListImages"}]}"#;
        let policy = Arc::new(Policy::parse(text, Kind::Identity).unwrap());
        let limit = vec![Named { name: "session policy".into(), policy }];
        let session_policies = if access_key_id == "ASIALIMITED" { limit } else { vec![] };
        (access_key_id != "gone").then(|| AccessKey {
            secret: String::new(),
            session_token: None,
            expires: None,
            principal: Principal {
                account: "111122223333".into(),
                arn: String::new(),
                user_id: String::new(),
                kind: CallerKind::Root,
                tags: BTreeMap::new(),
            },
            session_policies,
            session_context: Default::default(),
        })
    }
}

pub(crate) fn ecr() -> (Arc<Ecr>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        account: "111122223333".into(),
        region: "us-east-1".into(),
        gateway: Gateway::new(GatewayConfig {
            region: "us-east-1".into(),
            account: "111122223333".into(),
            clock: Clock::system(),
            keys: vec![Arc::new(Roles)],
            identities: Arc::new(Roles),
            events: Events::in_memory(),
        }),
        clock: Clock::system(),
        scope: Scope::new(),
    };
    (Ecr::open(config, &Store::in_memory(), folder.path()).unwrap(), folder)
}
