//! Amazon's EKS-optimized images, one per Kubernetes version and release.
//!
//! All of them boot the same root file system here; the Kubernetes version in the name is what
//! clients choose by. Deviation: release dates are ours, and only x86-64 is there. The image that is
//! named as Bottlerocket's has its name, and nothing of Bottlerocket in it.

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
        image_id(&self.name())
    }
}

fn image_id(name: &str) -> String {
    let digest = hex::encode(Sha256::digest(name));
    format!("ami-0{}", &digest[..16])
}

fn created_at((year, month, day): (i16, i8, i8)) -> Option<Timestamp> {
    let date = Date::new(year, month, day).ok()?;
    date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|it| it.timestamp())
}

/// The account that owns Bottlerocket's images.
const BOTTLEROCKET_OWNER: &str = "092701018921";

/// One release of Bottlerocket for a version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BottlerocketRelease {
    /// `1.36`.
    pub kubernetes: &'static str,
    /// `1.52.0`.
    pub version: &'static str,
    pub commit: &'static str,
    pub date: (i16, i8, i8),
}

/// Oldest first; the last one is the latest.
const BOTTLEROCKET: [BottlerocketRelease; 2] = [
    BottlerocketRelease {
        kubernetes: "1.36",
        version: "1.51.0",
        commit: "4fb4e9a2",
        date: (2026, 10, 9),
    },
    BottlerocketRelease {
        kubernetes: "1.36",
        version: "1.52.0",
        commit: "c03dd7b1",
        date: (2026, 11, 6),
    },
];

/// All releases of Bottlerocket.
pub fn bottlerocket_releases() -> &'static [BottlerocketRelease] {
    &BOTTLEROCKET
}

impl BottlerocketRelease {
    /// `1.52.0-c03dd7b1`, as parameters and node groups show it.
    pub fn image_version(&self) -> String {
        format!("{}-{}", self.version, self.commit)
    }

    /// `bottlerocket-aws-k8s-1.36-x86_64-v1.52.0-c03dd7b1`.
    pub fn name(&self) -> String {
        format!("bottlerocket-aws-k8s-{}-x86_64-v{}", self.kubernetes, self.image_version())
    }

    pub fn image_id(&self) -> String {
        image_id(&self.name())
    }
}

fn fill_bottlerocket(state: &mut State) {
    for release in &BOTTLEROCKET {
        let id = release.image_id();
        if state.images.get(&id).is_some() {
            continue;
        }
        state.images.insert(Image {
            id,
            name: release.name(),
            description: format!(
                "The name of Bottlerocket {} (aws-k8s-{}), over this region's own root file system",
                release.version, release.kubernetes
            ),
            architecture: "x86_64".to_owned(),
            owner_id: BOTTLEROCKET_OWNER.to_owned(),
            owner_alias: Some("amazon".to_owned()),
            is_public: true,
            created_at: created_at(release.date).unwrap_or_default(),
            root_device_name: "/dev/xvda".to_owned(),
            root_size_gib: 4,
            snapshot: None,
            tags: Tags::new(),
        });
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
            created_at: created_at(release.date).unwrap_or_default(),
            root_device_name: "/dev/xvda".to_owned(),
            root_size_gib: 20,
            snapshot: None,
            tags: Tags::new(),
        });
    }
    fill_bottlerocket(state);
}
