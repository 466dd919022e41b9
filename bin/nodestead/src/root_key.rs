//! The access key of the account's root user: drawn when the region is first started, and kept in the
//! data directory, where only root reads it.
//!
//! Who has it may do everything in the region and is the administrator of its clusters.

use std::{fs, io, path::Path};

use anyhow::Context;
use aws_wire::credentials::Credentials;
use region_iam::RootKey;
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    layout::{Layout, write_atomically},
};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    access_key_id: String,
    secret_access_key: String,
}

/// The key, drawn if there is none yet.
pub(crate) fn ensure(layout: &Layout) -> anyhow::Result<RootKey> {
    let path = layout.root_key();
    if let Some(known) = read(&path)? {
        return Ok(known);
    }
    let kept = Kept {
        access_key_id: format!("AKIA{}", &entropy::iam_id("")[..16]),
        secret_access_key: entropy::secret(40),
    };
    write_atomically(&path, &serde_json::to_vec_pretty(&kept)?)?;
    Ok(kept.into())
}

/// The key of a region that was started.
pub(crate) fn of(layout: &Layout) -> anyhow::Result<RootKey> {
    let path = layout.root_key();
    read(&path)?.ok_or_else(|| {
        let what = format!("there is no root key in `{}`", path.display());
        Failure::new(
            what,
            "a region gets one when it starts: `nodestead down`, then `nodestead up`",
        )
        .into()
    })
}

/// [`of`], for a client.
pub(crate) fn credentials(layout: &Layout) -> anyhow::Result<Credentials> {
    let key = of(layout)?;
    Ok(Credentials::new(key.access_key_id, key.secret_access_key))
}

fn read(path: &Path) -> anyhow::Result<Option<RootKey>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::unreadable(path, &error).into()),
    };
    let kept: Kept =
        serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", path.display()))?;
    Ok(Some(kept.into()))
}

impl From<Kept> for RootKey {
    fn from(kept: Kept) -> Self {
        Self { access_key_id: kept.access_key_id, secret_access_key: kept.secret_access_key }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_region_has_a_root_key_of_its_own_that_stays_and_that_its_owner_alone_reads() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = folders.each_ref().map(|it| Layout::new(it.path()).unwrap());
        assert!(of(&one).is_err(), "nothing was started");
        let drawn = ensure(&one).unwrap();
        assert_eq!((drawn.access_key_id.len(), drawn.secret_access_key.len()), (20, 40));
        for again in [ensure(&one).unwrap(), of(&one).unwrap()] {
            assert_eq!(again.access_key_id, drawn.access_key_id);
            assert_eq!(again.secret_access_key, drawn.secret_access_key);
        }
        assert_ne!(ensure(&two).unwrap().secret_access_key, drawn.secret_access_key);
        let mode = fs::metadata(one.root_key()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
