//! Who owns what of objects that are answered and never stored.

use serde_json::{Value, json};

use super::Cluster;

fn owned(object: &Value) -> Vec<(&str, &str, &str)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|it| {
            let text = |field: &str| it[field].as_str().unwrap_or_default();
            (text("manager"), text("apiVersion"), text("subresource"))
        })
        .collect()
}

#[tokio::test]
async fn what_a_client_asks_in_a_review_is_its_own() {
    let cluster = Cluster::start_with_tokens().await.with_default_account().await;
    let asked = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldManager=me";
    let (code, review) = cluster.post(path, asked).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(owned(&review), [("me", "authorization.k8s.io/v1", "")]);
    let fields = &review["metadata"]["managedFields"][0]["fieldsV1"];
    let attributes = &fields["f:spec"]["f:resourceAttributes"];
    assert!(attributes["f:verb"].is_object(), "{fields}");
    assert!(fields.get("f:status").is_none(), "the answer is nobody's: {fields}");

    let path = "/api/v1/namespaces/default/serviceaccounts/default/token?fieldManager=me";
    let (code, token) = cluster.post(path, json!({"spec": {"audiences": ["a"]}})).await;
    assert_eq!(code, 201, "{token}");
    assert_eq!(owned(&token), [("me", "authentication.k8s.io/v1", "token")]);

    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews?fieldManager=me";
    let (_, review) = cluster.post(path, json!({})).await;
    assert_eq!(owned(&review), []);
}
