//! The root file system that instances start from.
//!
//! It is a skeleton: an own `/etc`, empty `/home`, `/root` and `/var`, and links into `/usr`, over
//! which each instance binds the machine's `/usr` read-only. Nothing else of the machine's is in it
//! but public facts: CA certificates, the linker's cache, the names of protocols and services, and
//! the links of `/etc/alternatives`.
//!
//! Deviation: EKS's AMI is Amazon Linux 2023 and brings its own `/usr`; `os-release` says so with
//! the keys that programs look at, and names Nodestead beside it.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::state::FileError;

/// What an AMI is made from.
#[derive(Clone, Debug, Default)]
pub struct Ami<'a> {
    /// The region's certificate authority, which the AMI trusts beside the public ones.
    pub region_ca_pem: &'a str,
    /// Further files: path below the root, content, mode.
    pub files: Vec<(PathBuf, Vec<u8>, u32)>,
}

/// Where the region's authority lies alone, for programs that should trust nothing else.
pub const REGION_CA: &str = "/etc/pki/ca-trust/source/anchors/nodestead-region.pem";
/// Archives (`*.tar`) in this folder are imported when an instance's containerd first runs.
pub const IMAGES: &str = "/opt/nodestead/images";
/// Where programs of Debian's kind look for all authorities.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

