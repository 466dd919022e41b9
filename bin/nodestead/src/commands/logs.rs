//! `nodestead logs`: the files that components write, followed like `tail -f`.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    failure::{Failure, NEXT},
    layout::Layout,
};

/// What an instance's init and user data print.
const CONSOLE: &str = "console";
/// The logs that are no instance's.
pub(crate) const COMPONENTS: [&str; 2] = ["daemon", "aws"];

pub(crate) async fn run(args: cli::Logs) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let path = match args.of.as_str() {
        "daemon" => layout.daemon_log(),
        "aws" => layout.aws_log(),
        other => instance_log(&layout, other).await?,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::unreadable(&path, &error).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("no region has written `{}` yet", path.display());
            return Err(Failure::new(what, NEXT).into());
        }
        opened => opened.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    print_file(file, &path, args.follow).await
}

/// `i-…` is the instance's console; `i-…/kubelet` a log of one of its processes.
async fn instance_log(layout: &Layout, of: &str) -> anyhow::Result<PathBuf> {
    let (instance, log) = of.split_once('/').unwrap_or((of, CONSOLE));
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let found = status.instance(instance).map_err(|error| match of.contains('/') {
        true => error,
        false => error.or(&format!("or one of: {}", COMPONENTS.join(", "))),
    })?;
    Ok(log_of(&found.folder, &found.id, log)?)
}

/// A log's file, if the instance has written it.
fn log_of(folder: &Path, id: &str, log: &str) -> Result<PathBuf, Failure> {
    let known = names(folder);
    if !known.iter().any(|it| it == log) {
        let known: Vec<_> = known.iter().map(|it| format!("{id}/{it}")).collect();
        let next = match known.as_slice() {
            [] => "it has written none yet: see `nodestead status`".to_owned(),
            known => format!("use one of: {}", known.join(", ")),
        };
        return Err(Failure::new(format!("instance {id} has no log `{log}`"), next));
    }
    Ok(match log {
        CONSOLE => folder.join("console.log"),
        _ => folder.join("upper/var/log").join(format!("{log}.log")),
    })
}

/// The logs that an instance has written, the console's first.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let has_console = folder.join("console.log").is_file();
    let written = fs::read_dir(folder.join("upper/var/log")).into_iter().flatten().flatten();
    let mut names: Vec<String> = written
        .filter(|it| it.file_type().is_ok_and(|it| it.is_file()))
        .filter_map(|it| it.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .filter(|it| it != CONSOLE)
        .collect();
    names.sort();
    names.splice(0..0, has_console.then(|| CONSOLE.to_owned()));
    names
}

async fn print_file(mut file: File, path: &Path, follow: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read > 0 {
            match out.write_all(&buffer[..read]).and_then(|()| out.flush()) {
                // Whoever reads it has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
            continue;
        }
        if !follow {
            return Ok(());
        }
        // Following a file has no event that works on every file system: look again soon.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if fs::metadata(path).is_ok_and(|it| it.len() < file.stream_position().unwrap_or(0)) {
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(log_of(at, "i-1", "console").unwrap(), at.join("console.log"));
        assert_eq!(log_of(at, "i-1", "kubelet").unwrap(), at.join("upper/var/log/kubelet.log"));
        for wrong in ["bogus", "../../../etc/passwd", "pods", ""] {
            let said = refused(wrong);
            assert!(said.contains("i-1/console, i-1/containerd, i-1/kubelet"), "{said}");
        }
    }
}
