//! `nodestead up`: a region with a cluster and nodes, as a customer of AWS would make them.
//!
//! It starts the daemon and then calls AWS operations at its endpoint: roles, cluster, node group.
//! Each step looks for what is there first, so a second `up` changes nothing (the node group stays
//! as it was scaled since, unless `--nodes` is given) and one that was interrupted goes on.
//!
//! **Invariant:** what is refused is refused before anything is written.

mod aws;
mod disk;
mod interrupt;
mod launch;
mod machine;
mod nodes;
mod ports;

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use latency::Profile;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use region_gateway::Upstream;

pub(crate) use self::launch::{READY, free_port};
use self::{
    interrupt::{Phase, Reached},
    machine::Machine,
};
use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    commands::down,
    failure::Failure,
    layout::{Etcd, Layout, Settings},
    progress::Progress,
};

const AWS_PORT: u16 = 4566;
const API_PORT: u16 = 6443;
/// How long one that was killed may take to be gone.
const ENDING: Duration = Duration::from_secs(5);
/// How long a daemon that is there may take to tell its state.
const STATUS_LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: cli::Up) -> anyhow::Result<()> {
    Machine::observe().verdict()?;
    let layout = Layout::new(&args.at.data_dir)?;
    let reached = Reached::default();
    if args.foreground {
        // There a signal is the way to end the region, and nothing goes on.
        return make(&layout, args, &reached).await;
    }
    interrupt::or_told(make(&layout, args, &reached), &layout, &reached).await
}

async fn make(layout: &Layout, args: cli::Up, reached: &Reached) -> anyhow::Result<()> {
    // Refused before anything is made, so that a refusal leaves nothing.
    ports::are_free(layout, &settings(layout, &args)?).await?;
    machine::check_room(args.nodes.unwrap_or_default())?;
    if !layout.settings().exists() {
        disk::check(layout.root())?;
    }
    if let Some(warning) = disk::warning(layout.root()) {
        eprintln!("{warning}");
    }
    make_folder(layout)?;
    let lock = lock(layout)?;
    let is_new = !layout.settings().exists();
    let settings = settings(layout, &args)?;
    ports::keep(layout, &settings)?;
    settings.save(layout)?;
    reached.set(Phase::Prepared);
    let mut progress = Progress::new(5);
    progress.step("starting the region");
    let started = ensure_daemon(layout, args.foreground, reached).await;
    if started.is_err() && is_new {
        // A region that was never up may have lost its port to another: the next try chooses anew.
        // Why the start failed is what the user has to hear, whatever becomes of this.
        drop(fs::remove_file(layout.settings()));
    }
    let daemon = started?;
    reached.set(Phase::Asking);
    let work = bring_up(layout, &settings, args.nodes, progress, lock, reached);
    match daemon {
        None => work.await,
        Some(daemon) => {
            let work = until_asked(work);
            launch::attend(daemon, work, STEP_LIMIT).await
        }
    }
}

/// What a customer does, at a daemon that answers. Others may work on the region when it is done.
async fn bring_up(
    layout: &Layout,
    settings: &Settings,
    nodes: Option<u32>,
    mut progress: Progress,
    lock: Flock<fs::File>,
    reached: &Reached,
) -> anyhow::Result<()> {
    let admin = Admin::new(layout.admin_socket());
    let status: DaemonStatus = admin.get("/v1/status").await?;
    let region = aws::Customer::new(layout, &status, settings)?;
    progress.step("roles");
    let roles = region.ensure_roles().await?;
    progress.step(format!("cluster {}: control plane and add-ons", settings.name));
    region.ensure_cluster(&roles, &progress).await?;
    link_kubeconfig(layout, &settings.name)?;
    progress.step(format!("nodes: {}", settings.instance_type));
    let nodes = region.ensure_nodes(layout, &roles, nodes, &progress).await?;
    progress.done();
    drop(lock);
    reached.set(Phase::Up);
    report(layout, settings, nodes, &status);
    if let Some((running, all)) = aws::pods(layout).await.filter(|(running, all)| running < all) {
        println!("\n{running} of {all} pods run already; the others follow: kubectl get pods -A");
    }
    Ok(())
}

