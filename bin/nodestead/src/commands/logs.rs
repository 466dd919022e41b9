//! `nodestead logs`: the files that components write, followed like `tail -f`.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use anyhow::Context;

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    failure::Failure,
    layout::Layout,
};

pub(crate) async fn run(args: cli::Logs) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let path = match args.of.as_str() {
        "daemon" => layout.daemon_log(),
        "aws" => layout.aws_log(),
        other => instance_log(&layout, other).await?,
    };
    print_file(&path, args.follow).await
}

/// `i-…` is the instance's console; `i-…/kubelet` a log of one of its processes.
async fn instance_log(layout: &Layout, of: &str) -> anyhow::Result<PathBuf> {
    let (instance, log) = of.split_once('/').unwrap_or((of, "console"));
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let found = status.instances.iter().find(|it| it.id == instance || it.node_name == instance);
    let Some(found) = found else {
        return Err(unknown(instance, &status).into());
    };
    let is_name = log.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_name {
        return Err(Failure::usage(
            format!("`{log}` is not the name of a log"),
            "use console, kubelet, containerd or nodeadm",
        )
        .into());
    }
    let path = match log {
        "console" => found.folder.join("console.log"),
        _ => found.folder.join("upper/var/log").join(format!("{log}.log")),
    };
    Ok(path)
}

pub(crate) fn unknown(instance: &str, status: &DaemonStatus) -> Failure {
    let known: Vec<_> = status.instances.iter().map(|it| it.id.as_str()).collect();
    Failure::usage(
        format!("there is no component or instance `{instance}`"),
        format!("use `daemon`, `aws` or one of: {}", known.join(", ")),
    )
}

async fn print_file(path: &PathBuf, follow: bool) -> anyhow::Result<()> {
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut out = std::io::stdout();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read > 0 {
            out.write_all(&buffer[..read])?;
            out.flush()?;
            continue;
        }
        if !follow {
            return Ok(());
        }
        // Following a file has no event that works on every file system: look again soon.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if std::fs::metadata(path).is_ok_and(|it| it.len() < file.stream_position().unwrap_or(0)) {
            file.seek(SeekFrom::Start(0))?;
        }
    }
}
