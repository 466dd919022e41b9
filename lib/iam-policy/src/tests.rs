//! Decision vectors, from the rules in IAM's documentation.

mod conditions;
mod documents;
mod layers;
mod properties;
mod vectors;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

const ACCOUNT: &str = "111122223333";

fn policy(statements: Value) -> Arc<Policy> {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    Arc::new(Policy::parse(&text, Kind::Identity).unwrap())
}

fn named(statements: Value) -> Named {
    Named { name: "test".to_owned(), policy: policy(statements) }
}

fn trust(statements: Value) -> Named {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = Policy::parse(&text, Kind::Trust).unwrap();
    Named { name: "trust".to_owned(), policy: Arc::new(policy) }
}

fn user(name: &str) -> Identity {
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    let kind = IdentityKind::User { arn, id: format!("AIDA{name}") };
    Identity { account: ACCOUNT.to_owned(), kind }
}

fn session(role: &str) -> Identity {
    let kind = IdentityKind::Session {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
        role_id: format!("AROA{role}"),
        session_arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/s"),
    };
    Identity { account: ACCOUNT.to_owned(), kind }
}

fn service(name: &str) -> Identity {
    let kind = IdentityKind::Service { name: name.to_owned() };
    Identity { account: ACCOUNT.to_owned(), kind }
}

fn root() -> Identity {
    Identity { account: ACCOUNT.to_owned(), kind: IdentityKind::Root }
}

fn decide(identity: &Identity, policies: &Policies, action: &str, resource: &str) -> Decision {
    let context = Context::new().with("aws:username", "bob");
    evaluate(&Request { identity, action, resource, context: &context }, policies)
}

/// Whether one statement allows bob this.
fn allows(statement: Value, action: &str, resource: &str) -> bool {
    let policies = Policies { identity: vec![named(statement)], ..Policies::default() };
    decide(&user("bob"), &policies, action, resource).is_allowed()
}

fn allow_all() -> Named {
    named(json!({"Effect": "Allow", "Action": "*", "Resource": "*"}))
}
