//! Each rule of the change, on pods of its own.

use serde_json::{Value, json};

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/app";

fn account() -> Value {
    annotated(json!({"eks.amazonaws.com/role-arn": ROLE}))
}

fn annotated(annotations: Value) -> Value {
    json!({"metadata": {"name": "app", "namespace": "shop", "annotations": annotations}})
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "app",
        "containers": [{"name": "main", "image": "i"}],
    }})
}

fn eks() -> Config {
    let region = Some("us-east-1".to_owned());
    Config { region, sts_regional_endpoints: true, ..Config::default() }
}

/// The pod as it is created, and the warnings.
fn changed(
    pod: &Value,
    account: Option<&Value>,
    is_associated: bool,
    config: &Config,
) -> (Value, Vec<String>) {
    let mutation = mutate(pod, Subject { account, is_associated, jitter: 100 }, config);
    let patch: json_patch::Patch =
        serde_json::from_value(mutation.patch.into()).expect("a JSON patch");
    let mut changed = pod.clone();
    json_patch::patch(&mut changed, &patch).expect("a patch that fits");
    (changed, mutation.warnings)
}

fn variables(container: &Value) -> Vec<(String, String)> {
    let all = container["env"].as_array().into_iter().flatten();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    all.map(|it| (text(&it["name"]), text(&it["value"]))).collect()
}

fn names(container: &Value) -> Vec<String> {
    variables(container).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_pod_of_an_account_without_role_or_association_stays_as_it_is() {
    for account in [None, Some(&annotated(json!({})))] {
        let mutation = mutate(&pod(), Subject { account, is_associated: false, jitter: 0 }, &eks());
        assert_eq!(mutation, Mutation::default());
    }
}

#[test]
fn a_role_of_the_account_gives_a_token_for_sts_and_the_variables_of_the_sdks() {
    let (pod, warnings) = changed(&pod(), Some(&account()), false, &eks());
    let mount = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken": {
            "audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token",
        }}]}}])
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "aws-iam-token", "mountPath": mount, "readOnly": true}])
    );
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        variables(container),
        [
            text("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
            text("AWS_DEFAULT_REGION", "us-east-1"),
            text("AWS_REGION", "us-east-1"),
            text("AWS_ROLE_ARN", ROLE),
            text("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{mount}/token")),
        ]
    );
    assert!(pod["metadata"].get("labels").is_none());
}

#[test]
fn audience_regional_sts_and_expiry_are_the_accounts() {
    let account = annotated(json!({
        "eks.amazonaws.com/role-arn": ROLE,
        "eks.amazonaws.com/audience": "mine",
        "eks.amazonaws.com/sts-regional-endpoints": "false",
        "eks.amazonaws.com/token-expiration": "1200",
    }));
    let (pod, _) = changed(&pod(), Some(&account), false, &eks());
    let token = &pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!((&token["audience"], &token["expirationSeconds"]), (&json!("mine"), &json!(1200)));
    assert!(!names(&pod["spec"]["containers"][0]).contains(&"AWS_STS_REGIONAL_ENDPOINTS".into()));
}

#[test]
fn a_pods_own_expiry_counts_more_than_its_accounts() {
    let mut asking = pod();
    asking["metadata"]["annotations"] = json!({"eks.amazonaws.com/token-expiration": "900"});
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let token = &pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["expirationSeconds"], 900);
}

#[test]
fn containers_that_the_pod_names_are_left_alone() {
    let mut asking = pod();
    asking["metadata"]["annotations"] = json!({"eks.amazonaws.com/skip-containers": "side, other"});
    asking["spec"]["containers"] =
        json!([{"name": "main"}, {"name": "side"}, {"name": "other", "env": []}]);
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let containers = &pod["spec"]["containers"];
    assert!(names(&containers[0]).contains(&"AWS_ROLE_ARN".into()));
    assert_eq!(containers[1], json!({"name": "side"}));
    assert_eq!(containers[2], json!({"name": "other", "env": []}));
}

#[test]
fn init_containers_get_credentials_too() {
    let mut asking = pod();
    asking["spec"]["initContainers"] = json!([{"name": "first"}]);
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let first = &pod["spec"]["initContainers"][0];
    assert!(names(first).contains(&"AWS_ROLE_ARN".into()));
    assert_eq!(first["volumeMounts"][0]["name"], "aws-iam-token");
}

#[test]
fn variables_come_after_those_that_are_there() {
    let mut asking = pod();
    asking["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let names = names(&pod["spec"]["containers"][0]);
    assert_eq!((names[0].as_str(), names.len()), ("A", 6));
}

#[test]
fn one_of_the_pair_keeps_both_away_but_the_volume_is_mounted() {
    let mut asking = pod();
    asking["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ROLE_ARN", "value": "own"}]);
    let (pod, warnings) = changed(&asking, Some(&account()), false, &eks());
    let container = &pod["spec"]["containers"][0];
    assert!(!names(container).contains(&"AWS_WEB_IDENTITY_TOKEN_FILE".into()));
    assert_eq!(variables(container)[0].1, "own");
    assert_eq!(container["volumeMounts"][0]["name"], "aws-iam-token");
    assert!(warnings[0].contains("sets AWS_ROLE_ARN itself"), "{warnings:?}");
}

#[test]
fn a_region_of_the_containers_own_stays_the_only_one() {
    let mut asking = pod();
    asking["spec"]["containers"][0]["env"] = json!([{"name": "AWS_REGION", "value": "eu-west-1"}]);
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let names = names(&pod["spec"]["containers"][0]);
    assert!(!names.contains(&"AWS_DEFAULT_REGION".into()), "{names:?}");
    assert!(names.contains(&"AWS_ROLE_ARN".into()));
}

