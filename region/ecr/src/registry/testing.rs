//! A registry in a folder of its own, with two roles: `reader` may pull, `bare` may nothing.

use std::sync::Arc;

use clock::Clock;
use iam_policy::{Kind, Named, Policy};
use lifecycle::Scope;
use region_gateway::{Attached, Authorizer, CallerKind, Identities, Role};
use region_store::Store;
use tempfile::TempDir;

use crate::{Config, Ecr};

struct Roles;

impl Identities for Roles {
    fn attached(&self, kind: &CallerKind) -> Option<Attached> {
        let is_reader = matches!(
            kind,
            CallerKind::AssumedRole { role_arn, .. } if role_arn.ends_with("role/reader")
        );
        let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*",
            "Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer","ecr:ListImages"]}]}"#;
        let policy = Arc::new(Policy::parse(text, Kind::Identity).unwrap());
        let identity = if is_reader { vec![Named { name: "read".into(), policy }] } else { vec![] };
        Some(Attached { identity, boundary: None })
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<Named> {
        None
    }
}

pub(crate) fn ecr() -> (Arc<Ecr>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        account: "111122223333".into(),
        region: "us-east-1".into(),
        authorizer: Authorizer::new(Arc::new(Roles)),
        clock: Clock::system(),
        scope: Scope::new(),
    };
    (Ecr::open(config, &Store::in_memory(), folder.path()).unwrap(), folder)
}