const FOLDERS: &[(&str, u32)] = &[
    ("etc/cni/net.d", 0o755),
    ("etc/containerd/certs.d", 0o755),
    ("etc/eks", 0o755),
    ("etc/kubernetes/manifests", 0o755),
    ("etc/kubernetes/pki", 0o755),
    ("etc/pki/tls/certs", 0o755),
    ("etc/pki/ca-trust/source/anchors", 0o755),
    ("etc/ssh", 0o755),
    ("etc/ssl/certs", 0o755),
    ("etc/sudoers.d", 0o750),
    ("etc/alternatives", 0o755),
    ("boot", 0o755),
    ("dev", 0o755),
    ("home/ec2-user", 0o700),
    ("mnt", 0o755),
    ("media", 0o755),
    ("opt/cni/bin", 0o755),
    ("opt/nodestead/bin", 0o755),
    ("opt/nodestead/images", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var/cache", 0o755),
    ("var/lib/cloud", 0o755),
    ("var/lib/cni", 0o755),
    ("var/lib/containerd", 0o711),
    ("var/lib/kubelet", 0o750),
    ("var/lib/nodestead", 0o755),
    ("var/log", 0o755),
    ("var/log/pods", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/localtime", "/usr/share/zoneinfo/UTC"),
    ("etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt"),
    ("etc/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
];

/// Public facts of the machine, where it has them.
const COPIED: &[&str] = &["etc/ld.so.cache", "etc/services", "etc/protocols", "etc/rpc"];

const TEXTS: &[(&str, &str, u32)] = &[
    ("etc/os-release", OS_RELEASE, 0o644),
    ("etc/passwd", PASSWD, 0o644),
    ("etc/group", GROUP, 0o644),
    // A lock (`!`) would keep keys out too; no password is `*`.
    ("etc/shadow", "root:!:19000:0:99999:7:::\nec2-user:*:19000:0:99999:7:::\n", 0o640),
    ("etc/ssh/sshd_config", SSHD_CONFIG, 0o600),
    ("etc/sudoers", SUDOERS, 0o440),
    ("etc/pam.d/sudo", PAM_SUDO, 0o644),
    ("etc/nsswitch.conf", NSSWITCH, 0o644),
    ("etc/shells", "/bin/sh\n/bin/bash\n", 0o644),
    (
        "etc/profile",
        "PATH=/opt/nodestead/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\nexport PATH\nPS1='[\\u@\\h \\W]# '\n",
        0o644,
    ),
    ("etc/host.conf", "multi on\n", 0o644),
    ("opt/nodestead/bin/poweroff", POWEROFF, 0o755),
    ("opt/nodestead/bin/halt", POWEROFF, 0o755),
    ("opt/nodestead/bin/reboot", REBOOT, 0o755),
    ("opt/nodestead/bin/shutdown", SHUTDOWN, 0o755),
    ("etc/image-id", "image_name=\"nodestead\"\nimage_arch=\"x86_64\"\n", 0o644),
];

/// Programs that ask PID 1 as systemd's own do (SIGRTMIN+4 and +5, by glibc's count): those of the
/// machine's distribution, which come first nowhere, look for a systemd that does not run here.
const POWEROFF: &str = "#!/bin/sh\nkill -38 1\n";
const REBOOT: &str = "#!/bin/sh\nkill -39 1\n";
const SHUTDOWN: &str = "\
#!/bin/sh
# At once, whatever time is given.
for word in \"$@\"; do
  case \"$word\" in
    -c) echo 'shutdown: nothing is scheduled' >&2; exit 1 ;;
    -r | --reboot) exec /opt/nodestead/bin/reboot ;;
  esac
done
exec /opt/nodestead/bin/poweroff
";

const OS_RELEASE: &str = "\
NAME=\"Amazon Linux\"
VERSION=\"2023\"
ID=\"amzn\"
ID_LIKE=\"fedora\"
VERSION_ID=\"2023\"
PLATFORM_ID=\"platform:al2023\"
PRETTY_NAME=\"Amazon Linux 2023 (Nodestead)\"
VARIANT=\"Nodestead\"
VARIANT_ID=\"nodestead\"
";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
bin:x:1:1:bin:/bin:/usr/sbin/nologin
daemon:x:2:2:daemon:/sbin:/usr/sbin/nologin
sshd:x:74:74:Privilege-separated SSH:/run/sshd:/usr/sbin/nologin
ec2-user:x:1000:1000:EC2 Default User:/home/ec2-user:/bin/bash
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
bin:x:1:
daemon:x:2:
tty:x:5:
disk:x:6:
adm:x:4:ec2-user
wheel:x:10:ec2-user
sshd:x:74:
ec2-user:x:1000:
nobody:x:65534:
nogroup:x:65533:
";

/// Of Amazon Linux 2023 what matters to whoever logs in: keys alone, never root, host keys of two kinds.
///
/// Deviation: without PAM, whose configuration is the distribution's; its sftp server is sshd's own.
const SSHD_CONFIG: &str = "\
Include /etc/ssh/sshd_config.d/*.conf
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
";

/// As on Amazon Linux, the default user may become root without a password.
const SUDOERS: &str = "\
Defaults secure_path=\"/opt/nodestead/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\"
root ALL=(ALL:ALL) ALL
ec2-user ALL=(ALL) NOPASSWD: ALL
@includedir /etc/sudoers.d
";

/// There are no passwords: whom sudoers asks for one is refused.
const PAM_SUDO: &str = "\
auth required pam_deny.so
account required pam_permit.so
session required pam_permit.so
";

const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

/// Makes sure that the AMI is at `root`. Cheap when it is.
pub fn build(root: &Path, ami: &Ami<'_>) -> Result<(), FileError> {
    let stamp = fingerprint(ami);
    let marker = root.join("etc/image-fingerprint");
    if fs::read_to_string(&marker).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    // Files are replaced one by one: an instance that runs keeps the layer that it has mounted.
    for (path, mode) in FOLDERS {
        folder(&root.join(path), *mode)?;
    }
    for (path, target) in LINKS {
        link(&root.join(path), Path::new(target))?;
    }
    for (path, text, mode) in TEXTS {
        file(&root.join(path), text.as_bytes(), *mode)?;
    }
    for (path, content, mode) in &ami.files {
        file(&root.join(path), content, *mode)?;
    }
    // What each instance binds its own over.
    for path in ["opt/nodestead/bin/nodestead", "etc/machine-id"] {
        file(&root.join(path), b"", 0o755)?;
    }
    copy_public_facts(root)?;
    certificates(root, ami.region_ca_pem)?;
    file(&marker, stamp.as_bytes(), 0o644)
}

/// Grows with what goes into an AMI; not a secret, so a plain checksum of lengths and bytes is fine.
pub fn fingerprint(ami: &Ami<'_>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325; // FNV-1a
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&bytes.len().to_le_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(ami.region_ca_pem.as_bytes());
    for (path, mode) in FOLDERS {
        add(path.as_bytes());
        add(&mode.to_le_bytes());
    }
    for (path, text, _) in TEXTS {
        add(path.as_bytes());
        add(text.as_bytes());
    }
    for (path, content, mode) in &ami.files {
        add(path.as_os_str().as_encoded_bytes());
        add(content);
        add(&mode.to_le_bytes());
    }
    format!("{hash:016x}\n")
}

fn certificates(root: &Path, region_ca_pem: &str) -> Result<(), FileError> {
    let mut bundle = fs::read(CA_BUNDLE).unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(region_ca_pem.as_bytes());
    file(&below(root, CA_BUNDLE), &bundle, 0o644)?;
    file(&below(root, REGION_CA), region_ca_pem.as_bytes(), 0o644)
}

fn copy_public_facts(root: &Path) -> Result<(), FileError> {
    for name in COPIED {
        let source = Path::new("/").join(name);
        if let Ok(content) = fs::read(&source) {
            file(&root.join(name), &content, 0o644)?;
        }
    }
    let alternatives = fs::read_dir("/etc/alternatives").into_iter().flatten().flatten();
    for entry in alternatives {
        if let Ok(target) = fs::read_link(entry.path()) {
            link(&root.join("etc/alternatives").join(entry.file_name()), &target)?;
        }
    }
    Ok(())
}

pub(crate) fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

fn folder(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(FileError::io("create", path))
}

fn link(path: &Path, target: &Path) -> Result<(), FileError> {
    match symlink(target, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(FileError::io("create", path)(error))
        }
        _ => Ok(()),
    }
}

