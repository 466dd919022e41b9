//! Root file systems that users bring.
//!
//! Each lies over the region's own: what it has counts, and what it lacks of what an instance needs (the
//! region's authority, mount points, configuration) shows through. One with programs below `/usr` runs with
//! those alone; one without is a layer of files, and gets the machine's `/usr` as EKS's image does.
//!
//! **Invariant:** what copies ends with who asked for it, so that nothing writes to a folder that is being
//! removed.
//! **Invariant:** none of the folders that the launcher mounts on is a link, so that no path of an image
//! leads out of it.
//!
//! Deviation: an AMI is a disk with a kernel and an init of its own. Here the kernel is the machine's, and
//! PID 1 is ours: an image's own init (systemd) is not run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{
    ami,
    state::{FileError, make_folder, write},
};

/// What the launcher mounts on or writes to before it enters the root.
const FOLDERS: [&str; 15] = [
    "dev",
    "etc",
    "opt",
    "opt/nodestead",
    "opt/nodestead/bin",
    "proc",
    "run",
    "sys",
    "usr",
    "usr/bin",
    "var",
    "var/lib",
    "var/lib/containerd",
    "var/lib/kubelet",
    "tmp",
];

/// Our own program needs it.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// Where distributions keep the authorities that programs trust.
const BUNDLES: [&str; 3] =
    [ami::CA_BUNDLE, "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem"];

/// How GNU tar says it, in the C locale.
const NO_ARCHIVE: &str = "does not look like a tar archive";

