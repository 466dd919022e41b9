//! The ports of a region that was up before: they stay, since its clients know them, until it is told
//! otherwise while nothing of it listens.
//!
//! A daemon that was killed keeps its ports until its last thread has ended, after it is counted among the
//! dead: they are waited for.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    cli,
    commands::down,
    failure::Failure,
    layout::{Layout, Settings, write_atomically},
};

/// How long a killed daemon may take to end.
const ENDING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the ports that are asked for, where no daemon runs.
pub(super) fn of_stopped(
    layout: &Layout,
    known: &mut Settings,
    args: &cli::Up,
) -> Result<(), Failure> {
    if down::daemon(layout).is_some() {
        return Ok(());
    }
    known.aws_port = args.aws_port.unwrap_or(known.aws_port);
    known.api_port = args.api_port.or_else(|| of_cluster(layout, known)).unwrap_or(known.api_port);
    if known.aws_port == known.api_port {
        return Err(Failure::usage(
            format!(
                "port {} would be both the AWS endpoint's and the API server's",
                known.aws_port
            ),
            "name another with --aws-port or --api-port",
        ));
    }
    for port in [known.aws_port, known.api_port] {
        if let Some(cluster) = other_cluster(layout, known, port) {
            return Err(Failure::usage(
                format!("port {port} is that of the region's cluster `{cluster}`"),
                "name another with --aws-port or --api-port",
            ));
        }
    }
    Ok(())
}

/// Whose port it is of the region's other clusters, which do not listen while it is down.
fn other_cluster(layout: &Layout, settings: &Settings, port: u16) -> Option<String> {
    let clusters = fs::read_dir(layout.clusters()).ok()?.flatten();
    let has_it = |it: &fs::DirEntry| {
        let text = fs::read_to_string(it.path().join("port")).unwrap_or_default();
        it.file_name() != settings.name.as_str() && text.trim().parse() == Ok(port)
    };
    let found = clusters.into_iter().find(has_it)?;
    Some(found.file_name().to_string_lossy().into_owned())
}

/// Refuses ports that somebody else has, where the region was up and no daemon runs.
pub(super) async fn are_free(layout: &Layout, settings: &Settings) -> Result<(), Failure> {
    if !layout.settings().exists() || down::daemon(layout).is_some() {
        return Ok(());
    }
    // One that was taken down has removed it.
    let was_killed = layout.daemon_state().exists();
    let patience = if was_killed { ENDING } else { Duration::ZERO };
    check(settings.aws_port, "--aws-port", patience).await?;
    check(settings.api_port, "--api-port", patience).await
}

/// Has the region's own cluster listen where its settings say, once they are saved.
pub(super) fn keep(layout: &Layout, settings: &Settings) -> anyhow::Result<()> {
    match of_cluster(layout, settings) {
        Some(port) if port != settings.api_port && down::daemon(layout).is_none() => {
            write_atomically(&file(layout, settings), settings.api_port.to_string().as_bytes())
        }
        _ => Ok(()),
    }
}

fn file(layout: &Layout, settings: &Settings) -> PathBuf {
    layout.clusters().join(&settings.name).join("port")
}

/// What the cluster had when it was made, which may be another one than was preferred.
fn of_cluster(layout: &Layout, settings: &Settings) -> Option<u16> {
    fs::read_to_string(file(layout, settings)).ok()?.trim().parse().ok()
}

async fn check(port: u16, flag: &str, patience: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { return Ok(()) };
        if error.kind() != io::ErrorKind::AddrInUse || begun.elapsed() >= patience {
            return Err(Failure::new(
                format!(
                    "port {port} on 127.0.0.1, which the region has, cannot be listened on ({error})"
                ),
                format!(
                    "end who listens there, or give the region another one with {flag}: its state stays"
                ),
            ));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn args(flags: &[&str]) -> cli::Up {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            up: cli::Up,
        }
        Line::parse_from([&["up"], flags].concat()).up
    }

    fn free() -> u16 {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
    }

    /// A region that is down, and whose cluster listened on a port of its own.
    fn region() -> (tempfile::TempDir, Layout, Settings) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let text = format!(
            r#"{{"name":"a","nodes":0,"instance_type":"m5.large","aws_port":{},"api_port":{},"egress":false}}"#,
            free(),
            free(),
        );
        let settings: Settings = serde_json::from_str(&text).unwrap();
        fs::create_dir_all(layout.clusters().join("a")).unwrap();
        fs::write(file(&layout, &settings), free().to_string()).unwrap();
        (folder, layout, settings)
    }

    #[tokio::test]
    async fn a_port_that_somebody_else_has_is_named_with_the_flag_that_helps() {
        let (_folder, layout, known) = region();
        known.save(&layout).unwrap();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, known.aws_port)).unwrap();
        let said = are_free(&layout, &known).await.unwrap_err().to_string();
        assert!(said.contains(&known.aws_port.to_string()), "{said}");
        drop(other);
        are_free(&layout, &known).await.unwrap();
    }

    #[tokio::test]
    async fn the_ports_of_a_daemon_that_was_just_killed_are_waited_for() {
        let (_folder, layout, known) = region();
        known.save(&layout).unwrap();
        fs::write(layout.daemon_state(), r#"{"pid":1,"start_time":1}"#).unwrap();
        let dying = TcpListener::bind((Ipv4Addr::LOCALHOST, known.aws_port)).unwrap();
        let (free, ()) = tokio::join!(are_free(&layout, &known), async {
            sleep(2 * PAUSE).await;
            drop(dying);
        });
        free.unwrap();
    }

    #[test]
    fn a_region_that_is_down_takes_other_ports_and_keeps_them() {
        let (_folder, layout, mut known) = region();
        let (aws, api) = (free().to_string(), free().to_string());
        let asked = args(&["--aws-port", &aws, "--api-port", &api]);
        of_stopped(&layout, &mut known, &asked).unwrap();
        keep(&layout, &known).unwrap();
        assert_eq!((known.aws_port.to_string(), known.api_port.to_string()), (aws, api.clone()));
        assert_eq!(fs::read_to_string(file(&layout, &known)).unwrap(), api);
    }

    #[test]
    fn the_port_of_another_cluster_of_the_region_is_not_taken() {
        let (_folder, layout, mut known) = region();
        let port = free().to_string();
        fs::create_dir(layout.clusters().join("two")).unwrap();
        fs::write(layout.clusters().join("two/port"), &port).unwrap();
        for flag in ["--aws-port", "--api-port"] {
            let refused = of_stopped(&layout, &mut known.clone(), &args(&[flag, &port]));
            assert!(refused.unwrap_err().to_string().contains("`two`"), "{flag}");
        }
        of_stopped(&layout, &mut known, &args(&[])).unwrap();
    }

    #[test]
    fn without_a_flag_the_cluster_stays_where_it_was() {
        let (_folder, layout, mut known) = region();
        let before = fs::read_to_string(file(&layout, &known)).unwrap();
        of_stopped(&layout, &mut known, &args(&[])).unwrap();
        keep(&layout, &known).unwrap();
        assert_eq!(known.api_port.to_string(), before);
    }

    #[test]
    fn one_port_is_not_both() {
        let (_folder, layout, mut known) = region();
        let port = free().to_string();
        let asked = args(&["--aws-port", &port, "--api-port", &port]);
        assert!(of_stopped(&layout, &mut known, &asked).is_err());
    }
}
