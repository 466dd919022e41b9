//! Takes volumes away from pods, and from the node when the last pod has gone.
//!
//! Upstream: `TearDownAt` in `csi_mounter.go`, `UnmountDevice` in `csi_attacher.go`, `csi_block.go`.

use std::{fs, io, path::Path, time::Duration};

use api_csi::v1;
use tracing::{debug, warn};

use super::{
    Csi, NoDriver, RpcError,
    data::FILE,
    layout::{Staged, Target, remove_left},
};
use crate::pod::PodUid;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(122);

#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpublishError {
    #[error("kubernetes.io/csi: Unmounter.TearDownAt failed to get CSI client: {0}")]
    NoDriver(#[from] NoDriver),
    #[error("kubernetes.io/csi: Unmounter.TearDownAt failed: {0}")]
    Driver(#[from] RpcError),
    #[error("kubernetes.io/csi: failed to clean up: {0}")]
    Clean(#[from] io::Error),
}

impl Csi {
    /// Takes all volumes of a pod away; the first failure is told, the others are tried none the less.
    pub(crate) async fn unpublish_all(&self, uid: &PodUid) -> Result<(), UnpublishError> {
        let mut result = Ok(());
        for target in self.layout.targets(uid) {
            let done = self.unpublish(&target).await;
            if let Err(error) = done
                && result.is_ok()
            {
                result = Err(error);
            }
        }
        result
    }

    async fn unpublish(&self, target: &Target) -> Result<(), UnpublishError> {
        let key = match self.layout.load(target) {
            Ok(key) => key,
            // Without a file nothing was asked of a driver.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                remove_left(&target.path)?;
                return Ok(self.unrecord_checked(target)?);
            }
            Err(error) => return Err(error.into()),
        };
        let _lock = self.lock(&key).await;
        let driver = self.driver(&key.driver)?;
        self.published.lock().remove(&target.path);
        let target_path = target.path.display().to_string();
        let request = v1::NodeUnpublishVolumeRequest { volume_id: key.handle.clone(), target_path };
        driver.unpublish(request).await?;
        remove_left(&target.path)?;
        self.unrecord_checked(target)?;
        self.unused.notify_one();
        self.changes.send_replace(());
        Ok(())
    }

    pub(super) fn unrecord(&self, target: &Target) {
        if let Err(error) = self.unrecord_checked(target) {
            debug!(%error, "the record of a volume was not removed");
        }
    }

    fn unrecord_checked(&self, target: &Target) -> io::Result<()> {
        if target.is_block {
            return remove_left(&target.record);
        }
        remove_left(&target.record.join(FILE))?;
        remove_left(&target.record)
    }

    /// Unstages what no pod of this node uses any more, for ever: when a pod has let go of something,
    /// and what did not work again later.
    pub(crate) async fn unstage_unused(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let is_clean = self.sweep().await;
            if is_clean {
                retry = FIRST_RETRY;
                self.unused.notified().await;
            } else {
                drop(tokio::time::timeout(retry, self.unused.notified()).await);
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }

    /// Says whether nothing is left to do.
    async fn sweep(&self) -> bool {
        let mut is_clean = true;
        for staged in self.layout.staged() {
            if self.layout.has_users(&staged) {
                continue;
            }
            if let Err(error) = self.unstage(&staged).await {
                is_clean = false;
                let (driver, handle) = (&staged.key.driver, &staged.key.handle);
                warn!(driver, handle, %error, "UnmountVolume.UnmountDevice failed");
            }
        }
        is_clean
    }

    async fn unstage(&self, staged: &Staged) -> Result<(), UnpublishError> {
        let _lock = self.lock(&staged.key).await;
        // A pod may have come while we waited.
        if self.layout.has_users(staged) || !staged.place.data.exists() {
            return Ok(());
        }
        let driver = self.driver(&staged.key.driver)?;
        if driver.capabilities().await?.stages {
            let request = v1::NodeUnstageVolumeRequest {
                volume_id: staged.key.handle.clone(),
                staging_target_path: staged.place.path.display().to_string(),
            };
            driver.unstage(request).await?;
        }
        remove_left(&staged.place.path)?;
        remove_left(&staged.place.data.join(FILE))?;
        remove_left(&staged.place.data)?;
        self.in_use.set_staged(&staged.key.unique_name(), false);
        // The driver's or the volume's folder, if this was the last one in it.
        remove_empty(staged.place.data.parent());
        if let Some(name) = &staged.place.block {
            let publish =
                staged.place.data.ancestors().nth(2).map(|it| it.join("publish").join(name));
            remove_empty(publish.as_deref());
        }
        Ok(())
    }
}

fn remove_empty(folder: Option<&Path>) {
    if let Some(folder) = folder {
        drop(fs::remove_dir(folder));
    }
}