/// Why a root file system was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("there is no file or folder `{}`", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` is neither a folder nor a tar archive", path.display())]
    NoArchive { path: PathBuf },
    #[error("failed to run `{program}`")]
    Run {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` failed: {said}")]
    Failed { program: &'static str, said: String },
    #[error("`/{path}` must be a folder of its own, not a link or a file")]
    NotAFolder { path: &'static str },
    #[error("it is empty")]
    Empty,
    #[error(
        "it has programs of its own and no `/{LOADER}`: images are to be of a distribution with glibc, \
         for x86-64"
    )]
    NoLoader,
    #[error(transparent)]
    File(#[from] FileError),
}

/// Copies a root file system (a folder, or a tar archive, perhaps compressed) to `target`, which must not
/// exist, with owners, modes and attributes. Says how many bytes it has. What was copied of one that is
/// refused is left for whoever cleans up.
pub fn import(source: &Path, target: &Path) -> Result<u64, ImportError> {
    let Ok(found) = fs::metadata(source) else {
        return Err(ImportError::Missing { path: source.to_owned() });
    };
    make_folder(target)?;
    match found.is_dir() {
        true => copy(source, target)?,
        false => extract(source, target)?,
    }
    check(target)?;
    size(target)
}

/// One file system only: what is mounted below is not of it.
fn copy(source: &Path, target: &Path) -> Result<(), ImportError> {
    let mut command = Command::new("cp");
    command.args(["--archive", "--one-file-system", "--no-target-directory", "--"]);
    run("cp", command.arg(source).arg(target)).map(drop)
}

/// tar itself keeps names with `..` and links that lead out of the folder from doing harm.
fn extract(source: &Path, target: &Path) -> Result<(), ImportError> {
    let mut command = Command::new("tar");
    command.args(["--extract", "--preserve-permissions", "--numeric-owner", "--xattrs"]);
    command.args(["--xattrs-include=*", "--file"]).arg(source).arg("--directory").arg(target);
    match run("tar", &mut command) {
        Err(ImportError::Failed { said, .. }) if said.contains(NO_ARCHIVE) => {
            Err(ImportError::NoArchive { path: source.to_owned() })
        }
        done => done.map(drop),
    }
}

fn run(program: &'static str, command: &mut Command) -> Result<Output, ImportError> {
    linux_process::end_with_starter(command);
    let output = command.stdin(Stdio::null()).env("LC_ALL", "C").output();
    let output = output.map_err(|source| ImportError::Run { program, source })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The rest is more of the same, or what follows from it.
    let said = said.lines().next().unwrap_or_default().to_owned();
    Err(ImportError::Failed { program, said })
}

fn check(root: &Path) -> Result<(), ImportError> {
    let is_empty = fs::read_dir(root).map_err(FileError::io("read", root))?.next().is_none();
    if is_empty {
        return Err(ImportError::Empty);
    }
    for path in FOLDERS {
        match fs::symlink_metadata(root.join(path)) {
            Ok(found) if !found.is_dir() => return Err(ImportError::NotAFolder { path }),
            _ => {}
        }
    }
    if has_programs(root) && !is_there(root, LOADER) {
        return Err(ImportError::NoLoader);
    }
    Ok(())
}

/// Whether the path leads to something, if absolute links are taken from `root`: a distribution's `/lib64`
/// often is one.
fn is_there(root: &Path, path: &str) -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty()) else {
        return false;
    };
    rustix::fs::openat2(&folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
}

/// Whether an image runs with its own `/usr`.
pub(crate) fn has_programs(root: &Path) -> bool {
    fs::read_dir(root.join("usr/bin")).is_ok_and(|mut it| it.next().is_some())
}

fn size(root: &Path) -> Result<u64, ImportError> {
    let mut command = Command::new("du");
    let output = run("du", command.args(["--summarize", "--bytes", "--"]).arg(root))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes = text.split_ascii_whitespace().next().and_then(|it| it.parse().ok());
    bytes.ok_or(ImportError::Failed { program: "du", said: text.into_owned() })
}

/// Has an image trust the region's authority beside its own: whatever AWS serves is signed by it here.
/// `root` is the instance's, entered: links lead to its own files.
pub(crate) fn trust_region(root: &Path) -> Result<(), FileError> {
    let authority = ami::below(root, ami::REGION_CA);
    let own = fs::read(&authority).map_err(FileError::io("read", &authority))?;
    for bundle in BUNDLES {
        let bundle = ami::below(root, bundle);
        let Ok(known) = fs::read(&bundle) else { continue };
        let has_it = known.windows(own.len().max(1)).any(|it| it == own);
        if !has_it {
            let joined = [known.as_slice(), b"\n", &own].concat();
            let real = fs::canonicalize(&bundle).map_err(FileError::io("read", &bundle))?;
            write(&real, &joined)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn imported(source: &Path) -> Result<(tempfile::TempDir, PathBuf), ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("root");
        import(source, &target).map(|_| (folder, target))
    }

    #[test]
    fn a_folder_and_an_archive_of_it_are_the_same_image() {
        let source = tree(&["etc/motd", "opt/tool/run"]);
        symlink("motd", source.path().join("etc/issue")).unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-czf"]).arg(archive.path()).arg("-C").arg(source.path()).arg(".");
        assert!(tar.status().unwrap().success());
        for from in [source.path(), archive.path()] {
            let (_folder, root) = imported(from).unwrap();
            assert_eq!(fs::read_to_string(root.join("opt/tool/run")).unwrap(), "opt/tool/run");
            assert_eq!(fs::read_link(root.join("etc/issue")).unwrap(), Path::new("motd"));
            assert!(!has_programs(&root), "it runs with the machine's");
        }
    }

    #[test]
    fn a_folder_that_is_mounted_on_must_not_lead_elsewhere() {
        for path in ["dev", "usr", "var/lib"] {
            let source = tree(&["etc/motd", "var/log/x"]);
            symlink("/etc", source.path().join(path)).unwrap();
            let error = imported(source.path()).unwrap_err();
            assert!(matches!(error, ImportError::NotAFolder { path: it } if it == path), "{error}");
        }
    }

    #[test]
    fn an_image_with_programs_needs_their_loader_wherever_its_links_lead() {
        let source = tree(&["usr/bin/true"]);
        assert!(matches!(imported(source.path()), Err(ImportError::NoLoader)));
        let source = tree(&["usr/bin/true", "usr/lib64/ld-linux-x86-64.so.2"]);
        symlink("/usr/lib64", source.path().join("lib64")).unwrap();
        let (_folder, root) = imported(source.path()).unwrap();
        assert!(has_programs(&root));
    }

    #[test]
    fn what_is_no_root_file_system_is_refused_by_name() {
        let missing = Path::new("/nowhere/root.tar");
        assert!(matches!(imported(missing), Err(ImportError::Missing { .. })));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(imported(empty.path()), Err(ImportError::Empty)));
        let text = tree(&["not-a.tar"]);
        let error = imported(&text.path().join("not-a.tar")).unwrap_err();
        assert!(matches!(error, ImportError::NoArchive { .. }), "{error}");
    }

    /// Where the process that is killed finds what to import.
    const PIPE: &str = "NODESTEAD_TEST_PIPE";

    #[test]
    fn what_copies_ends_with_who_asked_for_it() {
        if let Some(pipe) = std::env::var_os(PIPE) {
            drop(imported(Path::new(&pipe)));
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // Nobody writes to it: tar waits for as long as it lives.
        let pipe = folder.path().join("root.tar");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut asking = Command::new(std::env::current_exe().unwrap());
        asking.args(["--exact", "image::tests::what_copies_ends_with_who_asked_for_it"]);
        let mut asking = asking.env(PIPE, &pipe).stdout(Stdio::null()).spawn().unwrap();
        let name = pipe.to_str().unwrap();
        let is_tar = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("tar\0") && line.contains(name)
        };
        let find = || linux_process::all().unwrap().into_iter().find(is_tar);
        let tar = loop {
            assert!(asking.try_wait().unwrap().is_none(), "it waits for tar");
            match find().and_then(linux_process::Identity::of) {
                Some(tar) => break tar,
                None => std::thread::yield_now(),
            }
        };
        asking.kill().unwrap();
        asking.wait().unwrap();
        assert!(tar.wait(std::time::Duration::from_secs(10)), "tar lives on");
    }

    #[test]
    fn the_regions_authority_is_trusted_once_beside_the_images_own() {
        let root = tree(&["etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"]);
        let authority = ami::below(root.path(), ami::REGION_CA);
        fs::create_dir_all(authority.parent().unwrap()).unwrap();
        fs::write(&authority, "-----REGION-----\n").unwrap();
        for _boot in 0..2 {
            trust_region(root.path()).unwrap();
        }
        let bundle = fs::read_to_string(ami::below(root.path(), BUNDLES[1])).unwrap();
        assert_eq!(bundle.matches("REGION").count(), 1);
        assert!(bundle.starts_with("etc/pki"), "{bundle}");
        assert!(!ami::below(root.path(), BUNDLES[0]).exists());
    }
}