/// Does `work` and then waits for SIGTERM or Ctrl-C, which end it before it is done too.
async fn until_asked(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut asked = std::pin::pin!(lifecycle::asked_to_end());
    tokio::select! {
        done = work => done?,
        asked = &mut asked => return Ok(asked?),
    }
    Ok(asked.await?)
}

/// Gives the daemon if it is this process's business to stay with it.
async fn ensure_daemon(
    layout: &Layout,
    is_foreground: bool,
    reached: &Reached,
) -> anyhow::Result<Option<tokio::process::Child>> {
    match running(layout, STATUS_LIMIT).await? {
        Some(status) if is_foreground => bail!(Failure::new(
            format!("the region's daemon runs already, in the background (process {})", status.pid),
            "leave --foreground out, or stop it first with `nodestead down`",
        )),
        Some(_) => return Ok(None),
        None => {}
    }
    // One that was killed a moment ago may not be gone yet.
    if let Some(daemon) = down::daemon(layout) {
        daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
        daemon.wait(Duration::from_secs(5));
    }
    launch::install_binaries(layout)?;
    reached.set(Phase::Starting);
    if is_foreground {
        return launch::daemon_in_foreground(layout, STEP_LIMIT).await.map(Some);
    }
    launch::daemon(layout, STEP_LIMIT).await?;
    Ok(None)
}

/// What the daemon says of itself, `None` if there is none. One that is there and does not say it is
/// not ours to end: it serves clusters.
async fn running(layout: &Layout, limit: Duration) -> anyhow::Result<Option<DaemonStatus>> {
    let admin = Admin::new(layout.admin_socket());
    if !admin.is_listened_to().await? {
        return Ok(None);
    }
    let answer = tokio::time::timeout(limit, admin.get("/v1/status")).await;
    let error = match answer {
        Ok(Ok(status)) => return Ok(Some(status)),
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("it did not answer in {limit:?}"),
    };
    // It was just ending, perhaps, and takes its time to.
    let daemon = down::daemon(layout).filter(|it| !it.wait(ENDING));
    let Some(daemon) = daemon else { return Ok(None) };
    bail!(Failure::new(
        format!(
            "the region's daemon runs (process {}), and does not tell its state: {error:#}",
            daemon.pid
        ),
        "see `nodestead logs daemon`, or stop it with `nodestead down`",
    ))
}

/// The data directory, which keeps secrets of IAM and of clusters: nobody but root looks into it.
fn make_folder(layout: &Layout) -> anyhow::Result<()> {
    let root = layout.root();
    let is_ours = !root.exists() || layout.settings().exists();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root).and_then(|()| {
        if is_ours { fs::set_permissions(root, fs::Permissions::from_mode(0o700)) } else { Ok(()) }
    });
    made.map_err(|error| {
        let what = format!("cannot make the data directory `{}` ({error})", root.display());
        Failure::new(what, "name another folder with --data-dir").into()
    })
}

fn report(layout: &Layout, settings: &Settings, nodes: usize, status: &DaemonStatus) {
    let name = layout.root().display();
    let nodes = match nodes {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    println!(
        "{} is up: {}, AWS endpoint {}\n\nGo on with:\n  eval \"$(nodestead env --data-dir {name})\"\n  \
         kubectl get nodes -o wide\n  nodestead status --data-dir {name}",
        settings.name, nodes, status.aws_endpoint
    );
}

/// One `up` or `down` at a time for a data directory.
pub(crate) fn lock(layout: &Layout) -> anyhow::Result<Flock<fs::File>> {
    let file = fs::File::create(layout.lock())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::Error::new(Failure::new(
            format!("another `up` or `down` works on `{}`", layout.root().display()),
            "wait for it to end",
        )),
        errno => {
            anyhow::Error::new(errno).context(format!("cannot lock `{}`", layout.lock().display()))
        }
    })
}

