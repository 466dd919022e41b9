//! How full a CSI volume is, as its driver says. Asked at most once a minute, as upstream does: also a driver
//! that does not say it, or that hangs.

use std::{collections::HashMap, path::Path, time::Duration};

use api_csi::v1::{self, volume_usage::Unit};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::{Csi, CsiVolume};

pub(crate) const FRESH: Duration = Duration::from_secs(60);
/// A driver that hangs does not hold up the summary of the whole node.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Bytes and inodes of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeStats {
    pub available_bytes: i64,
    pub capacity_bytes: i64,
    pub used_bytes: i64,
    pub inodes: i64,
    pub inodes_free: i64,
    pub inodes_used: i64,
    /// The driver says that something is wrong with the volume.
    pub abnormal: Option<bool>,
}

/// By the volume's place: when it was asked for, and what was said.
pub(super) type Kept = Mutex<HashMap<String, (Instant, Option<VolumeStats>)>>;

fn from_reply(reply: &v1::NodeGetVolumeStatsResponse) -> VolumeStats {
    let mut stats = VolumeStats {
        abnormal: reply.volume_condition.as_ref().map(|it| it.abnormal),
        ..VolumeStats::default()
    };
    for it in &reply.usage {
        match Unit::try_from(it.unit) {
            Ok(Unit::Bytes) => {
                stats.available_bytes = it.available;
                stats.capacity_bytes = it.total;
                stats.used_bytes = it.used;
            }
            Ok(Unit::Inodes) => {
                stats.inodes_free = it.available;
                stats.inodes = it.total;
                stats.inodes_used = it.used;
            }
            _ => {}
        }
    }
    stats
}

impl Csi {
    pub(crate) async fn stats(&self, volume: &CsiVolume, path: &Path) -> Option<VolumeStats> {
        let place = path.display().to_string();
        let kept = self.stats.lock().get(&place).cloned();
        if let Some((at, stats)) = kept
            && at.elapsed() < FRESH
        {
            return stats;
        }
        let asked = tokio::time::timeout(LIMIT, self.ask_stats(volume, &place)).await;
        let stats = asked.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
        let stats = stats.unwrap_or_else(|error| {
            debug!(driver = volume.driver, error, "no statistics of a volume");
            None
        });
        let mut kept = self.stats.lock();
        kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        kept.insert(place, (Instant::now(), stats.clone()));
        stats
    }

    async fn ask_stats(
        &self,
        volume: &CsiVolume,
        place: &str,
    ) -> Result<Option<VolumeStats>, String> {
        let driver = self.driver(&volume.driver).map_err(|it| it.to_string())?;
        let capabilities = driver.capabilities().await.map_err(|it| it.to_string())?;
        if !capabilities.has_stats {
            return Ok(None);
        }
        let staging = self.layout.staging(volume).path.display().to_string();
        let request = v1::NodeGetVolumeStatsRequest {
            volume_id: volume.handle.clone(),
            volume_path: place.to_owned(),
            staging_target_path: if capabilities.stages { staging } else { String::new() },
        };
        let reply = driver.stats(request).await.map_err(|it| it.to_string())?;
        Ok(Some(from_reply(&reply)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_inodes_are_told_apart_and_the_unknown_is_left_out() {
        let of =
            |unit: Unit, total| v1::VolumeUsage { total, unit: unit as i32, ..Default::default() };
        let reply = v1::NodeGetVolumeStatsResponse {
            usage: vec![of(Unit::Bytes, 10), of(Unit::Inodes, 20), of(Unit::Unknown, 30)],
            volume_condition: None,
        };
        let stats = from_reply(&reply);
        assert_eq!((stats.capacity_bytes, stats.inodes, stats.abnormal), (10, 20, None));
    }
}
