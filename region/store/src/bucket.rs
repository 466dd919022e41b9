//! A named map of values, in memory and on disk.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, TableError};

use crate::{OpenStoreError, VALUES, Value, disk::Disk};

/// Reads are synchronous and see committed values only; writes go through a
/// [`Transaction`](crate::Transaction). Clones share the values.
pub struct Bucket<T> {
    pub(crate) name: Arc<str>,
    pub(crate) values: Arc<RwLock<BTreeMap<String, Arc<T>>>>,
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), values: self.values.clone() }
    }
}

impl<T: Value> Bucket<T> {
    pub(crate) fn load(name: &str, disk: &mut Disk) -> Result<Self, OpenStoreError> {
        let stored = disk
            .database()
            .and_then(|it| read(name, it))
            .map_err(|source| OpenStoreError::Read { bucket: name.to_owned(), source })?;
        let mut values = BTreeMap::new();
        for (key, bytes) in stored {
            let value = serde_json::from_slice(&bytes).map_err(|source| OpenStoreError::Value {
                bucket: name.to_owned(),
                key: key.clone(),
                source,
            })?;
            values.insert(key, Arc::new(value));
        }
        Ok(Self { name: name.into(), values: Arc::new(RwLock::new(values)) })
    }

    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.values.read().get(key).cloned()
    }

    pub fn contains(&self, key: &str) -> bool {
        self.values.read().contains_key(key)
    }

    /// All values, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.values.read().values().cloned().collect()
    }

    /// All values with their keys, in the order of these.
    pub fn entries(&self) -> Vec<(String, Arc<T>)> {
        self.values.read().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The values whose keys begin with `prefix`.
    pub fn under(&self, prefix: &str) -> Vec<(String, Arc<T>)> {
        let values = self.values.read();
        let from =
            values.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Looks at the values whose keys begin with `prefix`, in the order of these, until told to stop.
    /// Nothing is copied: there may be very many.
    pub fn visit(&self, prefix: &str, mut look: impl FnMut(&str, &Arc<T>) -> ControlFlow<()>) {
        let values = self.values.read();
        let from =
            values.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            if look(key, value).is_break() {
                return;
            }
        }
    }

    /// The first value, in the order of keys, for which `test` holds.
    pub fn find(&self, mut test: impl FnMut(&T) -> bool) -> Option<Arc<T>> {
        self.values.read().values().find(|it| test(it)).cloned()
    }

    pub fn len(&self) -> usize {
        self.values.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.read().is_empty()
    }
}

fn read(name: &str, database: &Database) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(VALUES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in table.range((name, "")..)? {
        let (key, value) = entry?;
        let (bucket, key) = key.value();
        if bucket != name {
            break;
        }
        found.push((key.to_owned(), value.value().to_vec()));
    }
    Ok(found)
}