/// What the region is to be: as it was brought up, or as the flags say.
fn settings(layout: &Layout, args: &cli::Up) -> anyhow::Result<Settings> {
    if let Some(mut known) = Settings::load(layout)? {
        let is_stopped = down::daemon(layout).is_none();
        refuse_changes(&known, args, is_stopped)?;
        ports::of_stopped(layout, &mut known, args)?;
        known.nodes = args.nodes.unwrap_or(known.nodes);
        known.without = args.left_out().unwrap_or(known.without);
        return Ok(known);
    }
    let instance_type = args.instance_type.clone().unwrap_or_else(|| "m5.large".to_owned());
    check_instance_type(&instance_type)?;
    if args.aws_port.is_some() && args.aws_port == args.api_port {
        bail!(Failure::usage(
            "--aws-port and --api-port are the same".to_owned(),
            "leave one of them away, or name two ports",
        ));
    }
    let name = args.name.clone().unwrap_or_else(|| "stead".to_owned());
    if !is_cluster_name(&name) {
        bail!(Failure::usage(
            format!("`{name}` is no name of a cluster"),
            "use up to 100 letters, digits, hyphens and underscores; the first is a letter or digit",
        ));
    }
    Ok(Settings {
        name,
        nodes: args.nodes.unwrap_or(3),
        instance_type,
        aws_port: free_port(args.aws_port, AWS_PORT)?,
        api_port: free_port(args.api_port, API_PORT)?,
        egress: args.egress,
        proxy_unowned: upstream(args)?,
        latency: args.latency.map(Into::into).unwrap_or_default(),
        spot_seed: args.spot_seed,
        etcd: etcd(args)?,
        without: args.left_out().unwrap_or_default(),
    })
}

/// Instances run on this machine's own processor.
fn check_instance_type(name: &str) -> anyhow::Result<()> {
    use instance_types::Arch;
    let here = if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::X86_64 };
    let next = "see `aws ec2 describe-instance-types` of a region that is up, or use m5.large";
    match instance_types::find(name) {
        Some(found) if found.arch == here => Ok(()),
        Some(found) => bail!(Failure::usage(
            format!(
                "`{name}` is of architecture {}, and this machine runs {}",
                found.arch.as_str(),
                here.as_str()
            ),
            next,
        )),
        None => bail!(Failure::usage(format!("there is no instance type `{name}`"), next)),
    }
}

/// The other emulator.
fn upstream(args: &cli::Up) -> anyhow::Result<Option<String>> {
    let Some(url) = &args.proxy_unowned else { return Ok(None) };
    match Upstream::parse(url) {
        Ok(_) => Ok(Some(url.clone())),
        Err(error) => bail!(Failure::usage(
            error.to_string(),
            "name it like http://127.0.0.1:4567, with localhost or an address that is not public",
        )),
    }
}

/// EKS's rule.
fn is_cluster_name(name: &str) -> bool {
    let is_in = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    let begins_well = name.starts_with(|it: char| it.is_ascii_alphanumeric());
    begins_well && name.len() <= 100 && name.chars().all(is_in)
}

/// `http://HOST:PORT` or `https://HOST:PORT`.
fn is_etcd_endpoint(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|it| {
        matches!(it.scheme_str(), Some("http" | "https")) && it.port_u16().is_some()
    })
}

/// Where clusters' state shall be: paths are kept whole, as the daemon works elsewhere.
fn etcd(args: &cli::Up) -> anyhow::Result<Option<Etcd>> {
    if args.etcd_endpoints.is_empty() {
        return Ok(None);
    }
    if let Some(wrong) = args.etcd_endpoints.iter().find(|it| !is_etcd_endpoint(it)) {
        bail!(Failure::usage(
            format!("`{wrong}` is no endpoint of etcd"),
            "name it like https://10.0.0.1:2379",
        ));
    }
    let whole = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    Ok(Some(Etcd {
        endpoints: args.etcd_endpoints.clone(),
        ca_file: whole(&args.etcd_cafile)?,
        cert_file: whole(&args.etcd_certfile)?,
        key_file: whole(&args.etcd_keyfile)?,
        prefix: format!("/nodestead/{}", entropy::uuid()),
    }))
}

