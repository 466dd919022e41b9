//! `ssm-user`, whose the programs of sessions are: made when the first session begins.
//!
//! As on AWS, the user may become root by `sudo`.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt, chown},
            process::CommandExt,
        },
    },
    path::Path,
    process::Command,
};

use rustix::fs::{Gid, Uid};

const NAME: &str = "ssm-user";
const RULES: &str = "etc/sudoers.d/ssm-agent-users";
/// The first number that is tried: the one before is `ec2-user`'s.
const FIRST: u32 = 1001;

/// Whose a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
    home: String,
    name: String,
}

impl User {
    /// Makes sure that there is an `ssm-user` in this root file system.
    pub(crate) fn ensure(root: &Path) -> io::Result<Self> {
        let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        if let Some(known) = find(&passwd) {
            return Ok(known);
        }
        let uid = free(&passwd, &fs::read_to_string(root.join("etc/group")).unwrap_or_default());
        let home = format!("/home/{NAME}");
        let user = Self { uid, gid: uid, home: home.clone(), name: NAME.to_owned() };
        add(root, "etc/group", 0o644, &format!("{NAME}:x:{uid}:"))?;
        add(root, "etc/shadow", 0o640, &format!("{NAME}:!:19000:0:99999:7:::"))?;
        let rules = format!("# User rules for {NAME}\n{NAME} ALL=(ALL) NOPASSWD:ALL");
        fs::create_dir_all(root.join("etc/sudoers.d"))?;
        add(root, RULES, 0o440, &rules)?;
        let folder = root.join(home.trim_start_matches('/'));
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        chown(&folder, Some(uid), Some(uid))?;
        // Last, as it is what says that the user is there.
        add(root, "etc/passwd", 0o644, &format!("{NAME}:x:{uid}:{uid}::{home}:/bin/sh"))?;
        Ok(user)
    }

    /// Whoever runs this process: commands, and tests.
    pub(crate) fn own() -> Self {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { uid, gid, home: "/root".to_owned(), name: "root".to_owned() }
    }

    /// Has a program be this user's.
    pub(crate) fn enter(&self, command: &mut Command) {
        command.env("HOME", &self.home).env("USER", &self.name).env("LOGNAME", &self.name);
        if self.uid != rustix::process::getuid().as_raw() {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// A terminal is its user's, so that programs can open it by its name.
    pub(crate) fn own_terminal(&self, terminal: &OwnedFd) -> io::Result<()> {
        if self.uid == rustix::process::getuid().as_raw() {
            return Ok(());
        }
        let uid = Some(Uid::from_raw(self.uid));
        Ok(rustix::fs::fchown(terminal, uid, None::<Gid>)?)
    }
}

fn find(passwd: &str) -> Option<User> {
    let line = passwd.lines().find(|it| it.split(':').next() == Some(NAME))?;
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
    Some(User {
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: (*home).to_owned(),
        name: (*name).to_owned(),
    })
}

/// A number that neither a user nor a group has.
fn free(passwd: &str, group: &str) -> u32 {
    let third = |it: &str| it.split(':').nth(2).and_then(|it| it.parse::<u32>().ok());
    let taken: Vec<u32> = passwd.lines().chain(group.lines()).filter_map(third).collect();
    (FIRST..).find(|it| !taken.contains(it)).unwrap_or(FIRST)
}

/// Adds a line, as a whole or not at all. One that is there already is not added.
fn add(root: &Path, name: &str, mode: u32, line: &str) -> io::Result<()> {
    let path = root.join(name);
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    if text.lines().any(|it| Some(it) == line.lines().last()) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    let next = path.with_extension("ssm-agent-new");
    let mut options = fs::File::options();
    let mut file = options.create(true).write(true).truncate(true).mode(mode).open(&next)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::set_permissions(&next, fs::Permissions::from_mode(mode))?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_made_once_with_a_number_of_its_own() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nec2-user:x:1000:1000::/home/ec2-user:/bin/sh";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), "docker:x:1001:\n").unwrap();
        let user = User::ensure(root.path()).unwrap();
        assert_eq!((user.uid, user.home.as_str()), (1002, "/home/ssm-user"));
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        let before = read("etc/passwd");
        assert!(before.ends_with("ssm-user:x:1002:1002::/home/ssm-user:/bin/sh\n"), "{before}");
        assert_eq!(User::ensure(root.path()).unwrap(), user);
        assert_eq!(read("etc/passwd"), before);
        let mode = fs::metadata(root.path().join(RULES)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440, "sudo takes no other");
    }
}
