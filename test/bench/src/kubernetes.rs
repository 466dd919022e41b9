//! An API server alone, with the store that is the default: a file, written through to the disk.
//!
//! It runs as `nodestead run kube-apiserver` on the loopback, in a folder that goes with it. The
//! client shares the machine's cores with it, as in every row of this table.

mod checks;
mod fan_out;
mod loads;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tempfile::TempDir;

use crate::rows::{Row, millis};

const NAMESPACE: &str = "bench";
const START_LIMIT: Duration = Duration::from_secs(60);
/// Objects of the cold start, and how they are spread over kinds is of no account: one kind.
const STORED: usize = 50_000;

pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let mut server = Server::start().await?;
    let namespaces = Api::<Namespace>::all(server.client().await?);
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    // No controller runs here that would make the account that pods have.
    let accounts = Api::<ServiceAccount>::namespaced(server.client().await?, NAMESPACE);
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    let mut rows = vec![checks::node_pool()?, checks::admission(&server).await?];
    rows.push(loads::creates(&server).await?);
    rows.extend(loads::pods(&server).await?);
    rows.push(loads::reads_beside_writes(&server).await?);
    rows.push(fan_out::watchers(&server).await?);
    rows.push(fan_out::memory(&server).await?);
    rows.push(cold_start(&mut server).await?);
    Ok(rows)
}

/// From the start of a process over a store that its predecessor left by `kill -9` until it lists.
async fn cold_start(server: &mut Server) -> anyhow::Result<Row> {
    loads::fill(server, STORED).await?;
    let started = Instant::now();
    server.kill_and_start().await?;
    let taken = started.elapsed();
    let what = format!("start of a killed API server with {STORED} objects more, until it answers");
    Ok(Row::new(what, millis(taken), millis(server.first_start), "2 s"))
}

/// Killed when the value goes; then its folder goes.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    process: Child,
    /// The floor of a start: with nothing in the store.
    first_start: Duration,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let folder = crate::disk_folder()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = Instant::now();
        let process = spawn(folder.path(), port)?;
        let mut server = Self { folder, port, process, first_start: Duration::ZERO };
        server.answers().await?;
        server.first_start = started.elapsed();
        Ok(server)
    }

    async fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(self.folder.path(), self.port)?;
        self.answers().await
    }

    /// Waits until it lists namespaces.
    async fn answers(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                anyhow::bail!("the API server ended: {status}");
            }
            let listed = async {
                let namespaces = Api::<Namespace>::all(self.client().await?);
                anyhow::Ok(namespaces.list_metadata(&Default::default()).await?)
            };
            match listed.await {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_LIMIT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.folder.path().join("admin.conf"))?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    pub(crate) async fn clients(&self, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.client().await?);
        }
        Ok(clients)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn spawn(folder: &Path, port: u16) -> anyhow::Result<Child> {
    let binary = std::env::var_os("NODESTEAD").context("run this with `make bench`")?;
    let mut command = Command::new(binary);
    command.args(["run", "kube-apiserver", "--bind-address", "127.0.0.1"]);
    command.arg("--secure-port").arg(port.to_string()).arg("--data-dir").arg(folder);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().context("no API server")
}
