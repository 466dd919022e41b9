//! The keys of a cluster's service-account tokens on disk, and their rotation: every seven days by
//! the clock, as EKS does.
//!
//! A folder holds one file per key, named by the second from which on it signs. A cluster of an older
//! region has one key in `sa.key`, which becomes the first. The tokens that Secrets hold have a key of
//! their own, `sa-legacy.key`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clock::Clock;
use jiff::Timestamp;
use kube_apiserver::authn::SigningKeys;
use pki::{DatedKey, KeyRing, ServiceAccountKey};

use super::files;

const FOLDER: &str = "sa-keys";
const OLDER: &str = "sa.key";
const LEGACY: &str = "sa-legacy.key";
/// How often the date is looked at: the host's clock may be set at any time.
const PERIOD: Duration = Duration::from_secs(600);

/// See the module.
pub(crate) struct KeyFolder {
    folder: PathBuf,
    ring: KeyRing,
    keys: SigningKeys,
}

impl KeyFolder {
    /// Reads the keys of the cluster in `folder`, and makes the first one where there is none.
    pub(crate) fn open(folder: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let (older, folder) = (folder.join(OLDER), folder.join(FOLDER));
        if older.exists() {
            let key = ServiceAccountKey::from_pem(&files::read(&older)?)?;
            files::secret(&file(&folder, now), key.private_pem())?;
            fs::remove_file(&older)?;
        }
        let ring = KeyRing::new(read(&folder)?);
        let mut these = Self { folder, ring, keys: SigningKeys::default() };
        these.pass(now)?;
        Ok(these)
    }

    /// What the API server signs with. A rotation changes it.
    pub(crate) fn keys(&self) -> SigningKeys {
        self.keys.clone()
    }

    /// Rotates for ever.
    pub(crate) async fn rotate(mut self, clock: Clock) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = clock.now();
            // Making an RSA key takes a while.
            let passed = tokio::task::spawn_blocking(move || {
                let result = self.pass(now);
                (self, result)
            });
            let Ok((these, result)) = passed.await else { return };
            self = these;
            if let Err(error) = result {
                tracing::error!(error = format!("{error:#}"), "signing keys are not rotated");
            }
        }
    }

    /// Makes the next key if it is time, drops those that nobody needs, and shows the result.
    fn pass(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if let Some(since) = self.ring.due(now) {
            let key = ServiceAccountKey::generate()?;
            files::secret(&file(&self.folder, since), key.private_pem())?;
            tracing::info!(key = key.key_id(), %since, "a new key for service-account tokens");
            self.ring.add(DatedKey { since, key });
        }
        for old in self.ring.retire(now) {
            let path = file(&self.folder, old.since);
            fs::remove_file(&path)
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
        self.keys.replace(self.ring.at(now));
        Ok(())
    }
}

/// The key of the tokens that Secrets hold. They have no end, so it is never another one.
pub(crate) fn legacy_key(folder: &Path) -> anyhow::Result<ServiceAccountKey> {
    let path = folder.join(LEGACY);
    if path.exists() {
        return Ok(ServiceAccountKey::from_pem(&files::read(&path)?)?);
    }
    let key = ServiceAccountKey::generate()?;
    files::secret(&path, key.private_pem())?;
    Ok(key)
}

fn file(folder: &Path, since: Timestamp) -> PathBuf {
    folder.join(format!("{}.key", since.as_second()))
}

fn read(folder: &Path) -> anyhow::Result<Vec<DatedKey>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let Some(since) = name.strip_suffix(".key").and_then(|it| it.parse().ok()) else {
            continue;
        };
        let since = Timestamp::from_second(since)?;
        keys.push(DatedKey { since, key: ServiceAccountKey::from_pem(&files::read(&path)?)? });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn ids(keys: &SigningKeys) -> Vec<String> {
        keys.get().iter().map(|it| it.key_id().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_week_later_another_key_signs_and_the_old_one_is_still_published() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let opened = KeyFolder::open(folder.path(), clock.now()).unwrap();
        let keys = opened.keys();
        let first = ids(&keys);
        assert_eq!(first.len(), 1);
        let scope = lifecycle::Scope::new();
        drop(scope.spawn("rotation", opened.rotate(clock)));
        tokio::time::sleep(DAY * 5).await;
        assert_eq!(ids(&keys), first);
        // Published a day before it signs.
        tokio::time::sleep(DAY + PERIOD * 2).await;
        let published = ids(&keys);
        assert_eq!((published.len(), &published[0]), (2, &first[0]));
        tokio::time::sleep(DAY).await;
        assert_eq!(ids(&keys), [published[1].clone(), published[0].clone()]);
        // Whoever starts anew finds the same.
        scope.drain(Duration::from_secs(1)).await;
        let again = KeyFolder::open(folder.path(), clock.now()).unwrap();
        assert_eq!(ids(&again.keys()), ids(&keys));
    }

    #[test]
    fn a_key_that_nobody_needs_leaves_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut opened = KeyFolder::open(folder.path(), now).unwrap();
        let first = ids(&opened.keys());
        opened.pass(now + DAY * 7).unwrap();
        let count = || fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(count(), 2);
        opened.pass(now + DAY * 120).unwrap();
        assert!(!ids(&opened.keys()).contains(&first[0]));
        assert_eq!(count(), opened.keys().get().len());
    }

    #[test]
    fn the_key_of_tokens_in_secrets_is_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let key = legacy_key(folder.path()).unwrap();
        assert_eq!(legacy_key(folder.path()).unwrap().key_id(), key.key_id());
    }

    #[test]
    fn the_key_of_an_older_region_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let key = ServiceAccountKey::generate().unwrap();
        fs::write(folder.path().join(OLDER), key.private_pem()).unwrap();
        let now = Timestamp::UNIX_EPOCH + DAY * 9;
        let opened = KeyFolder::open(folder.path(), now).unwrap();
        assert_eq!(ids(&opened.keys()), [key.key_id()]);
        assert!(!folder.path().join(OLDER).exists());
    }
}
