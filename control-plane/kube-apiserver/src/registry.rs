//! Read access to stored objects for the parts of the server that decide: authenticators,
//! authorizers, admission plugins.
//!
//! Everything is answered from memory, synchronously, at the latest durable revision.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

/// Objects that are kept as they were decoded: what every request looks at, its namespace above all. With
/// more all are forgotten, and those that are in use come back.
const DECODED: usize = 256;

/// A list of no more is kept so: limits, quotas and classes, which are looked at for every pod.
const SHORT: usize = 16;

/// By key, each with what it was decoded from.
type Decoded = HashMap<Arc<str>, (Arc<mvcc::Record>, Arc<Value>)>;

/// A cheap handle for reading objects. Clones share the store.
#[derive(Clone, Debug)]
pub struct Reader {
    store: mvcc::Store,
    decoded: Arc<Mutex<Decoded>>,
}

impl Reader {
    pub fn new(store: mvcc::Store) -> Self {
        Self { store, decoded: Arc::default() }
    }

    /// [`Reader::get`], decoded once as long as the object stays what it is.
    pub fn shared(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let record = self.store.get(&key(group, resource, namespace, name))?;
        Some(self.kept(record))
    }

    /// [`Reader::list`], of which a short one is decoded once.
    pub fn shared_list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let records = self.store.scan(&prefix(group, resource, namespace));
        if records.len() > SHORT {
            return records.iter().map(|it| Arc::new(decode(it))).collect();
        }
        records.into_iter().map(|it| self.kept(it)).collect()
    }

    fn kept(&self, record: Arc<mvcc::Record>) -> Arc<Value> {
        let known = self.decoded.lock().get(&*record.key).cloned();
        if let Some((_, object)) = known.filter(|(from, _)| Arc::ptr_eq(from, &record)) {
            return object;
        }
        let object = Arc::new(decode(&record));
        let mut all = self.decoded.lock();
        if all.len() >= DECODED {
            all.clear();
        }
        all.insert(record.key.clone(), (record, object.clone()));
        object
    }

    /// One object, with its `resourceVersion`. `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let record = self.store.get(&key(group, resource, namespace, name))?;
        Some(decode(&record))
    }

    /// All objects of a resource, of one namespace if `namespace` is not empty.
    pub fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let prefix = prefix(group, resource, namespace);
        self.store.scan(&prefix).iter().map(|record| decode(record)).collect()
    }

    /// Those of [`Reader::list`] whose stored text holds `word`; the others are not decoded.
    pub fn list_mentioning(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        word: &str,
    ) -> Vec<Value> {
        let records = self.store.scan(&prefix(group, resource, namespace));
        let mentioning = records.iter().filter(|it| mentions(&it.value, &[word]));
        mentioning.map(|record| decode(record)).collect()
    }

    /// Whether there is such an object among those of [`Reader::list`] whose stored text holds all
    /// `words`. No more are decoded than it takes to know.
    pub fn any_mentioning(
        &self,
        (group, resource, namespace): (&str, &str, &str),
        words: &[&str],
        is_it: &mut dyn FnMut(&Value) -> bool,
    ) -> bool {
        let records = self.store.scan(&prefix(group, resource, namespace));
        let mut mentioning = records.iter().filter(|it| mentions(&it.value, words));
        mentioning.any(|record| is_it(&decode(record)))
    }

    /// The revision of the last change to any object of this resource: caches that are derived
    /// from a list are valid as long as it stays the same.
    pub fn revision(&self, group: &str, resource: &str) -> u64 {
        self.store.bucket_revision(&prefix(group, resource, ""))
    }
}

fn mentions(value: &[u8], words: &[&str]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| words.iter().all(|word| text.contains(word)))
}

/// `GROUP/RESOURCE/NAMESPACE/NAME`; the core group is `core`, cluster-scoped objects have an
/// empty namespace.
pub fn key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}/{resource}/{namespace}/{name}")
}

/// The prefix of all keys of a resource, or of its part in one namespace.
pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    if namespace.is_empty() {
        format!("{group}/{resource}/")
    } else {
        format!("{group}/{resource}/{namespace}/")
    }
}

const METADATA: &[u8] = b"\"metadata\":{";

/// An object as stored: `apiVersion`, `kind` and `metadata` first, no `resourceVersion`.
pub fn encode(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    let Some(fields) = object.as_object() else { return b"{}".to_vec() };
    for first in ["apiVersion", "kind"] {
        if let Some(value) = fields.get(first) {
            push_field(&mut out, first, value);
        }
    }
    push_metadata(&mut out, fields.get("metadata"));
    for (name, value) in fields {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            push_field(&mut out, name, value);
        }
    }
    out.push(b'}');
    out
}