fn refuse_changes(known: &Settings, args: &cli::Up, is_stopped: bool) -> anyhow::Result<()> {
    let etcd = known.etcd.as_ref().map(|it| it.endpoints.join(","));
    let latency = match known.latency {
        Profile::Instant => "instant",
        Profile::Aws => "aws",
    };
    let differs = [
        ("--name", known.name.clone(), args.name.as_ref().is_some_and(|it| *it != known.name)),
        (
            "--instance-type",
            known.instance_type.clone(),
            args.instance_type.as_ref().is_some_and(|it| *it != known.instance_type),
        ),
        (
            "--aws-port",
            known.aws_port.to_string(),
            !is_stopped && args.aws_port.is_some_and(|it| it != known.aws_port),
        ),
        (
            "--api-port",
            known.api_port.to_string(),
            !is_stopped && args.api_port.is_some_and(|it| it != known.api_port),
        ),
        (
            "--latency",
            latency.to_owned(),
            args.latency.is_some_and(|it| known.latency != it.into()),
        ),
        (
            "--spot-seed",
            known.spot_seed.map(|it| it.to_string()).unwrap_or_default(),
            args.spot_seed.is_some() && args.spot_seed != known.spot_seed,
        ),
        (
            "--etcd-endpoints",
            etcd.clone().unwrap_or_default(),
            !args.etcd_endpoints.is_empty() && etcd != Some(args.etcd_endpoints.join(",")),
        ),
        (
            "--without",
            known.without.join(","),
            !is_stopped && args.left_out().is_some_and(|it| it != known.without),
        ),
        ("--egress", String::new(), args.egress && !known.egress),
        (
            "--proxy-unowned",
            known.proxy_unowned.clone().unwrap_or_default(),
            args.proxy_unowned.is_some() && args.proxy_unowned != known.proxy_unowned,
        ),
    ];
    let Some((flag, value, _)) = differs.into_iter().find(|(.., differs)| *differs) else {
        return Ok(());
    };
    let how = match value.as_str() {
        "" => format!("without {flag}"),
        value => format!("with {flag} {value}"),
    };
    bail!(Failure::usage(
        format!("the region `{}` is there already, {how}", known.name),
        format!(
            "leave {flag} out to go on with it; for another one take it down first (`nodestead down \
             --purge`), or use another --data-dir"
        ),
    ))
}

/// `DIR/kubeconfig` is the cluster's.
fn link_kubeconfig(layout: &Layout, cluster: &str) -> anyhow::Result<()> {
    let target = layout.clusters().join(cluster).join("kubeconfig");
    let text = fs::read(&target).with_context(|| format!("no `{}`", target.display()))?;
    crate::layout::write_atomically(&layout.kubeconfig(), &text)
}

