//! Every stored resource through every verb, as upstream's conformance tests ask of each API:
//! dry run, create, get, list, watch, the four patches, update, status, tables and metadata only,
//! delete and deletecollection.
//!
//! The objects are the smallest that upstream's validation admits.

mod examples;

use std::fmt::Write;

use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use self::examples::{Example, examples};
use super::{Cluster, protobuf::bare};
use crate::resources::{Catalog, Resource, meta};

const LABEL: &str = "labelSelector=every%3Done";

/// What was not as it should be, one line each: one run shows all of it.
#[derive(Default)]
struct Wrong(String);

impl Wrong {
    fn expect(&mut self, holds: bool, what: &str, found: &Value) {
        if !holds {
            let mut found = found.to_string();
            found.truncate(400);
            writeln!(self.0, "{what}: {found}").unwrap();
        }
    }
}

/// One resource under test.
struct Walk<'a> {
    cluster: &'a Cluster,
    resource: &'a Resource,
    object: Value,
    wrong: &'a mut Wrong,
}

impl Walk<'_> {
    fn collection(&self) -> String {
        let it = self.resource;
        let root = if it.group.is_empty() {
            format!("/api/{}", it.version)
        } else {
            format!("/apis/{}/{}", it.group, it.version)
        };
        let space = if it.namespaced { "/namespaces/default" } else { "" };
        format!("{root}{space}/{}", it.plural)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), meta(&self.object, "name"))
    }

    fn expect(&mut self, holds: bool, what: &str, found: &Value) {
        let what = format!("{} {what}", self.resource.qualified());
        self.wrong.expect(holds, &what, found);
    }

    async fn all(&mut self) {
        if self.create().await {
            self.read().await;
            self.change().await;
            if self.resource.has_status() {
                self.status().await;
            }
            self.other_forms().await;
            self.messages().await;
            let made = self.cluster.get(&self.path()).await;
            self.delete().await;
            self.watched(&made).await;
            self.collection_of_one().await;
        }
    }

    async fn create(&mut self) -> bool {
        let collection = self.collection();
        let dry = format!("{collection}?dryRun=All&fieldValidation=Strict");
        let (code, tried) = self.cluster.post(&dry, self.object.clone()).await;
        self.expect(code == 201, "is tried", &tried);
        let media = kube_protobuf::MEDIA_TYPE;
        let body = kube_protobuf::encode(self.object.to_string().as_bytes()).unwrap();
        let headers = [(CONTENT_TYPE, media), (ACCEPT, media)];
        let (head, body) = self.cluster.exchange("POST", &dry, &headers, body).await;
        let answer = kube_protobuf::decode(&body).unwrap_or_default();
        let is_tried =
            head.status == 201 && answer["spec"].is_object() == tried["spec"].is_object();
        self.expect(is_tried, "is tried as protobuf", &answer);
        let left = self.cluster.get(&self.path()).await;
        self.expect(left["code"] == 404, "is not stored by a dry run", &left);
        let (code, made) = self.cluster.post(&collection, self.object.clone()).await;
        self.expect(code == 201, "is created", &made);
        let metadata = &made["metadata"];
        let is_whole = ["uid", "creationTimestamp", "resourceVersion"]
            .iter()
            .all(|field| metadata[field].as_str().is_some_and(|it| !it.is_empty()));
        self.expect(is_whole, "gets its metadata", metadata);
        let named = made["kind"] == *self.resource.kind
            && made["apiVersion"] == *self.resource.api_version();
        self.expect(named, "says what it is", &made);
        let generation = metadata["generation"].as_i64();
        let expected = self.resource.has_generation.then_some(1);
        self.expect(generation == expected, "begins its generations", metadata);
        let (code, again) = self.cluster.post(&collection, self.object.clone()).await;
        self.expect(code == 409 && again["reason"] == "AlreadyExists", "is made once", &again);
        made["metadata"]["uid"].is_string()
    }

    async fn read(&mut self) {
        let one = self.cluster.get(&self.path()).await;
        self.expect(one["kind"] == *self.resource.kind, "is read", &one);
        let everywhere = self.collection().replace("/namespaces/default", "");
        for place in [self.collection(), everywhere] {
            let list = self.cluster.get(&format!("{place}?{LABEL}&limit=1")).await;
            let is_list = list["kind"] == format!("{}List", self.resource.kind)
                && list["items"].as_array().is_some_and(|it| it.len() == 1);
            self.expect(is_list, "is listed", &list);
        }
        let by_name = format!("fieldSelector=metadata.name%3D{}", meta(&self.object, "name"));
        let list = self.cluster.get(&format!("{}?{by_name}", self.collection())).await;
        self.expect(list["items"][0]["metadata"]["uid"].is_string(), "is selected by name", &list);
    }

    async fn change(&mut self) {
        let path = self.path();
        let note = |value: &str| json!({"metadata": {"annotations": {"note": value}}});
        for kind in ["merge-patch+json", "strategic-merge-patch+json"] {
            let (code, object) = self.cluster.patch(&path, kind, note(kind)).await;
            let is_done = code == 200 && object["metadata"]["annotations"]["note"] == kind;
            self.expect(is_done, &format!("takes a {kind}"), &object);
        }
        let pointed =
            json!([{"op": "replace", "path": "/metadata/annotations/note", "value": "j"}]);
        let (code, object) = self.cluster.patch(&path, "json-patch+json", pointed).await;
        let is_done = code == 200 && object["metadata"]["annotations"]["note"] == "j";
        self.expect(is_done, "takes a json-patch", &object);
        let mut applied = note("a");
        applied["apiVersion"] = self.object["apiVersion"].clone();
        applied["kind"] = self.object["kind"].clone();
        applied["metadata"]["name"] = meta(&self.object, "name").into();
        let apply = format!("{path}?fieldManager=m&force=true");
        let (code, object) = self.cluster.patch(&apply, "apply-patch+yaml", applied).await;
        let manager = &object["metadata"]["managedFields"];
        let is_done = code == 200 && manager.to_string().contains("\"manager\":\"m\"");
        self.expect(is_done, "is applied", &object);
        let mut next = self.cluster.get(&path).await;
        let stale = next.clone();
        next["metadata"]["annotations"]["note"] = "u".into();
        let (code, object) = self.cluster.put(&path, next).await;
        let is_done = code == 200 && object["metadata"]["annotations"]["note"] == "u";
        self.expect(is_done, "is updated", &object);
        let (code, object) = self.cluster.put(&path, stale).await;
        self.expect(code == 409 && object["reason"] == "Conflict", "refuses a stale one", &object);
    }

    async fn status(&mut self) {
        let path = format!("{}/status", self.path());
        let mut one = self.cluster.get(&path).await;
        self.expect(one["kind"] == *self.resource.kind, "shows its status", &one);
        let touch = json!({"metadata": {"annotations": {"status": "p"}}});
        let (code, object) = self.cluster.patch(&path, "merge-patch+json", touch).await;
        self.expect(code == 200, "has its status patched", &object);
        one["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let (code, object) = self.cluster.put(&path, one).await;
        self.expect(code == 200, "has its status updated", &object);
    }

    async fn other_forms(&mut self) {
        for (form, kind) in [
            ("Table", "Table"),
            ("PartialObjectMetadata", "PartialObjectMetadata"),
            ("PartialObjectMetadataList", "PartialObjectMetadataList"),
        ] {
            let accept = format!("application/json;as={form};g=meta.k8s.io;v=v1");
            let is_list = form == "PartialObjectMetadataList";
            let path = if is_list { self.collection() } else { self.path() };
            let (_, body) = self.cluster.send("GET", &path, &[(ACCEPT, &accept)], "").await;
            self.expect(body["kind"] == kind, &format!("comes as a {form}"), &body);
            if form == "Table" {
                let columns = body["columnDefinitions"].as_array().map_or(0, Vec::len);
                let cells = body["rows"][0]["cells"].as_array().map_or(0, Vec::len);
                self.expect(columns > 0 && columns == cells, "fills its columns", &body);
            }
        }
    }

    /// A Go client is told the same as others are.
    async fn messages(&mut self) {
        let partial = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let partial_list = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let (path, collection) = (self.path(), self.collection());
        let all = [(&path, ""), (&collection, ""), (&path, partial), (&collection, partial_list)];
        for (path, form) in all {
            let json = format!("application/json{form}");
            let (_, expected) = self.cluster.send("GET", path, &[(ACCEPT, &json)], "").await;
            let protobuf = format!("{}{form}", kube_protobuf::MEDIA_TYPE);
            let (_, body) = self.cluster.exchange("GET", path, &[(ACCEPT, &protobuf)], "").await;
            let found = kube_protobuf::decode(&body).unwrap_or_default();
            let same = bare(nameless(found.clone())) == bare(nameless(expected));
            self.expect(same, &format!("is the same as protobuf{form}"), &found);
        }
    }

    async fn delete(&mut self) {
        let path = format!("{}?gracePeriodSeconds=0", self.path());
        let (code, gone) = self.cluster.delete(&path).await;
        self.expect(code == 200, "is deleted", &gone);
        self.let_go().await;
        let left = self.cluster.get(&self.path()).await;
        self.expect(left["code"] == 404, "is gone", &left);
    }

    /// As those do who put finalizers there.
    async fn let_go(&self) {
        let path = self.path();
        let mut object = self.cluster.get(&path).await;
        if object["metadata"]["finalizers"].is_array() {
            let none = json!({"metadata": {"finalizers": null}});
            self.cluster.patch(&path, "merge-patch+json", none).await;
        }
        if object["spec"]["finalizers"].is_array() {
            object["spec"]["finalizers"] = json!([]);
            self.cluster.put(&format!("{path}/finalize"), object).await;
        }
    }

    /// What a watch from before the deletion tells.
    async fn watched(&mut self, made: &Value) {
        let version = meta(made, "resourceVersion");
        let query = format!("watch=true&resourceVersion={version}&timeoutSeconds=1&{LABEL}");
        let path = format!("{}?{query}", self.collection());
        let text = self.cluster.text(&path).await;
        let last = text.lines().last().unwrap_or_default();
        let event: Value = serde_json::from_str(last).unwrap_or_default();
        let is_told = event["type"] == "DELETED"
            && event["object"]["kind"] == *self.resource.kind
            && meta(&event["object"], "uid") == meta(made, "uid");
        self.expect(is_told, "is watched until it goes", &event);
    }

    async fn collection_of_one(&mut self) {
        let collection = self.collection();
        let (code, made) = self.cluster.post(&collection, self.object.clone()).await;
        self.expect(code == 201, "is made anew", &made);
        let (code, answer) = self.cluster.delete(&format!("{collection}?{LABEL}")).await;
        if self.resource.verbs().contains(&"deletecollection") {
            self.expect(code == 200, "goes with its collection", &answer);
        } else {
            self.expect(code == 405, "has no collection to delete", &answer);
            self.cluster.delete(&self.path()).await;
        }
        self.let_go().await;
        let left = self.cluster.get(&self.path()).await;
        self.expect(left["code"] == 404, "is gone with its collection", &left);
    }
}

