//! Amazon's EKS-optimized images, one per Kubernetes version and release.
//!
//! All of them boot the same root file system here; the Kubernetes version in the name is what
//! clients choose by. Deviation: release dates are ours, and only x86-64 is there.

use jiff::{Timestamp, civil::Date};
use sha2::{Digest, Sha256};

use crate::{
    Call,
    records::{Image, Tags},
    state::State,
};

/// The account that owns EKS's images.
const OWNER: &str = "602401143452";

/// One release of the AL2023 image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmiRelease {
    /// `1.36`.
    pub kubernetes: &'static str,
    /// `1.36.2`.
    pub patch: &'static str,
    pub date: (i16, i8, i8),
}

/// Oldest first for each version; the last one is recommended.
const RELEASES: [AmiRelease; 6] = [
    AmiRelease { kubernetes: "1.34", patch: "1.34.6", date: (2026, 11, 6) },
    AmiRelease { kubernetes: "1.35", patch: "1.35.4", date: (2026, 10, 23) },
    AmiRelease { kubernetes: "1.35", patch: "1.35.4", date: (2026, 11, 6) },
    AmiRelease { kubernetes: "1.36", patch: "1.36.1", date: (2026, 10, 9) },
    AmiRelease { kubernetes: "1.36", patch: "1.36.2", date: (2026, 10, 23) },
    AmiRelease { kubernetes: "1.36", patch: "1.36.2", date: (2026, 11, 6) },
];

/// All releases.
pub fn releases() -> &'static [AmiRelease] {
    &RELEASES
}

impl AmiRelease {
    fn stamp(&self) -> String {
        let (year, month, day) = self.date;
        format!("{year:04}{month:02}{day:02}")
    }

    /// `1.36.2-20261106`, as node groups show it.
    pub fn release_version(&self) -> String {
        format!("{}-{}", self.patch, self.stamp())
    }

    /// `amazon-eks-node-al2023-x86_64-standard-1.36-v20261106`.
    pub fn name(&self) -> String {
        format!("amazon-eks-node-al2023-x86_64-standard-{}-v{}", self.kubernetes, self.stamp())
    }

    /// Made from the name, so that it is the same in every region of ours.
    pub fn image_id(&self) -> String {
        let digest = hex::encode(Sha256::digest(self.name()));
        format!("ami-0{}", &digest[..16])
    }

    fn created_at(&self) -> Option<Timestamp> {
        let (year, month, day) = self.date;
        let date = Date::new(year, month, day).ok()?;
        date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|it| it.timestamp())
    }
}

pub(super) fn fill(_call: &Call<'_>, state: &mut State) {
    for release in &RELEASES {
        let id = release.image_id();
        if state.images.get(&id).is_some() {
            continue;
        }
        state.images.insert(Image {
            id,
            name: release.name(),
            description: format!(
                "EKS-optimized Kubernetes node based on Amazon Linux 2023, (k8s: {}, containerd: *)",
                release.patch
            ),
            architecture: "x86_64".to_owned(),
            owner_id: OWNER.to_owned(),
            owner_alias: Some("amazon".to_owned()),
            is_public: true,
            created_at: release.created_at().unwrap_or_default(),
            root_device_name: "/dev/xvda".to_owned(),
            root_size_gib: 20,
            location: String::new(),
            tags: Tags::new(),
        });
    }
}
