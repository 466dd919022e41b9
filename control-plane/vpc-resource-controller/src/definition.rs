//! The definitions of SecurityGroupPolicies and CNINodes, which every EKS cluster has.
//!
//! Upstream: `config/crd/bases` of aws/amazon-vpc-resource-controller-k8s.

use std::time::Duration;

use api_kube::vpc_resources::GROUP;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tracing::warn;

const RETRY: Duration = Duration::from_secs(1);

/// Makes them, or brings older ones up to date; tries until the API server takes them.
pub(crate) async fn ensure(client: &Client) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for wanted in [policies(), nodes()] {
        while let Err(error) = put(&api, &wanted).await {
            let name = wanted.pointer("/metadata/name").and_then(Value::as_str);
            warn!(error = %telemetry::chain(&error), name, "failed to make a definition");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn put(api: &Api<CustomResourceDefinition>, wanted: &Value) -> Result<(), kube::Error> {
    let object: CustomResourceDefinition =
        serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let name = object.metadata.name.unwrap_or_default();
            api.patch(&name, &PatchParams::default(), &Patch::Merge(wanted)).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn definition(names: &Value, scope: &str, version: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{GROUP}", names["plural"].as_str().unwrap_or_default()) },
        "spec": { "group": GROUP, "scope": scope, "names": names, "versions": [version] },
    })
}

fn schema(description: &str, spec: &Value, status: Option<Value>) -> Value {
    let mut properties = json!({
        "apiVersion": { "type": "string" },
        "kind": { "type": "string" },
        "metadata": { "type": "object" },
        "spec": spec,
    });
    if let Some(status) = status {
        properties["status"] = status;
    }
    json!({ "openAPIV3Schema": {
        "type": "object", "description": description, "properties": properties,
    } })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn texts() -> Value {
    json!({ "type": "array", "items": text(), "x-kubernetes-list-type": "atomic" })
}

fn selector() -> Value {
    let values = json!({ "type": "array", "items": text() });
    json!({ "type": "object", "x-kubernetes-map-type": "atomic", "properties": {
        "matchLabels": { "type": "object", "additionalProperties": text() },
        "matchExpressions": { "type": "array", "items": { "type": "object",
            "required": ["key", "operator"],
            "properties": { "key": text(), "operator": text(), "values": values } } },
    } })
}

fn policies() -> Value {
    let groups = json!({ "type": "object",
        "description": "The security groups of the pods that are selected.",
        "properties": { "groupIds": {
            "type": "array", "minItems": 1, "maxItems": 16, "items": text(),
            "description": "The ids of one to sixteen security groups." } } });
    let spec = json!({ "type": "object", "properties": {
        "podSelector": selector(),
        "serviceAccountSelector": selector(),
        "securityGroups": groups,
    } });
    let version = json!({
        "name": "v1beta1", "served": true, "storage": true, "subresources": {},
        "additionalPrinterColumns": [{
            "name": "Security-Group-Ids", "type": "string",
            "jsonPath": ".spec.securityGroups.groupIds",
            "description": "The security groups of the pods that this policy selects",
        }],
        "schema": schema("Which pods have which security groups.", &spec, None),
    });
    let names = json!({ "kind": "SecurityGroupPolicy", "listKind": "SecurityGroupPolicyList",
        "plural": "securitygrouppolicies", "singular": "securitygrouppolicy",
        "shortNames": ["sgp"] });
    definition(&names, "Namespaced", &version)
}

fn nodes() -> Value {
    let feature = json!({ "type": "object", "properties": { "name": text(), "value": text() } });
    let spec = json!({ "type": "object", "properties": {
        "features": { "type": "array", "items": feature,
            "description": "What the node's CNI leaves to the controller." },
        "managedBy": { "type": "string",
            "enum": ["vpc-resource-controller", "eks-auto-mode"],
            "description": "Whose CNINode it is; nobody named: the VPC resource controller's." },
        "tags": { "type": "object", "additionalProperties": text(),
            "description": "Tags for every network interface that is made for the node." },
    } });
    let version = json!({
        "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
        "selectableFields": [{ "jsonPath": ".spec.managedBy" }],
        "additionalPrinterColumns": [{
            "name": "Features", "type": "string", "jsonPath": ".spec.features",
            "description": "The features that the controller provides for the node",
        }],
        "schema": schema("What a node asks of the VPC resource controller.", &spec, Some(status())),
    });
    let names = json!({ "kind": "CNINode", "listKind": "CNINodeList", "plural": "cninodes",
        "singular": "cninode", "shortNames": ["cnd"] });
    definition(&names, "Cluster", &version)
}

fn status() -> Value {
    let number = json!({ "type": "integer", "format": "int32" });
    let id = json!({ "type": "string", "minLength": 1 });
    let branch = json!({ "type": "object", "required": ["id", "vlanID"], "properties": {
        "associationID": text(), "id": id, "ipv4CIDRs": texts(), "ipv6CIDRs": texts(),
        "macAddress": text(), "securityGroups": texts(), "subnetCIDR": text(),
        "subnetV6CIDR": text(), "vlanID": number } });
    let branches = json!({ "type": "array", "items": branch,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"] });
    json!({ "type": "object", "properties": { "trunkInterface": {
        "type": "object", "required": ["id"], "properties": {
            "branches": branches, "deviceIndex": number, "id": id, "macAddress": text() } } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_definitions() {
        for (wanted, name) in [
            (policies(), "securitygrouppolicies.vpcresources.k8s.aws"),
            (nodes(), "cninodes.vpcresources.k8s.aws"),
        ] {
            let read: CustomResourceDefinition = serde_json::from_value(wanted).unwrap();
            assert_eq!(read.metadata.name.as_deref(), Some(name));
        }
    }
}
