//! What must hold of `access`.

use super::*;

fn association(policy: &str, scope: Scope) -> Association {
    Association { policy_arn: format!("arn:aws:eks::aws:cluster-access-policy/{policy}"), scope }
}

fn resource(verb: &str, group: &str, resource: &str, namespace: &str) -> Asked {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Asked::of(&json!({"resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "subresource": subresource,
        "namespace": namespace,
    }}))
}

fn allows(policy: &str, scope: Scope, asked: &Asked) -> bool {
    decide(&[association(policy, scope)], asked).is_some()
}

#[test]
fn a_policy_allows_what_its_name_says() {
    let cases = [
        ("AmazonEKSClusterAdminPolicy", "delete", "", "nodes", true),
        ("AmazonEKSAdminPolicy", "delete", "", "nodes", false),
        ("AmazonEKSAdminPolicy", "create", "rbac.authorization.k8s.io", "rolebindings", true),
        ("AmazonEKSEditPolicy", "create", "rbac.authorization.k8s.io", "rolebindings", false),
        ("AmazonEKSEditPolicy", "create", "apps", "deployments", true),
        ("AmazonEKSEditPolicy", "create", "", "pods/exec", true),
        ("AmazonEKSViewPolicy", "create", "apps", "deployments", false),
        ("AmazonEKSViewPolicy", "list", "", "pods", true),
        ("AmazonEKSViewPolicy", "get", "", "pods/log", true),
        ("AmazonEKSViewPolicy", "get", "", "secrets", false),
        ("AmazonEKSAdminViewPolicy", "get", "", "secrets", true),
        ("AmazonEKSAdminViewPolicy", "create", "", "pods", false),
        ("AmazonEKSSecretReaderPolicy", "list", "", "secrets", true),
        ("AmazonEKSSecretReaderPolicy", "create", "", "secrets", false),
        ("AmazonEKSSecretReaderPolicy", "get", "", "configmaps", false),
        ("AmazonEKSHybridPolicy", "list", "", "nodes", true),
        ("AmazonEKSHybridPolicy", "get", "", "nodes", false),
        ("AmazonEKSHybridPolicy", "list", "", "pods", false),
        ("SomePolicyOfMine", "get", "", "pods", false),
    ];
    for (policy, verb, group, what, expected) in cases {
        let asked = resource(verb, group, what, "ns");
        assert_eq!(allows(policy, Scope::Cluster, &asked), expected, "{policy} {verb} {what}");
    }
}

#[test]
fn a_namespace_scope_ends_at_its_namespaces() {
    let scope = || Scope::Namespaces(vec!["dev-*".into(), "shop".into()]);
    let admin = "AmazonEKSClusterAdminPolicy";
    for (namespace, expected) in
        [("shop", true), ("dev-1", true), ("shopping", false), ("prod", false), ("", false)]
    {
        let asked = resource("get", "", "pods", namespace);
        assert_eq!(allows(admin, scope(), &asked), expected, "{namespace:?}");
    }
}

#[test]
fn only_users_that_the_authenticator_made_have_policies() {
    let extra = json!({"canonicalArn": ["arn:x"], "principalId": ["A"]});
    let spec = |uid: &str| json!({"uid": uid, "extra": extra});
    let found = principal(&spec("aws-iam-authenticator:1:A"));
    assert_eq!(found, Some(("arn:x".to_owned(), "A".to_owned())));
    assert_eq!(principal(&spec("")), None);
    let two = json!({"uid": "aws-iam-authenticator:1:A", "extra": {
        "canonicalArn": ["a", "b"], "principalId": ["A"]}});
    assert_eq!(principal(&two), None);
    let nobody = json!({"uid": "aws-iam-authenticator:1:A", "extra": {"canonicalArn": ["a"]}});
    assert_eq!(principal(&nobody), None, "whose id is not told");
}
