//! What recipes are made of, and the script that stands for `wget`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use super::*;

/// Runs the script in a folder whose `busybox` says how it was asked, and ends with `status`.
fn wget(folder: &Path, arguments: &[&str], status: u8) -> Output {
    let fake = format!("#!/bin/sh\necho \"$*\"\nexit {status}\n");
    for (name, content) in [("busybox", fake.as_str()), ("wget", WGET)] {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", folder.display());
    Command::new("/bin/sh")
        .arg(folder.join("wget"))
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap()
}

fn asked(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    String::from_utf8(wget(folder.path(), arguments, 0).stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_time_limit_never_reaches_busyboxs_wget() {
    let limited = "timeout 2 busybox wget -q -O- http://web a b";
    for arguments in [
        &["-q", "-T", "2", "-O-", "http://web", "a b"][..],
        &["-q", "-T2", "-O-", "http://web", "a b"],
        &["-q", "-O-", "--timeout=2", "http://web", "a b"],
        &["-q", "-O-", "http://web", "a b", "--timeout", "2"],
        &["-qT", "2", "-O-", "http://web", "a b"],
    ] {
        assert_eq!(asked(arguments), limited, "{arguments:?}");
    }
    assert_eq!(asked(&["-qO-", "http://web"]), "wget -qO- http://web");
}

#[test]
fn a_download_over_its_limit_ends_as_busyboxs_does_and_others_keep_their_status() {
    let folder = tempfile::tempdir().unwrap();
    let over = wget(folder.path(), &["-T", "1", "http://web"], 143);
    assert_eq!(over.status.code(), Some(1));
    assert_eq!(String::from_utf8(over.stderr).unwrap(), "wget: download timed out\n");
    assert_eq!(wget(folder.path(), &["-T", "1", "http://web"], 7).status.code(), Some(7));
}

#[test]
fn no_image_has_the_busybox_whose_shell_passes_the_path_over() {
    for recipe in RECIPES {
        assert!(!recipe.packages.contains(&"busybox-static"), "{}", recipe.name);
        assert!(recipe.packages.contains(&"busybox"), "{}", recipe.name);
        assert!(recipe.packages.contains(&"libc6"), "{}", recipe.name);
    }
}

#[test]
fn fcgiwrap_has_one_process() {
    let manifest = include_str!("../../../examples/guestbook/frontend.yaml");
    assert!(manifest.contains(r#"args: [fcgiwrap, -c, "1", "#));
    let recipe = RECIPES.iter().find(|it| it.name.contains("guestbook")).unwrap();
    assert_eq!(recipe.cmd[..3], ["fcgiwrap", "-c", "1"]);
}

#[test]
fn archives_of_earlier_revisions_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = RECIPES.iter().find(|it| it.name.ends_with("redis:7.0")).unwrap();
    for name in ["redis-7.0-r1.tar", "nginx-1.22-r1.tar", &archive_name(recipe)] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    remove_older(recipe, folder.path()).unwrap();
    assert!(!folder.path().join("redis-7.0-r1.tar").exists());
    assert!(folder.path().join("nginx-1.22-r1.tar").exists());
    assert!(folder.path().join(archive_name(recipe)).exists());
}
