//! Uploads that nobody will end: their clients are gone, and their bytes are in the way.

use std::{fs, io, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::Ecr;

/// How long after its last part an upload can still go on.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const EVERY: Duration = Duration::from_secs(3600);

impl Ecr {
    /// Removes abandoned uploads and expired images now and then, until it is dropped.
    pub async fn keep_clean(self: Arc<Self>) {
        loop {
            let ecr = self.clone();
            let swept = tokio::task::spawn_blocking(move || ecr.remove_abandoned()).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!(%error, "abandoned uploads could not be removed");
            }
            if let Err(fault) = self.apply_lifecycles() {
                tracing::warn!(%fault, "lifecycle policies could not be applied");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn remove_abandoned(&self) -> io::Result<()> {
        let now = self.config.clock.now();
        for entry in fs::read_dir(self.blobs.uploads())? {
            let entry = entry?;
            let last = Timestamp::try_from(entry.metadata()?.modified()?);
            let is_old =
                last.is_ok_and(|it| now.duration_since(it).as_secs_f64() > KEPT.as_secs_f64());
            let name = entry.file_name();
            if let Some(upload) = name.to_str().filter(|_| is_old) {
                tracing::info!(upload, "an abandoned upload is removed");
                self.forget_upload(upload).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{names::RepositoryId, registry::testing::ecr};

    #[tokio::test]
    async fn an_upload_without_a_part_for_a_day_is_removed() {
        let (ecr, _folder) = ecr();
        let id = RepositoryId::new("111122223333.dkr.ecr.us-east-1.amazonaws.com", "team/app");
        let (old, new) = (ecr.begin_upload(&id).unwrap(), ecr.begin_upload(&id).unwrap());
        let file = File::options().write(true).open(ecr.blobs.upload(&old)).unwrap();
        let day = Duration::from_secs(24 * 3600 + 60);
        let then = std::time::SystemTime::from(ecr.config.clock.now() - day);
        file.set_modified(then).unwrap();
        ecr.remove_abandoned().unwrap();
        assert!(!ecr.blobs.upload(&old).exists());
        assert!(!ecr.catalog.uploads.contains(&old));
        assert!(ecr.blobs.upload(&new).exists());
        assert!(ecr.catalog.uploads.contains(&new));
    }
}