#[test]
fn the_volume_comes_before_the_pods_own() {
    let mut asking = pod();
    asking["spec"]["volumes"] = json!([{"name": "kube-api-access-x", "projected": {}}]);
    let (pod, _) = changed(&asking, Some(&account()), false, &eks());
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert_eq!((&volumes[0]["name"], volumes.len()), (&json!("aws-iam-token"), 2));
}

#[test]
fn asked_twice_it_changes_nothing_the_second_time() {
    for is_associated in [false, true] {
        let config = Config { authority_pem: Some("PEM".into()), ..eks() };
        let (once, _) = changed(&pod(), Some(&account()), is_associated, &config);
        let (twice, _) = changed(&once, Some(&account()), is_associated, &config);
        assert_eq!(once, twice);
    }
}

#[test]
fn an_association_wins_over_the_accounts_role() {
    let (pod, _) = changed(&pod(), Some(&account()), true, &eks());
    let mount = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    assert_eq!(pod["metadata"]["labels"], json!({"eks.amazonaws.com/pod-identity": "enabled"}));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "eks-pod-identity-token", "projected": {"sources": [{
            "serviceAccountToken": {"audience": "pods.eks.amazonaws.com",
                "expirationSeconds": 86_300, "path": "eks-pod-identity-token"},
        }]}}])
    );
    let container = &pod["spec"]["containers"][0];
    assert!(!names(container).contains(&"AWS_ROLE_ARN".into()));
    let variables = variables(container);
    let value = |name: &str| &variables.iter().find(|(it, _)| it == name).unwrap().1;
    assert_eq!(value("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "http://169.254.170.23/v1/credentials");
    assert_eq!(
        value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        &format!("{mount}/eks-pod-identity-token")
    );
}

#[test]
fn pods_of_an_ipv6_cluster_are_sent_to_the_agents_ipv6_address() {
    let (pod, _) = changed(&pod(), Some(&account()), true, &eks().for_ipv6());
    let variables = variables(&pod["spec"]["containers"][0]);
    let uri = variables.iter().find(|(name, _)| name == "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    assert_eq!(uri.unwrap().1, "http://[fd00:ec2::23]/v1/credentials");
}

#[test]
fn labels_that_the_pod_has_stay() {
    let mut asking = pod();
    asking["metadata"]["labels"] = json!({"app": "shop"});
    let (pod, _) = changed(&asking, None, true, &eks());
    let wanted = json!({"app": "shop", "eks.amazonaws.com/pod-identity": "enabled"});
    assert_eq!(pod["metadata"]["labels"], wanted);
}

#[test]
fn only_a_default_expiry_of_pod_identity_is_jittered() {
    let expiry = |jitter, annotations: Value| {
        let account = annotated(annotations);
        let subject = Subject { account: Some(&account), is_associated: true, jitter };
        let mutation = mutate(&pod(), subject, &eks());
        let volume = mutation.patch.iter().find(|it| it["path"] == "/spec/volumes").unwrap();
        volume["value"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"]
            .as_i64()
            .unwrap()
    };
    assert_eq!(expiry(0, json!({})), 86_400);
    assert_eq!(expiry(7_200, json!({})), 79_200);
    assert_eq!(expiry(9_999, json!({})), 79_200);
    assert_eq!(expiry(500, json!({"eks.amazonaws.com/token-expiration": "3600"})), 3_600);
}

#[test]
fn an_authority_of_the_regions_own_is_a_file_beside_the_token() {
    let config = Config { authority_pem: Some("PEM".into()), ..eks() };
    let (pod, _) = changed(&pod(), Some(&account()), false, &config);
    assert_eq!(pod["metadata"]["annotations"]["nodestead.io/region-ca"], "PEM");
    let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(
        sources[1]["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"],
        "metadata.annotations['nodestead.io/region-ca']"
    );
    let variables = variables(&pod["spec"]["containers"][0]);
    let file = "/var/run/secrets/eks.amazonaws.com/serviceaccount/region-ca.crt";
    for name in ["AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        assert!(variables.contains(&(name.to_owned(), file.to_owned())), "{variables:?}");
    }
}

#[test]
fn a_bundle_of_the_containers_own_is_kept() {
    let mut asking = pod();
    asking["spec"]["containers"][0]["env"] = json!([{"name": "AWS_CA_BUNDLE", "value": "/own"}]);
    let config = Config { authority_pem: Some("PEM".into()), ..eks() };
    let (pod, _) = changed(&asking, Some(&account()), false, &config);
    let variables = variables(&pod["spec"]["containers"][0]);
    let bundles: Vec<_> = variables.iter().filter(|(name, _)| name == "AWS_CA_BUNDLE").collect();
    assert_eq!(bundles, [&("AWS_CA_BUNDLE".to_owned(), "/own".to_owned())]);
}

#[test]
fn a_role_that_is_none_is_injected_as_upstream_does_and_warned_about() {
    let account = annotated(json!({"eks.amazonaws.com/role-arn": "app"}));
    let (pod, warnings) = changed(&pod(), Some(&account), false, &eks());
    assert!(names(&pod["spec"]["containers"][0]).contains(&"AWS_ROLE_ARN".into()));
    assert!(warnings[0].contains("is not the ARN of an IAM role"), "{warnings:?}");
}

#[test]
fn keys_of_the_containers_own_are_warned_about() {
    let mut asking = pod();
    asking["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ACCESS_KEY_ID", "value": "k"}]);
    let (_, warnings) = changed(&asking, Some(&account()), false, &eks());
    assert!(warnings[0].contains("AWS_ACCESS_KEY_ID"), "{warnings:?}");
}