/// How long a step of AWS may take before `up` gives up on it.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(folder: &std::path::Path, more: &[&str]) -> cli::Up {
        let line = ["nodestead", "up", "--data-dir", folder.to_str().unwrap()];
        match Cli::parse_from(line.iter().chain(more)).command {
            Command::Up(args) => args,
            _ => panic!("not up"),
        }
    }

    #[tokio::test]
    async fn what_is_refused_leaves_no_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("region");
        let refused = args(&folder, &["--instance-type", "m99.large"]);
        assert!(settings(&Layout::new(&folder).unwrap(), &refused).is_err());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        for wrong in [
            ["--name", "Bad Name!"],
            ["--etcd-endpoints", "nonsense"],
            ["--proxy-unowned", "https://1.1.1.1"],
        ] {
            assert!(settings(&Layout::new(&folder).unwrap(), &args(&folder, &wrong)).is_err());
        }
        let refused = args(&folder, &["--aws-port", &port]);
        // The whole command, where the machine is fit for it and the user is root.
        assert!(run(refused).await.is_err());
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_tell_its_state_is_left_alone_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let limit = Duration::from_millis(200);
        assert!(running(&layout, limit).await.unwrap().is_none(), "nobody listens");
        let hangs = std::os::unix::net::UnixListener::bind(layout.admin_socket()).unwrap();
        // Of a process that is gone: nothing is in the way of another daemon.
        let gone = linux_process::Identity { pid: std::process::id().cast_signed(), start_time: 1 };
        fs::write(layout.daemon_state(), serde_json::to_vec(&gone).unwrap()).unwrap();
        assert!(running(&layout, limit).await.unwrap().is_none());
        let own = linux_process::Identity::own();
        fs::write(layout.daemon_state(), serde_json::to_vec(&own).unwrap()).unwrap();
        let error = running(&layout, limit).await.unwrap_err();
        assert!(error.to_string().starts_with("the region's daemon runs"), "{error:#}");
        drop(hangs);
        assert!(running(&layout, limit).await.unwrap().is_none(), "nobody listens any more");
    }

    #[test]
    fn another_choice_than_the_regions_is_wrong_usage_and_names_the_regions() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        settings(&layout, &args(folder.path(), &["--name", "one"])).unwrap().save(&layout).unwrap();
        for (asked, said) in [
            (&["--name", "two"][..], "the region `one` is there already, with --name one"),
            (&["--egress"][..], "the region `one` is there already, without --egress"),
            (
                &["--proxy-unowned", "http://127.0.0.1:1"][..],
                "the region `one` is there already, without --proxy-unowned",
            ),
            (
                &["--latency", "aws"][..],
                "the region `one` is there already, with --latency instant",
            ),
        ] {
            let refused = settings(&layout, &args(folder.path(), asked)).err().unwrap();
            assert_eq!(refused.to_string(), said);
            assert_eq!(crate::failure::report(&refused), 2);
        }
        settings(&layout, &args(folder.path(), &["--name", "one"])).unwrap();
    }

    #[test]
    fn parts_of_the_control_plane_are_left_out_and_taken_back_while_the_region_is_down() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let with = |flags: &[&str]| {
            let known = settings(&layout, &args(folder.path(), flags)).unwrap();
            known.save(&layout).unwrap();
            known.without
        };
        assert_eq!(with(&[]), [""; 0]);
        assert_eq!(with(&["--without", "kube-scheduler"]), ["kube-scheduler"]);
        assert_eq!(with(&[]), ["kube-scheduler"], "it stays so");
        let both = ["kube-scheduler", "kube-controller-manager"];
        assert_eq!(with(&["--without", &both.join(",")]), both);
        assert_eq!(with(&["--without", "none"]), [""; 0]);
        assert!(Cli::try_parse_from(["nodestead", "up", "--without", "kubelet"]).is_err());
    }

    #[test]
    fn a_number_of_nodes_that_cannot_be_is_told_with_those_that_can() {
        for wrong in ["-1", "451", "many"] {
            let words = ["nodestead", "up", "--nodes", wrong];
            let refused = cli::parse::command().try_get_matches_from(words);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(&format!("invalid value '{wrong}' for '--nodes")), "{said}");
            assert!(wrong == "many" || said.contains("is not in 0..=450"), "{said}");
        }
    }

    #[test]
    fn only_root_looks_into_a_data_directory_that_was_made_here() {
        let parent = tempfile::tempdir().unwrap();
        let mode =
            |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let layout = Layout::new(&parent.path().join("region")).unwrap();
        make_folder(&layout).unwrap();
        assert_eq!(mode(layout.root()), 0o700);
        let (known, users) = (parent.path().join("known"), parent.path().join("users"));
        for folder in [&known, &users] {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(known.join("settings.json"), "{}").unwrap();
        make_folder(&Layout::new(&known).unwrap()).unwrap();
        make_folder(&Layout::new(&users).unwrap()).unwrap();
        assert_eq!((mode(&known), mode(&users)), (0o700, 0o755), "a user's folder is the user's");
    }
}
