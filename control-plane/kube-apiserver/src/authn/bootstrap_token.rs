//! Bootstrap tokens: `ID.SECRET`, as a Secret of `kube-system` has it, for nodes that join.
//!
//! The Secret is looked at for every request, so that one that expired, was deleted or is on its
//! way is good for nothing from that moment on.
//!
//! Upstream: plugin/pkg/auth/authenticator/token/bootstrap, k8s.io/cluster-bootstrap/token.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
#[cfg(test)]
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::{
    authz::{Objects, text},
    request::UserInfo,
};

const KIND: &str = "bootstrap.kubernetes.io/token";
const USER: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";
const GROUP_LIMIT: usize = 256;

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// Id and secret, if the token has that form.
pub(super) fn parse(token: &str) -> Option<(&str, &str)> {
    let is_part = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
    };
    let (id, secret) = token.split_once('.')?;
    (is_part(id, ID_LENGTH) && is_part(secret, SECRET_LENGTH)).then_some((id, secret))
}

/// Who the bearer is; nobody, if anything about the token's Secret is not as it must be.
pub(super) fn authenticate(
    (id, secret): (&str, &str),
    objects: &Arc<dyn Objects>,
    now: Timestamp,
) -> Option<UserInfo> {
    let stored = objects.get("secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    let data = |key: &str| -> String {
        let bytes = BASE64_STANDARD.decode(text(&stored["data"], &format!("/{key}")));
        bytes.ok().and_then(|it| String::from_utf8(it).ok()).unwrap_or_default()
    };
    let is_secret: bool = data("token-secret").as_bytes().ct_eq(secret.as_bytes()).into();
    let is_good = stored["type"] == KIND
        && text(&stored, "/metadata/deletionTimestamp").is_empty()
        && is_secret
        && data("token-id") == id
        && data("usage-bootstrap-authentication") == "true"
        && !is_expired(&data("expiration"), now);
    is_good.then(|| user(id, &data("auth-extra-groups")))?
}

/// A time that cannot be read has passed.
fn is_expired(expiration: &str, now: Timestamp) -> bool {
    !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |it| it <= now)
}

/// Nobody, if the Secret asks for groups that such a token cannot have.
fn user(id: &str, extra_groups: &str) -> Option<UserInfo> {
    let mut user = UserInfo::new(&format!("{USER}{id}"), &[GROUP]);
    for group in extra_groups.split(',').filter(|it| !it.is_empty()) {
        let name = group.strip_prefix("system:bootstrappers:")?;
        let is_name = name.ends_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
            && name.len() <= GROUP_LIMIT
            && name.bytes().all(|it| {
                it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b':' | b'-')
            });
        if !is_name {
            return None;
        }
        user.groups.push(group.to_owned());
    }
    Some(user)
}

/// The Secret of a token.
#[cfg(test)]
fn secret(id: &str, secret: &str, others: &[(&str, &str)]) -> Value {
    let mut data = serde_json::json!({});
    let own =
        [("token-id", id), ("token-secret", secret), ("usage-bootstrap-authentication", "true")];
    for (key, value) in own.iter().chain(others) {
        data[*key] = BASE64_STANDARD.encode(value).into();
    }
    serde_json::json!({
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": KIND, "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::testing::Memory;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn of(others: &[(&str, &str)], change: fn(&mut Value)) -> Option<UserInfo> {
        let memory = Memory::default();
        let mut stored = secret("abcdef", "0123456789abcdef", others);
        change(&mut stored);
        memory.put("secrets", stored);
        let objects: Arc<dyn Objects> = Arc::new(memory);
        authenticate(parse(TOKEN).unwrap(), &objects, "2026-01-02T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_token_is_a_bootstrapper_of_the_groups_that_its_secret_names() {
        let user = of(&[("auth-extra-groups", "system:bootstrappers:worker")], |_| {}).unwrap();
        let groups =
            ["system:bootstrappers", "system:authenticated", "system:bootstrappers:worker"];
        assert_eq!(
            (user.username.as_str(), user.groups),
            ("system:bootstrap:abcdef", groups.map(str::to_owned).to_vec())
        );
        assert!(of(&[("expiration", "2026-01-02T00:00:01Z")], |_| {}).is_some());
    }

    #[test]
    fn anything_that_is_not_as_it_must_be_makes_it_nobodys() {
        for others in [
            ("expiration", "2026-01-02T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "false"),
            ("token-secret", "0123456789abcdeg"),
            ("token-id", "abcdeg"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:"),
        ] {
            assert_eq!(of(&[others], |_| {}), None, "{others:?}");
        }
        assert_eq!(of(&[], |it| it["type"] = "Opaque".into()), None);
        let going: fn(&mut Value) =
            |it| it["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(of(&[], going), None);
    }

    #[test]
    fn other_tokens_have_another_form() {
        for other in ["abcdef.0123456789ABCDEF", "abcdef", "a.b.c", "k8s-aws-v1.x", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
