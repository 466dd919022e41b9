//! The region's durable state: typed buckets of named values, transactions, a change feed.
//!
//! Values live in one file (redb) as JSON and in memory as they are, so reading is a lock and a
//! lookup, and writing is one synced commit, which keeps no other task of the runtime waiting. One
//! writer at a time: a transaction's checks and writes cannot be interleaved with another's.
//!
//! A database that has failed once, on a full disk above all, takes nothing more until it is opened
//! anew; the next transaction does that.
//!
//! **Invariant:** a value is visible to readers only after it is on disk, and what a transaction
//! wrote becomes durable as a whole or not at all.

mod blocking;
mod bucket;
mod disk;
mod transaction;

use std::{any::Any, collections::HashMap, path::Path, sync::Arc};

use aws_wire::{AwsError, StatusCode};
use parking_lot::{Mutex, RwLock};
use redb::TableDefinition;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use self::disk::Disk;
pub use self::{blocking::blocking, bucket::Bucket, transaction::Transaction};

/// (bucket, key) → JSON.
const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");

/// What can be kept in a [`Bucket`].
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    disk: Mutex<Disk>,
    writer: Mutex<()>,
    buckets: RwLock<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    #[error("failed to open the region's state in `{path}`")]
    Database {
        path: String,
        #[source]
        source: redb::Error,
    },
    #[error("failed to read bucket `{bucket}`")]
    Read {
        bucket: String,
        #[source]
        source: redb::Error,
    },
    #[error("`{key}` in bucket `{bucket}` is not readable by this version")]
    Value {
        bucket: String,
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("bucket `{bucket}` is already open with another type")]
    TypeMismatch { bucket: String },
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("`{key}` of bucket `{bucket}` cannot be written down")]
    Serialize {
        bucket: String,
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to commit to the region's state")]
    Database {
        #[source]
        source: redb::Error,
    },
}

impl AwsError for CommitError {
    fn code(&self) -> &'static str {
        "InternalFailure"
    }

    fn status(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

impl Store {
    /// Opens the file, or makes it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenStoreError> {
        let path = path.as_ref();
        let failed = |source: redb::DatabaseError| OpenStoreError::Database {
            path: path.display().to_string(),
            source: source.into(),
        };
        Ok(Self::over(Disk::open(path).map_err(failed)?))
    }

    /// A store that ends with the process, for tests.
    pub fn in_memory() -> Self {
        Self::over(Disk::in_memory())
    }

    fn over(disk: Disk) -> Self {
        Self(Arc::new(Inner {
            disk: Mutex::new(disk),
            writer: Mutex::new(()),
            buckets: RwLock::default(),
            revision: watch::Sender::new(0),
        }))
    }

    /// The bucket of this name. It is read from disk once, at the first call.
    pub fn bucket<T: Value>(&self, name: &str) -> Result<Bucket<T>, OpenStoreError> {
        let mut buckets = self.0.buckets.write();
        if let Some(known) = buckets.get(name) {
            let known = known.downcast_ref::<Bucket<T>>().cloned();
            return known.ok_or_else(|| OpenStoreError::TypeMismatch { bucket: name.to_owned() });
        }
        let bucket = Bucket::<T>::load(name, &mut self.0.disk.lock())?;
        buckets.insert(name.to_owned(), Arc::new(bucket.clone()));
        Ok(bucket)
    }

    /// Runs `change` alone, then commits what it wrote, unless it failed.
    ///
    /// `change` must not start another transaction.
    pub fn transaction<R, E: From<CommitError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let (result, has_written) = self.commit(change)?;
        if has_written {
            self.0.revision.send_modify(|it| *it += 1);
        }
        Ok(result)
    }

    /// The same for what no subscriber looks at: messages come by the hundred, and who waits for
    /// changes would look at everything for each of them.
    pub fn transaction_quietly<R, E: From<CommitError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        self.commit(change).map(|(result, _)| result)
    }

    fn commit<R, E: From<CommitError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
    ) -> Result<(R, bool), E> {
        blocking(|| {
            let _alone = self.0.writer.lock();
            let mut transaction = Transaction::default();
            let result = change(&mut transaction)?;
            let has_written = transaction.commit(&mut self.0.disk.lock())?;
            Ok((result, has_written))
        })
    }

    /// Sees a new number after every transaction that wrote something.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }
}

#[cfg(test)]
mod tests;
