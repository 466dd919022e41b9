//! `Impersonate-*` headers: acting as someone else, by permission.
//!
//! Upstream: apiserver/pkg/endpoints/filters/impersonation.

use http::HeaderMap;

use crate::{
    authz::Authorizer,
    request::{RequestInfo, UserInfo},
    status::Status,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user to go on with: the given one, or the one that the headers name and that the given one
/// may impersonate in every part.
pub async fn impersonate(
    authorizer: &Authorizer,
    user: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    for part in parts(&wanted) {
        authorizer.check(&user, &part).await?;
    }
    Ok(finished(wanted))
}

/// Whom the headers name, as they name it.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let bad = || Status::bad_request("an impersonation header is not text");
    let all = |name: &str| -> Result<Vec<String>, Status> {
        let values = headers.get_all(name).into_iter();
        values.map(|it| it.to_str().map(str::to_owned).map_err(|_| bad())).collect()
    };
    let (users, groups, uids) = (all(USER)?, all(GROUP)?, all(UID)?);
    let mut wanted = UserInfo { groups, ..UserInfo::default() };
    wanted.username = users.into_iter().next().unwrap_or_default();
    wanted.uid = uids.into_iter().next().unwrap_or_default();
    for name in headers.keys().filter(|name| name.as_str().starts_with(EXTRA)) {
        let key = &name.as_str()[EXTRA.len()..];
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        wanted.extra.insert(key, all(name.as_str())?);
    }
    if wanted == UserInfo::default() {
        return Ok(None);
    }
    if wanted.username.is_empty() {
        return Err(Status::internal(format!(
            "requested {:?} without impersonating a user name",
            wanted.groups
        )));
    }
    Ok(Some(wanted))
}

/// What must be allowed: one question for each part of the wanted user.
fn parts(wanted: &UserInfo) -> Vec<RequestInfo> {
    let question = |group: &str, resource: &str, name: &str| RequestInfo {
        verb: "impersonate".into(),
        group: group.into(),
        resource: resource.into(),
        name: name.into(),
        is_resource: true,
        ..RequestInfo::default()
    };
    let mut parts = vec![match service_account(&wanted.username) {
        Some((namespace, name)) => {
            RequestInfo { namespace: namespace.into(), ..question("", "serviceaccounts", name) }
        }
        None => question("", "users", &wanted.username),
    }];
    parts.extend(wanted.groups.iter().map(|group| question("", "groups", group)));
    let group = "authentication.k8s.io";
    if !wanted.uid.is_empty() {
        parts.push(question(group, "uids", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        parts.extend(values.iter().map(|value| RequestInfo {
            subresource: key.clone(),
            ..question(group, "userextras", value)
        }));
    }
    parts
}

fn service_account(username: &str) -> Option<(&str, &str)> {
    username.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Adds the groups that follow from who the user is.
fn finished(mut wanted: UserInfo) -> UserInfo {
    if wanted.groups.is_empty()
        && let Some((namespace, _)) = service_account(&wanted.username)
    {
        wanted.groups.push("system:serviceaccounts".into());
        wanted.groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let own = match wanted.username.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    if !wanted.is_in(own) && !wanted.is_in("system:unauthenticated") {
        wanted.groups.push(own.into());
    }
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authz::testing::Memory;

    fn authorizer(resource: &str, names: &[&str]) -> Authorizer {
        let memory = Memory::default();
        memory.put(
            "clusterroles.rbac.authorization.k8s.io",
            json!({"metadata": {"name": "i"}, "rules": [{
                "verbs": ["impersonate"], "apiGroups": [""], "resources": [resource],
                "resourceNames": names,
            }]}),
        );
        memory.put(
            "clusterrolebindings.rbac.authorization.k8s.io",
            json!({"metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i"},
                "subjects": [{"kind": "User", "name": "bob"}]}),
        );
        Authorizer::new(memory)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn a_user_may_be_impersonated_but_not_with_a_group_that_is_not_allowed() {
        let authorizer = authorizer("users", &["alice"]);
        let bob = || UserInfo::new("bob", &[]);
        let alice = headers(&[(USER, "alice")]);
        let user = impersonate(&authorizer, bob(), &alice).await.unwrap();
        assert_eq!(user, UserInfo::new("alice", &[]));
        let master = headers(&[(USER, "alice"), (GROUP, "system:masters")]);
        let refused = impersonate(&authorizer, bob(), &master).await.unwrap_err();
        assert_eq!(
            refused.message,
            "groups \"system:masters\" is forbidden: User \"bob\" cannot impersonate resource \
             \"groups\" in API group \"\" at the cluster scope"
        );
        let other = headers(&[(USER, "carol")]);
        assert!(impersonate(&authorizer, bob(), &other).await.is_err());
    }

    #[tokio::test]
    async fn groups_without_a_user_are_refused() {
        let only = headers(&[(GROUP, "system:masters")]);
        let refused = impersonate(&authorizer("*", &[]), UserInfo::new("bob", &[]), &only).await;
        assert!(refused.is_err());
    }
}