fn push_metadata(out: &mut Vec<u8>, metadata: Option<&Value>) {
    push_name(out, "metadata");
    out.push(b'{');
    for (name, value) in metadata.and_then(Value::as_object).into_iter().flatten() {
        if name != "resourceVersion" {
            push_field(out, name, value);
        }
    }
    out.push(b'}');
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &Value) {
    push_name(out, name);
    serde_json::to_writer(&mut *out, value).expect("a JSON value serializes");
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name).expect("a string serializes");
    out.push(b':');
}

/// Writes the stored bytes with `resourceVersion` put in its place.
pub fn write_with_revision(out: &mut Vec<u8>, stored: &[u8], revision: u64) {
    let Some(at) = find(stored, METADATA) else {
        out.extend_from_slice(stored);
        return;
    };
    let (head, tail) = stored.split_at(at + METADATA.len());
    out.extend_from_slice(head);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if tail.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
}

/// As [`write_with_revision`], without `apiVersion` and `kind`: an item of a typed list.
pub fn write_item(out: &mut Vec<u8>, stored: &[u8], revision: u64) {
    let Some(at) = find(stored, METADATA) else {
        out.extend_from_slice(stored);
        return;
    };
    out.push(b'{');
    write_with_revision(out, &stored[at..], revision);
}

/// The record as the API shows it, in bytes.
pub fn bytes(record: &mvcc::Record) -> Bytes {
    bytes_at(record, record.mod_revision)
}

/// The record's object, shown as of another revision (the one at which it was deleted).
pub fn bytes_at(record: &mvcc::Record, revision: u64) -> Bytes {
    let mut out = Vec::with_capacity(record.value.len() + 40);
    write_with_revision(&mut out, &record.value, revision);
    out.into()
}

/// The record as a value, with its `resourceVersion`.
pub fn decode(record: &mvcc::Record) -> Value {
    let mut object: Value =
        serde_json::from_slice(&record.value).expect("only valid JSON is ever stored");
    object["metadata"]["resourceVersion"] = record.mod_revision.to_string().into();
    object
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_is_put_into_the_objects_own_metadata() {
        let object = json!({
            "kind": "ControllerRevision", "apiVersion": "apps/v1",
            "data": {"metadata": {"x": 1}}, "metadata": {"name": "a", "resourceVersion": "7"},
        });
        let stored = encode(&object);
        assert!(!String::from_utf8_lossy(&stored).contains("resourceVersion"));
        let mut shown = Vec::new();
        write_with_revision(&mut shown, &stored, 9);
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown["metadata"]["resourceVersion"], "9");
        assert_eq!(shown["data"], object["data"]);
    }

    #[tokio::test]
    async fn a_shared_object_is_the_one_that_is_stored() {
        let store = mvcc::Store::memory();
        let reader = Reader::new(store.clone());
        let found = || reader.shared("", "namespaces", "", "a").map(|it| it["x"].clone());
        let key = key("", "namespaces", "", "a");
        for number in 0..3 {
            let value = encode(&json!({"metadata": {}, "x": number}));
            let revision = store.get(&key).map(|it| it.mod_revision);
            let txn = match revision {
                None => mvcc::Txn::create(&*key, value),
                Some(revision) => mvcc::Txn::update(&*key, revision, value),
            };
            store.commit(txn).await.unwrap();
            assert_eq!([found(), found()], [Some(json!(number)), Some(json!(number))]);
        }
        let revision = store.get(&key).unwrap().mod_revision;
        store.commit(mvcc::Txn::delete(&*key, revision)).await.unwrap();
        assert_eq!(found(), None);
    }

    #[tokio::test]
    async fn a_short_list_is_decoded_once_and_tells_of_every_change() {
        let store = mvcc::Store::memory();
        let reader = Reader::new(store.clone());
        let names = || -> Vec<Value> {
            let all = reader.shared_list("", "limitranges", "a");
            all.iter().map(|it| it["metadata"]["name"].clone()).collect()
        };
        for count in 1..=SHORT + 2 {
            let name = format!("l{count:02}");
            let object = json!({ "metadata": { "name": name } });
            let key = key("", "limitranges", "a", &name);
            store.commit(mvcc::Txn::create(key, encode(&object))).await.unwrap();
            assert_eq!(names().len(), count);
            let [once, again] = [(); 2].map(|()| reader.shared_list("", "limitranges", "a"));
            assert_eq!(Arc::ptr_eq(&once[0], &again[0]), count <= SHORT);
        }
        let last = key("", "limitranges", "a", "l01");
        let revision = store.get(&last).unwrap().mod_revision;
        store.commit(mvcc::Txn::delete(&*last, revision)).await.unwrap();
        assert_eq!(names()[0], "l02");
    }

    #[test]
    fn empty_metadata_still_gets_its_revision() {
        let mut shown = Vec::new();
        write_with_revision(&mut shown, &encode(&json!({"kind": "X"})), 3);
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown["metadata"], json!({"resourceVersion": "3"}));
    }
}
