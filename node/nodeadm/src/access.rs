//! `nodeadm access`: what lets the owner of the instance's key pair log in, as cloud-init does it.
//!
//! Once per instance, the default user gets the key pair's key; and once somebody can log in, the instance
//! gets host keys of its own, whose fingerprints are shown on the console: whoever connects can compare
//! them. What the user makes of those files later stays as it is.
//!
//! Deviation: cloud-init lets root log in with the same key, to be told to use the default user; here root
//! does not log in at all.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use api_imds::{FetchError, ImdsClient};
use tracing::{info, warn};

use crate::files::{below, write};

/// Amazon Linux's default user.
const USER: &str = "ec2-user";
const HOME: &str = "/home/ec2-user";
/// What an owner's key is written to, and sshd reads.
pub const AUTHORIZED_KEYS: &str = "/home/ec2-user/.ssh/authorized_keys";

const HOST_KEYS: &str = "/etc/ssh";
/// Those that Amazon Linux 2023 makes.
const KINDS: [&str; 2] = ["ed25519", "ecdsa"];
const KEYGEN: &str = "/usr/bin/ssh-keygen";
/// Where sshd's unprivileged half is locked into.
const EMPTY: &str = "/run/sshd";

/// Why nobody can log in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("step `instance metadata`: failed")]
    Imds {
        #[source]
        source: FetchError,
    },
    #[error("step `keys`: failed to prepare `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "step `host keys`: {KEYGEN} cannot be run (this machine lacks the package openssh-client)"
    )]
    NoKeygen {
        #[source]
        source: io::Error,
    },
    #[error("step `host keys`: {KEYGEN} failed ({status}): {said}")]
    Keygen { status: ExitStatus, said: String },
}

/// Does what has not been done for this instance yet.
pub(crate) async fn prepare(imds: &ImdsClient, root: &Path) -> Result<(), AccessError> {
    let failed = |source| AccessError::Imds { source };
    let instance = imds.required(api_imds::paths::INSTANCE_ID).await.map_err(failed)?;
    let key = imds.text(api_imds::paths::OPENSSH_KEY).await.map_err(failed)?;
    let passwd = fs::read_to_string(below(root, "/etc/passwd")).unwrap_or_default();
    match owner(&passwd) {
        Some(owner) => once(root, instance.trim(), "ssh-authkey", || {
            authorize(root, key.as_deref(), Some(owner))
        })?,
        None if key.is_some() => warn!("the image has no user {USER}: nobody gets the key"),
        None => {}
    }
    // A script of the user data may have brought one.
    if !below(root, AUTHORIZED_KEYS).exists() {
        return Ok(());
    }
    make_folder(&below(root, EMPTY), 0o755)?;
    once(root, instance.trim(), "ssh-hostkeys", || make_host_keys(root))
}

