//! Keys and certificates that are made once and kept.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;
use pki::Ca;

use crate::layout::write_atomically;

/// The authority `NAME.crt`, `NAME.key` in `folder`, made at the first call.
pub(crate) fn ca(folder: &Path, name: &str, cn: &str) -> anyhow::Result<Ca> {
    let certificate = folder.join(format!("{name}.crt"));
    let key = folder.join(format!("{name}.key"));
    if key.exists() && certificate.exists() {
        return Ok(Ca::from_pem(&read(&certificate)?, &read(&key)?)?);
    }
    let ca = Ca::new(cn)?;
    secret(&certificate, ca.certificate_pem())?;
    secret(&key, ca.key_pem())?;
    Ok(ca)
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Writes a file that only root may read.
pub(crate) fn secret(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write_atomically(path, text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
