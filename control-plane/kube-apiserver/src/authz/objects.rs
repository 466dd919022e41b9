//! What authentication, authorization, admission and the proxies read of the stored objects.
//!
//! The registry implements it over its memory; reads are synchronous and see every write that was
//! acknowledged before them, or a deleted pod's token would live on.

use std::sync::Arc;

use serde_json::Value;

use crate::registry::Reader;

/// Stored objects, as JSON, by `pods` or `roles.rbac.authorization.k8s.io`.
pub trait Objects: Send + Sync + 'static {
    /// `namespace` is empty for cluster-scoped resources.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;

    /// An empty `namespace` means all of them.
    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>>;

    /// Whether there is such an object among those of [`Objects::list`] in whose text all `words`
    /// occur: what one looks for among thousands need not be decoded for all of them.
    fn any_mentioning(
        &self,
        resource: &str,
        namespace: &str,
        words: &[&str],
        is_it: &mut dyn FnMut(&Value) -> bool,
    ) -> bool {
        let _ = words;
        self.list(resource, namespace).iter().any(|it| is_it(it))
    }

    /// The revision of the newest change to any object of the resource (deletions included).
    /// Equal revisions mean equal lists.
    fn revision(&self, resource: &str) -> u64;
}

impl Objects for Reader {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        self.shared(group, resource, namespace, name)
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        self.shared_list(group, resource, namespace)
    }

    fn any_mentioning(
        &self,
        resource: &str,
        namespace: &str,
        words: &[&str],
        is_it: &mut dyn FnMut(&Value) -> bool,
    ) -> bool {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Self::any_mentioning(self, (group, resource, namespace), words, is_it)
    }

    fn revision(&self, resource: &str) -> u64 {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Self::revision(self, group, resource)
    }
}

/// `value.at("/spec/nodeName")` as text, or the empty string.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The array at `pointer`, or nothing.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Objects in a map, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicU64, Ordering},
    };

    use parking_lot::Mutex;

    use super::*;

    type Key = (String, String, String);

    #[derive(Default)]
    pub(crate) struct Memory {
        objects: Mutex<BTreeMap<Key, Arc<Value>>>,
        revision: AtomicU64,
    }

    impl Memory {
        pub(crate) fn with(objects: &[(&str, Value)]) -> Arc<Self> {
            let memory = Self::default();
            objects.iter().for_each(|(resource, object)| memory.put(resource, object.clone()));
            Arc::new(memory)
        }

        pub(crate) fn put(&self, resource: &str, object: Value) {
            let key = (
                resource.to_owned(),
                text(&object, "/metadata/namespace").to_owned(),
                text(&object, "/metadata/name").to_owned(),
            );
            self.objects.lock().insert(key, Arc::new(object));
            self.revision.fetch_add(1, Ordering::Relaxed);
        }

        pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
            self.objects.lock().remove(&(resource.into(), namespace.into(), name.into()));
            self.revision.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Objects for Memory {
        fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
            let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
            self.objects.lock().get(&key).cloned()
        }

        fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
            let objects = self.objects.lock();
            let found = objects.iter().filter(|((it, inside, _), _)| {
                it == resource && (namespace.is_empty() || inside == namespace)
            });
            found.map(|(_, object)| object.clone()).collect()
        }

        fn revision(&self, _: &str) -> u64 {
            self.revision.load(Ordering::Relaxed)
        }
    }
}