/// The user and group of the default user: images of the user's own may number them otherwise.
fn owner(passwd: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find_map(|it| it.strip_prefix(USER)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// As cloud-init's modules are run: a mark below `/var/lib/cloud/instances/ID/sem`.
fn once(
    root: &Path,
    instance: &str,
    name: &str,
    work: impl FnOnce() -> Result<(), AccessError>,
) -> Result<(), AccessError> {
    let mark = below(root, "/var/lib/cloud/instances").join(instance).join("sem").join(name);
    if mark.exists() {
        return Ok(());
    }
    work()?;
    write(&mark, b"", 0o644).map_err(|source| AccessError::File { path: mark.clone(), source })
}

/// The user's home is the user's, with or without a key.
fn authorize(root: &Path, key: Option<&str>, owner: Option<(u32, u32)>) -> Result<(), AccessError> {
    let home = below(root, HOME);
    make_folder(&home, 0o700)?;
    give(&home, owner)?;
    let Some(key) = key.map(str::trim).filter(|it| !it.is_empty()) else { return Ok(()) };
    let folder = home.join(".ssh");
    make_folder(&folder, 0o700)?;
    let file = below(root, AUTHORIZED_KEYS);
    write(&file, format!("{key}\n").as_bytes(), 0o600)
        .map_err(|source| AccessError::File { path: file.clone(), source })?;
    give(&folder, owner)?;
    give(&file, owner)?;
    info!("the key pair's owner can log in as ec2-user");
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> Result<(), AccessError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|source| AccessError::File { path: path.to_owned(), source })
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<(), AccessError> {
    let Some((user, group)) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(user), Some(group))
        .map_err(|source| AccessError::File { path: path.to_owned(), source })
}

/// New ones, also where an image has brought some: two instances never share a key.
fn make_host_keys(root: &Path) -> Result<(), AccessError> {
    let folder = below(root, HOST_KEYS);
    make_folder(&folder, 0o755)?;
    let mut fingerprints = String::new();
    for kind in KINDS {
        let key = folder.join(format!("ssh_host_{kind}_key"));
        let public = key.with_extension("pub");
        for file in [&key, &public] {
            match fs::remove_file(file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(AccessError::File { path: file.clone(), source });
                }
                _ => {}
            }
        }
        keygen(&["-q", "-t", kind, "-N", "", "-f"], &key)?;
        fingerprints.push_str(&keygen(&["-l", "-f"], &public)?);
    }
    println!("-----BEGIN SSH HOST KEY FINGERPRINTS-----");
    print!("{fingerprints}");
    println!("-----END SSH HOST KEY FINGERPRINTS-----");
    Ok(())
}

fn keygen(args: &[&str], file: &Path) -> Result<String, AccessError> {
    let output = Command::new(KEYGEN).args(args).arg(file).stdin(Stdio::null()).output();
    let output = output.map_err(|source| AccessError::NoKeygen { source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(AccessError::Keygen { status: output.status, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn sshd_will_take_the_files_of_the_default_user() {
        let root = tempfile::tempdir().unwrap();
        authorize(root.path(), Some("ssh-ed25519 AAAA mine\n"), None).unwrap();
        let file = below(root.path(), AUTHORIZED_KEYS);
        assert_eq!(fs::read_to_string(&file).unwrap(), "ssh-ed25519 AAAA mine\n");
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(&below(root.path(), HOME)), 0o700);
    }

    #[test]
    fn the_default_user_is_the_images() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nec2-user:x:1001:100:EC2:/home/ec2-user:/bin/bash\n";
        assert_eq!(owner(passwd), Some((1001, 100)));
        assert_eq!(owner("ec2-user2:x:1:1::/:/bin/sh\n"), None);
    }

    #[test]
    fn without_a_key_pair_nobody_is_let_in() {
        let root = tempfile::tempdir().unwrap();
        authorize(root.path(), None, None).unwrap();
        authorize(root.path(), Some(" \n"), None).unwrap();
        assert!(!below(root.path(), AUTHORIZED_KEYS).exists());
    }

    #[test]
    fn a_key_that_the_user_has_taken_out_does_not_come_back_with_a_reboot() {
        let root = tempfile::tempdir().unwrap();
        let boot = |instance: &str| {
            let key = Some("ssh-ed25519 AAAA mine");
            once(root.path(), instance, "ssh-authkey", || authorize(root.path(), key, None))
        };
        boot("i-1").unwrap();
        let file = below(root.path(), AUTHORIZED_KEYS);
        fs::write(&file, "").unwrap();
        boot("i-1").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        boot("i-2").unwrap();
        assert_ne!(fs::read_to_string(&file).unwrap(), "");
    }

    #[test]
    fn an_instance_made_from_anothers_disk_has_host_keys_of_its_own() {
        if !Path::new(KEYGEN).exists() {
            println!("not run: this machine lacks {KEYGEN}");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let key = below(root.path(), HOST_KEYS).join("ssh_host_ed25519_key");
        make_host_keys(root.path()).unwrap();
        let first = fs::read(&key).unwrap();
        assert_eq!(mode(&key), 0o600);
        make_host_keys(root.path()).unwrap();
        assert_ne!(fs::read(&key).unwrap(), first);
    }
}
