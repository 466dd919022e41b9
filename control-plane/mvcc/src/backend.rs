//! The log on disk: one redb table of records by revision, as etcd keeps them.
//!
//! A commit appends; nothing is rewritten. Compaction removes superseded records in the same
//! transaction that moves the compacted revision, so that after any crash the records at or below
//! it are exactly the ones that are still current (and tombstones' predecessors are gone).
//!
//! A database that has failed once, on a full disk above all, takes nothing more until it is opened
//! anew. The next append does that, and first removes what was answered as failed and may be on disk
//! all the same.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{Event, Record, state::State};

/// Key: revision, and place in the commit. Value: see [`encode`].
const LOG: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";

const TOMBSTONE: u64 = 0;

/// The log's own cache: reads come from memory, so only the tree's upper pages matter.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("failed to open the store at `{path}`")]
    Database {
        path: String,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("the store holds a log entry at revision {revision} that cannot be read")]
    Entry { revision: u64 },
    #[error("failed to start the store's writer")]
    Thread(#[from] io::Error),
}

/// Why a batch could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error("failed to append to the store's log")]
pub struct AppendError {
    #[source]
    source: Box<redb::Error>,
}

impl<E: Into<redb::Error>> From<E> for AppendError {
    fn from(source: E) -> Self {
        Self { source: Box::new(source.into()) }
    }
}

#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    /// `None` after a failure.
    database: Option<Database>,
}

fn open(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
}

/// Makes the file, under another name until it is whole: one that the power left half made could not
/// be opened any more.
fn make(path: &Path) -> Result<(), redb::Error> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Secrets are in it: nobody but the owner may read it, at no time.
    let mut file = fs::File::options();
    let file = file.read(true).write(true).create_new(true).mode(0o600).open(&new)?;
    drop(open(&new)?);
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::File::open(folder)?.sync_all()?)
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<(Self, State), OpenError> {
        let failed = |source: redb::Error| OpenError::Database {
            path: path.display().to_string(),
            source: Box::new(source),
        };
        if !path.exists() {
            make(path).map_err(failed)?;
        }
        let database = open(path).map_err(|error| failed(error.into()))?;
        Self::over(database, path)
    }

    /// Over a database that was opened from `path`.
    pub(crate) fn over(database: Database, path: &Path) -> Result<(Self, State), OpenError> {
        let failed = |error: AppendError| OpenError::Database {
            path: path.display().to_string(),
            source: error.source,
        };
        create_tables(&database).map_err(failed)?;
        let entries = read(&database).map_err(failed)?;
        let disk = Self { path: path.to_owned(), database: Some(database) };
        Ok((disk, replay(entries)?))
    }

    /// Whether the last append failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.database.is_none()
    }

    /// Makes a batch durable on top of what is `shown`, the revision that readers see.
    pub(crate) fn append(&mut self, batch: &Batch<'_>, shown: u64) -> Result<(), AppendError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => reopen(&self.path, shown)?,
        };
        append(&database, batch)?;
        self.database = Some(database);
        Ok(())
    }
}

/// Events to append, and what a compaction up to `compacted` (0: none) made useless.
pub(crate) struct Batch<'a> {
    pub(crate) events: &'a [Event],
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) garbage: &'a [(u64, u32)],
}

fn create_tables(database: &Database) -> Result<(), AppendError> {
    let write = database.begin_write()?;
    write.open_table(LOG)?;
    write.open_table(META)?;
    write.commit()?;
    Ok(())
}

fn read(database: &Database) -> Result<Entries, AppendError> {
    let read = database.begin_read()?;
    let meta = read.open_table(META)?;
    let value =
        |name: &str| -> Result<u64, AppendError> { Ok(meta.get(name)?.map_or(0, |it| it.value())) };
    let mut entries =
        Entries { revision: value(REVISION)?, compacted: value(COMPACTED)?, log: Vec::new() };
    for entry in read.open_table(LOG)?.iter()? {
        let (key, value) = entry?;
        entries.log.push((key.value(), value.value().to_vec()));
    }
    Ok(entries)
}

/// Opens after a failure: what nobody was shown is no part of the log.
fn reopen(path: &Path, shown: u64) -> Result<Database, AppendError> {
    let database = open(path)?;
    let write = database.begin_write()?;
    write.open_table(LOG)?.retain_in((shown + 1, 0).., |_, _| false)?;
    write.commit()?;
    Ok(database)
}

/// One durable transaction.
fn append(database: &Database, batch: &Batch<'_>) -> Result<(), AppendError> {
    let write = database.begin_write()?;
    {
        let mut log = write.open_table(LOG)?;
        let mut place = (0, 0);
        for event in batch.events {
            place = if place.0 == event.revision {
                (event.revision, place.1 + 1)
            } else {
                (event.revision, 0)
            };
            log.insert(place, &*encode(event))?;
        }
        if batch.compacted > 0 {
            for place in batch.garbage {
                log.remove(place)?;
            }
            drop_tombstones(&mut log, batch.compacted)?;
            let mut meta = write.open_table(META)?;
            meta.insert(COMPACTED, batch.compacted)?;
            meta.insert(REVISION, batch.revision)?;
        }
    }
    write.commit()?;
    Ok(())
}

fn drop_tombstones(
    log: &mut redb::Table<'_, (u64, u32), &'static [u8]>,
    compacted: u64,
) -> Result<(), AppendError> {
    let end = (compacted + 1, 0);
    log.retain_in(..end, |_, value| !is_tombstone(value))?;
    Ok(())
}

struct Entries {
    revision: u64,
    compacted: u64,
    log: Vec<((u64, u32), Vec<u8>)>,
}

fn replay(entries: Entries) -> Result<State, OpenError> {
    let mut state = State::new();
    state.compacted = entries.compacted;
    for ((revision, index), bytes) in entries.log {
        let entry = decode(bytes).ok_or(OpenError::Entry { revision })?;
        let previous = state.current.get(&*entry.key).cloned();
        let key: Arc<str> = match &previous {
            Some(previous) => previous.key.clone(),
            None => entry.key.into(),
        };
        let record = entry
            .value
            .map(|value| Arc::new(Record::new(key.clone(), value, entry.created, revision, index)));
        state.apply(Event { revision, key, record, previous });
    }
    state.revision = state.revision.max(entries.revision);
    Ok(state)
}

/// Create revision (0 for a tombstone), length of the key, key, value.
fn encode(event: &Event) -> Vec<u8> {
    let (created, value) =
        event.record.as_ref().map_or((TOMBSTONE, &[][..]), |it| (it.create_revision, &it.value));
    let mut out = Vec::with_capacity(12 + event.key.len() + value.len());
    out.extend_from_slice(&created.to_le_bytes());
    let length = u32::try_from(event.key.len()).expect("a key is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(event.key.as_bytes());
    out.extend_from_slice(value);
    out
}

fn is_tombstone(entry: &[u8]) -> bool {
    entry.starts_with(&TOMBSTONE.to_le_bytes())
}

struct Entry {
    key: String,
    created: u64,
    value: Option<Bytes>,
}

fn decode(bytes: Vec<u8>) -> Option<Entry> {
    let (created, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let key = String::from_utf8(rest.get(..length)?.to_vec()).ok()?;
    let created = u64::from_le_bytes(*created);
    let start = 12 + length;
    let value = (created != TOMBSTONE).then(|| Bytes::from(bytes).slice(start..));
    Some(Entry { key, created, value })
}
