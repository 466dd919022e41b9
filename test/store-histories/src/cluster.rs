//! etcd on this machine (Debian's package etcd-server): members that are killed and started again.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use free_port::free_port;
use tempfile::TempDir;

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Members of one cluster; they are killed with it.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Cluster {
    /// `None` where etcd is not installed.
    ///
    /// # Errors
    ///
    /// Where there is no folder for it.
    pub fn start(size: usize) -> io::Result<Option<Self>> {
        let member = |index| Member {
            name: format!("m{index}"),
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        let members = (0..size).map(member).collect();
        let mut cluster = Self { members, folder: TempDir::new()? };
        for index in 0..size {
            match cluster.restart(index) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    eprintln!("not run: there is no etcd (apt-get install etcd-server)");
                    return Ok(None);
                }
                done => done?,
            }
        }
        Ok(Some(cluster))
    }

    /// Where each member answers clients, this one first.
    pub fn endpoints(&self, first: usize) -> Vec<String> {
        let mut all: Vec<_> = self.members.iter().map(|it| url(it.client)).collect();
        let size = all.len();
        all.rotate_left(first % size);
        all
    }

    /// Starts a member, or starts it again over what it had written.
    ///
    /// # Errors
    ///
    /// Where there is no etcd.
    pub fn restart(&mut self, index: usize) -> io::Result<()> {
        let all: Vec<_> =
            self.members.iter().map(|it| format!("{}={}", it.name, url(it.peer))).collect();
        let member = &mut self.members[index];
        let (client, peer) = (url(member.client), url(member.peer));
        let command = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.folder.path().join(&member.name))
            .args(["--name", &member.name, "--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        member.process = Some(command?);
        Ok(())
    }

    /// `kill -9`. What others were asked of it is never answered.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// The member that leads, by what it says itself.
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| {
            let text = metrics(member.client).unwrap_or_default();
            text.lines().any(|it| it == "etcd_server_is_leader 1")
        };
        let runs = |it: &&Member| it.process.is_some();
        let leader = self.members.iter().filter(runs).find(|it| leads(it))?;
        self.members.iter().position(|it| it.name == leader.name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

fn metrics(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
