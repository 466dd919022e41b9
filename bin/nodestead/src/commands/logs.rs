//! `nodestead logs`: the files that components write, followed like `tail -F`.
//!
//! **Invariant:** whoever is root on an instance can put what they like into its file system, and has
//! nothing of the machine's read by it: below the instance's folder no link is followed, and nothing but
//! a file is opened.

mod follow;

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use self::follow::{Follower, Log};
use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    failure::{Failure, NEXT},
    layout::Layout,
};

/// What an instance's init and user data print.
const CONSOLE: &str = "console";
/// Where an instance's processes write theirs.
const LOGS: [&str; 3] = ["upper", "var", "log"];
/// The logs that are no instance's.
pub(crate) const COMPONENTS: [&str; 2] = ["daemon", "aws"];

pub(crate) async fn run(args: cli::Logs) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let place = match args.of.as_str() {
        "daemon" => Place::of_region(&layout, &layout.daemon_log(), None),
        "aws" => Place::of_region(&layout, &layout.aws_log(), Some(&layout.aws_log_before())),
        other => instance_log(&layout, other).await?,
    };
    let path = place.path();
    let follower = match Follower::new(place) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::unreadable(&path, &error).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("no region has written `{}` yet", path.display());
            return Err(Failure::new(what, NEXT).into());
        }
        opened => opened.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    print(follower, args.follow).await
}

/// A log's way below a folder, and the name beside it that the log gets when it is full.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    way: Vec<String>,
    before: Option<String>,
}

impl Place {
    fn of_region(layout: &Layout, log: &Path, before: Option<&Path>) -> Self {
        let name = |it: &Path| it.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { folder: layout.root().to_owned(), way: vec![name(log)], before: before.map(name) }
    }

    fn path(&self) -> PathBuf {
        self.way.iter().fold(self.folder.clone(), |path, part| path.join(part))
    }
}

impl Log for Place {
    fn current(&self) -> io::Result<File> {
        open_plain(&self.folder, &self.way, OFlag::empty())
    }

    fn before(&self) -> io::Result<File> {
        let before = self.before.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let folders = self.way.iter().rev().skip(1).rev();
        let way: Vec<_> = folders.chain([before]).collect();
        open_plain(&self.folder, &way, OFlag::empty())
    }
}

/// `i-…` is the instance's console; `i-…/kubelet` a log of one of its processes.
async fn instance_log(layout: &Layout, of: &str) -> anyhow::Result<Place> {
    let (instance, log) = of.split_once('/').unwrap_or((of, CONSOLE));
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let found = status.instance(instance).map_err(|error| match of.contains('/') {
        true => error,
        false => error.or(&format!("or one of: {}", COMPONENTS.join(", "))),
    })?;
    let way = log_of(&found.folder, &found.id, log)?;
    // As `run init` turns them.
    Ok(Place { folder: found.folder.clone(), way, before: Some(format!("{log}.log.1")) })
}

/// The way to a log's file, if the instance has written it.
fn log_of(folder: &Path, id: &str, log: &str) -> Result<Vec<String>, Failure> {
    let known = names(folder);
    if !known.iter().any(|it| it == log) {
        let known: Vec<_> = known.iter().map(|it| format!("{id}/{it}")).collect();
        let next = match known.as_slice() {
            [] => "it has written none yet: see `nodestead status`".to_owned(),
            known => format!("use one of: {}", known.join(", ")),
        };
        return Err(Failure::new(format!("instance {id} has no log `{log}`"), next));
    }
    let file = format!("{log}.log");
    Ok(match log {
        CONSOLE => vec![file],
        _ => LOGS.iter().map(|it| (*it).to_owned()).chain([file]).collect(),
    })
}

/// Opens what is at the end of a way on which there is no link.
fn open_plain(folder: &Path, way: &[impl AsRef<str>], flags: OFlag) -> io::Result<File> {
    // A pipe that nobody writes to would be waited for.
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut at = File::open(folder)?;
    for part in way {
        at = openat(&at, part.as_ref(), flags, Mode::empty())?.into();
    }
    let kind = at.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() { Ok(at) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The logs that an instance has written, the console's first.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let has_console = folder.join("console.log").is_file();
    let written = open_plain(folder, &LOGS, OFlag::O_DIRECTORY);
    // The very folder that was opened, whatever has its name by now.
    let written = written.and_then(|it| fs::read_dir(format!("/proc/self/fd/{}", it.as_raw_fd())));
    let written = written.into_iter().flatten().flatten();
    let mut names: Vec<String> = written
        .filter(|it| it.file_type().is_ok_and(|it| it.is_file()))
        .filter_map(|it| it.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .filter(|it| it != CONSOLE)
        .collect();
    names.sort();
    names.splice(0..0, has_console.then(|| CONSOLE.to_owned()));
    names
}

async fn print(mut follower: Follower<Place>, is_followed: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    loop {
        match follower.copy(&mut out) {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            done => done?,
        }
        if !is_followed {
            return Ok(());
        }
        // Following a file has no event that works on every file system: look again soon.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_log_that_an_instance_never_wrote_is_refused_with_the_names_of_those_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let refused = |log: &str| format!("{:?}", log_of(at, "i-1", log).unwrap_err());
        assert!(refused("kubelet").contains("it has written none yet"));
        fs::create_dir_all(at.join("upper/var/log/pods")).unwrap();
        for file in ["console.log", "upper/var/log/kubelet.log", "upper/var/log/containerd.log"] {
            fs::write(at.join(file), "x").unwrap();
        }
        assert_eq!(names(at), ["console", "containerd", "kubelet"]);
        assert_eq!(log_of(at, "i-1", "console").unwrap(), ["console.log"]);
        assert_eq!(log_of(at, "i-1", "kubelet").unwrap(), ["upper", "var", "log", "kubelet.log"]);
        for wrong in ["bogus", "../../../etc/passwd", "pods", ""] {
            let said = refused(wrong);
            assert!(said.contains("i-1/console, i-1/containerd, i-1/kubelet"), "{said}");
        }
    }

    #[test]
    fn what_an_instance_links_to_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("i/upper/var/log")).unwrap();
        fs::create_dir_all(at("host")).unwrap();
        fs::write(at("host/secret.log"), "x").unwrap();
        fs::write(at("i/upper/var/log/kubelet.log"), "x").unwrap();
        let open = |file: &str| {
            open_plain(&at("i"), &["upper", "var", "log", file], OFlag::empty()).map(drop)
        };
        assert!(open("kubelet.log").is_ok());
        symlink(at("host/secret.log"), at("i/upper/var/log/link.log")).unwrap();
        assert!(open("link.log").is_err());
        nix::unistd::mkfifo(&at("i/upper/var/log/pipe.log"), Mode::S_IRWXU).unwrap();
        assert!(open("pipe.log").is_err());
        assert_eq!(names(&at("i")), ["kubelet"]);
        // The whole folder, or one above it.
        fs::remove_dir_all(at("i/upper/var/log")).unwrap();
        symlink(at("host"), at("i/upper/var/log")).unwrap();
        assert!(names(&at("i")).is_empty() && open("secret.log").is_err());
    }
}