fn file(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
    }
    crate::state::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(FileError::io("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_trusts_the_region_and_holds_nothing_of_the_machines_users() {
        let root = tempfile::tempdir().unwrap();
        let ami = Ami { region_ca_pem: "-----CA-----\n", files: Vec::new() };
        build(root.path(), &ami).unwrap();
        build(root.path(), &ami).unwrap();
        let bundle = fs::read_to_string(below(root.path(), CA_BUNDLE)).unwrap();
        assert!(bundle.ends_with("-----CA-----\n"));
        assert_eq!(fs::read_dir(root.path().join("root")).unwrap().count(), 0);
        let mode = fs::metadata(root.path().join("tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(fs::read_link(root.path().join("lib64")).unwrap(), Path::new("usr/lib64"));
    }

    #[test]
    fn a_key_alone_lets_the_default_user_in() {
        let root = tempfile::tempdir().unwrap();
        build(root.path(), &Ami::default()).unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        let of_user = |file: &str| {
            let lines = read(file);
            let line = lines.lines().find(|it| it.starts_with("ec2-user:")).unwrap();
            line.split(':').nth(1).unwrap().to_owned()
        };
        // What begins with `!` is locked for sshd, keys or not.
        assert_eq!((of_user("etc/passwd").as_str(), of_user("etc/shadow").as_str()), ("x", "*"));
        let sshd = read("etc/ssh/sshd_config");
        for line in ["PasswordAuthentication no", "PermitRootLogin no", "UsePAM no"] {
            assert!(sshd.lines().any(|it| it == line), "{line}");
        }
        let sudoers = fs::metadata(root.path().join("etc/sudoers")).unwrap().permissions().mode();
        assert_eq!(sudoers & 0o777, 0o440, "sudo takes no other");
    }

    #[test]
    fn another_authority_makes_another_image() {
        let one = Ami { region_ca_pem: "a", files: Vec::new() };
        let other = Ami { region_ca_pem: "b", files: Vec::new() };
        assert_ne!(fingerprint(&one), fingerprint(&other));
    }
}
