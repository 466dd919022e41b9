//! `hostPath` volumes: the check that a type asks for.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{MountVolumeError, io_error};

pub(super) fn check(source: &HostPathVolumeSource) -> Result<PathBuf, MountVolumeError> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(&path).ok();
    match (kind, &found) {
        ("DirectoryOrCreate", None) => {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
            set_mode(&path, 0o755)?;
            return Ok(path);
        }
        ("FileOrCreate", None) => {
            fs::write(&path, []).map_err(io_error("create", &path))?;
            set_mode(&path, 0o644)?;
            return Ok(path);
        }
        ("", _) => return Ok(path),
        _ => {}
    }
    let kind_of_file = found.map(|it| it.file_type());
    let fits = |check: fn(&fs::FileType) -> bool| kind_of_file.as_ref().is_some_and(check);
    let (is_right, problem) = match kind {
        "Directory" | "DirectoryOrCreate" => (fits(fs::FileType::is_dir), "is not a directory"),
        "File" | "FileOrCreate" => (fits(fs::FileType::is_file), "is not a file"),
        "Socket" => (fits(FileTypeExt::is_socket), "is not a socket file"),
        "CharDevice" => (fits(FileTypeExt::is_char_device), "is not a character device"),
        "BlockDevice" => (fits(FileTypeExt::is_block_device), "is not a block device"),
        other => {
            return Err(MountVolumeError::Text(format!("{other} is an invalid volume type")));
        }
    };
    if is_right {
        Ok(path)
    } else {
        Err(MountVolumeError::HostPath { path: source.path.clone(), problem })
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), MountVolumeError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io_error("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_checked_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |name: &str, kind: &str| {
            let path = folder.path().join(name).display().to_string();
            check(&HostPathVolumeSource { path, type_: Some(kind.to_owned()) })
        };
        assert!(ask("absent", "").is_ok());
        let error = ask("absent", "Directory").unwrap_err().to_string();
        assert!(error.ends_with("absent is not a directory"), "{error}");
        assert!(ask("d", "DirectoryOrCreate").is_ok() && folder.path().join("d").is_dir());
        assert!(ask("f", "FileOrCreate").is_ok() && folder.path().join("f").is_file());
        assert!(ask("f", "Directory").is_err());
        assert!(ask("f", "Socket").is_err());
        let error = ask("f", "Pipe").unwrap_err().to_string();
        assert_eq!(error, "Pipe is an invalid volume type");
    }

    /// Upstream: `test/e2e/storage/host_path_type.go`.
    #[test]
    fn a_type_is_had_by_its_own_kind_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(at("d")).unwrap();
        fs::write(at("f"), "kept").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
        let types = [
            ("Directory", "d", "is not a directory"),
            ("DirectoryOrCreate", "d", "is not a directory"),
            ("File", "f", "is not a file"),
            ("FileOrCreate", "f", "is not a file"),
            ("Socket", "s", "is not a socket file"),
            ("CharDevice", "/dev/null", "is not a character device"),
            ("BlockDevice", "", "is not a block device"),
        ];
        for (kind, own, problem) in types {
            for name in ["d", "f", "s", "/dev/null"] {
                let path = if name.starts_with('/') { name.to_owned() } else { at(name) };
                let source =
                    HostPathVolumeSource { path: path.clone(), type_: Some(kind.to_owned()) };
                match check(&source) {
                    Ok(_) => assert_eq!(name, own, "{kind}"),
                    Err(error) => {
                        assert_ne!(name, own, "{kind}");
                        let told = format!("hostPath type check failed: {path} {problem}");
                        assert_eq!(error.to_string(), told);
                    }
                }
            }
        }
        assert_eq!(fs::read_to_string(at("f")).unwrap(), "kept");
    }
}
