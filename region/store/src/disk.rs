//! The database file, opened anew after it has failed.
//!
//! **Invariant:** what was answered as failed is not there afterwards, even if it got to the disk.

use std::{
    fs, io, mem,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, DatabaseError, Error, backends::InMemoryBackend};

use crate::VALUES;

/// Everything is in memory already, so the database needs little.
const CACHE: usize = 4 << 20;

/// (bucket, key) and the value, or `None` for its absence.
pub(crate) type Row = (Arc<str>, String, Option<Vec<u8>>);

/// See the module.
pub(crate) struct Disk {
    /// `None`: in memory.
    path: Option<PathBuf>,
    /// `None` after a failure.
    database: Option<Database>,
    /// What the rows of the transaction that failed were before.
    undo: Vec<Row>,
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        if !path.exists() {
            make(path)?;
        }
        let database = Some(open(path)?);
        Ok(Self { path: Some(path.to_owned()), database, undo: Vec::new() })
    }

    pub(crate) fn in_memory() -> Self {
        let database = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .expect("a new database in memory has nothing to fail on");
        Self { path: None, database: Some(database), undo: Vec::new() }
    }

    pub(crate) fn database(&mut self) -> Result<&Database, Error> {
        if self.database.is_none()
            && let Some(path) = &self.path
        {
            let database = open(path)?;
            store(&database, &self.undo, &mut Vec::new())?;
            self.undo.clear();
            self.database = Some(database);
        }
        self.database.as_ref().ok_or(Error::PreviousIo)
    }

    /// One durable transaction.
    pub(crate) fn store(&mut self, rows: &[Row]) -> Result<(), Error> {
        let mut before = Vec::with_capacity(rows.len());
        let stored = store(self.database()?, rows, &mut before);
        if stored.is_err() {
            drop(mem::take(&mut self.database));
            self.undo = before;
        }
        stored
    }
}

/// Makes the file, under another name until it is whole: one that the power left half made could not
/// be opened any more.
fn make(path: &Path) -> Result<(), DatabaseError> {
    let failed = |error: io::Error| DatabaseError::Storage(error.into());
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The account's secrets are in it.
    let mut file = fs::File::options();
    let file = file.read(true).write(true).create_new(true).mode(0o600).open(&new);
    let file = file.map_err(failed)?;
    drop(open(&new)?);
    file.sync_all().map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|it| it.sync_all()).map_err(failed)
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

/// Notes in `before` what the rows were.
fn store(database: &Database, rows: &[Row], before: &mut Vec<Row>) -> Result<(), Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(VALUES)?;
        for (bucket, key, bytes) in rows {
            let place = (&**bucket, key.as_str());
            let old = match bytes {
                Some(bytes) => table.insert(place, bytes.as_slice())?,
                None => table.remove(place)?,
            };
            before.push((bucket.clone(), key.clone(), old.map(|it| it.value().to_vec())));
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{CommitError, Store, Transaction};

    fn put(store: &Store, key: &str, size: usize) -> Result<(), CommitError> {
        let bucket = store.bucket::<String>("things").unwrap();
        store.transaction(|it: &mut Transaction| {
            it.put(&bucket, key, "x".repeat(size));
            Ok(())
        })
    }

    #[test]
    fn after_a_full_disk_it_goes_on_and_what_failed_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        if linux_mount::tmpfs(folder.path(), "size=8m").is_err() {
            eprintln!("not run: it takes root");
            return;
        }
        let (file, filler) = (folder.path().join("region.redb"), folder.path().join("filler"));
        let store = Store::open(&file).unwrap();
        put(&store, "before", 10).unwrap();
        assert!(fs::write(&filler, vec![0; 16 << 20]).is_err(), "the disk is full");
        let failed = put(&store, "failed", 4 << 20).unwrap_err();
        assert!(matches!(failed, CommitError::Database { .. }), "{failed}");
        fs::remove_file(&filler).unwrap();
        put(&store, "after", 10).unwrap();
        drop(store);

        let store = Store::open(&file).unwrap();
        let bucket = store.bucket::<String>("things").unwrap();
        let keys: Vec<_> = bucket.entries().into_iter().map(|(key, _)| key).collect();
        drop(store);
        linux_mount::unmount_tree(folder.path()).unwrap();
        assert_eq!(keys, ["after", "before"]);
    }
}