/// The items of a list say what they are in some forms only.
fn nameless(mut list: Value) -> Value {
    for item in list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
    }
    list
}

#[tokio::test(start_paused = true)]
async fn every_stored_resource_goes_through_every_verb() {
    let cluster = Cluster::start().await.with_default_account().await;
    let catalog = Catalog::builtin();
    let mut wrong = Wrong::default();
    let examples = examples();
    for resource in catalog.all().iter().filter(|it| it.is_stored()) {
        let example = examples.iter().find(|it| it.is_of(resource));
        let Some(Example { object }) = example else {
            wrong.expect(false, &format!("{} has no example", resource.qualified()), &Value::Null);
            continue;
        };
        let mut object = object.clone();
        object["metadata"]["labels"] = json!({"every": "one"});
        Walk { cluster: &cluster, resource, object, wrong: &mut wrong }.all().await;
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}

#[tokio::test]
async fn a_typo_is_refused_warned_of_or_dropped_as_the_client_wants() {
    let cluster = Cluster::start().await.with_default_account().await;
    let catalog = Catalog::builtin();
    let mut wrong = Wrong::default();
    for example in examples() {
        let resource = catalog.all().iter().find(|it| example.is_of(it)).unwrap().clone();
        let mut object = example.object.clone();
        object["unheardOf"] = 1.into();
        let walk = Walk { cluster: &cluster, resource: &resource, object, wrong: &mut wrong };
        let path = format!("{}?dryRun=All&fieldValidation=", walk.collection());
        let body = walk.object.to_string();
        let json = [(CONTENT_TYPE, "application/json")];
        let (head, answer) =
            cluster.send("POST", &format!("{path}Strict"), &json, body.clone()).await;
        let said = answer["message"].as_str().unwrap_or_default();
        let is_refused = head.status == 400 && said.contains("unknown field \"unheardOf\"");
        let what = format!("{} refuses it", resource.qualified());
        wrong.expect(is_refused, &what, &answer);
        let (head, answer) = cluster.send("POST", &format!("{path}Warn"), &json, body).await;
        let warnings: Vec<_> = head.headers.get_all("warning").iter().collect();
        let is_warned = head.status == 201
            && warnings
                .iter()
                .any(|it| it.to_str().is_ok_and(|it| it.contains("unknown field \\\"unheardOf")));
        let what = format!("{} warns of it", resource.qualified());
        wrong.expect(is_warned && answer.get("unheardOf").is_none(), &what, &answer);
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}
