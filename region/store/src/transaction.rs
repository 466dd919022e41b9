//! Several writes that become durable together.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use crate::{Bucket, CommitError, Value, disk::Disk};

/// What one transaction has written so far. It reads its own writes.
#[derive(Default)]
pub struct Transaction {
    /// (bucket, key) → the new value, or `None` for a deletion.
    writes: BTreeMap<(Arc<str>, String), Write>,
}

struct Write {
    value: Option<Arc<dyn Any + Send + Sync>>,
    bytes: Option<Result<Vec<u8>, serde_json::Error>>,
    publish: Box<dyn FnOnce() + Send>,
}

impl Transaction {
    pub fn get<T: Value>(&self, bucket: &Bucket<T>, key: &str) -> Option<Arc<T>> {
        match self.writes.get(&(bucket.name.clone(), key.to_owned())) {
            None => bucket.get(key),
            Some(write) => write.value.clone().and_then(|it| it.downcast::<T>().ok()),
        }
    }

    /// All values as they will be after this transaction, in the order of their keys.
    pub fn list<T: Value>(&self, bucket: &Bucket<T>) -> Vec<Arc<T>> {
        let mut values: BTreeMap<String, Arc<T>> = bucket.entries().into_iter().collect();
        for ((name, key), write) in &self.writes {
            if *name != bucket.name {
                continue;
            }
            match write.value.clone().and_then(|it| it.downcast::<T>().ok()) {
                Some(value) => values.insert(key.clone(), value),
                None => values.remove(key),
            };
        }
        values.into_values().collect()
    }

    pub fn put<T: Value>(&mut self, bucket: &Bucket<T>, key: impl Into<String>, value: T) {
        let (key, value) = (key.into(), Arc::new(value));
        let bytes = serde_json::to_vec(&*value);
        let publish = {
            let (values, key, value) = (bucket.values.clone(), key.clone(), value.clone());
            move || drop(values.write().insert(key, value))
        };
        let write = Write { value: Some(value), bytes: Some(bytes), publish: Box::new(publish) };
        self.writes.insert((bucket.name.clone(), key), write);
    }

    pub fn delete<T: Value>(&mut self, bucket: &Bucket<T>, key: &str) {
        let publish = {
            let (values, key) = (bucket.values.clone(), key.to_owned());
            move || drop(values.write().remove(&key))
        };
        let write = Write { value: None, bytes: None, publish: Box::new(publish) };
        self.writes.insert((bucket.name.clone(), key.to_owned()), write);
    }

    /// Writes a changed copy of the value, if there is one. Says whether there was.
    pub fn update<T: Value + Clone>(
        &mut self,
        bucket: &Bucket<T>,
        key: &str,
        change: impl FnOnce(&mut T),
    ) -> bool {
        let Some(current) = self.get(bucket, key) else { return false };
        let mut value = T::clone(&current);
        change(&mut value);
        self.put(bucket, key, value);
        true
    }

    /// Says whether there was something to commit.
    pub(crate) fn commit(self, disk: &mut Disk) -> Result<bool, CommitError> {
        if self.writes.is_empty() {
            return Ok(false);
        }
        let mut rows = Vec::new();
        let mut publish = Vec::new();
        for ((bucket, key), write) in self.writes {
            let bytes = write.bytes.transpose().map_err(|source| CommitError::Serialize {
                bucket: bucket.to_string(),
                key: key.clone(),
                source,
            })?;
            rows.push((bucket, key, bytes));
            publish.push(write.publish);
        }
        disk.store(&rows).map_err(|source| CommitError::Database { source })?;
        publish.into_iter().for_each(|publish| publish());
        Ok(true)
    }
}
