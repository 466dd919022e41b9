//! systemd's notification protocol (sd_notify(3)), the receiving side: one datagram says `READY=1`.

use std::{fs, io, os::unix::net::UnixDatagram as StdDatagram, path::Path, process::Command};

use tokio::net::UnixDatagram;

const FOLDER: &str = "/run/nodestead/notify";

/// A service that was asked to say when it is ready.
#[derive(Debug)]
pub(crate) struct Readiness(UnixDatagram);

impl Readiness {
    /// Has the service `name`, which `command` will start, notify this process.
    pub(crate) fn of(name: &str, command: &mut Command) -> io::Result<Self> {
        let folder = Path::new(FOLDER);
        fs::create_dir_all(folder)?;
        Self::at(&folder.join(name), command)
    }

    fn at(path: &Path, command: &mut Command) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = StdDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        command.env("NOTIFY_SOCKET", path);
        Ok(Self(UnixDatagram::from_std(socket)?))
    }

    /// Ends when the service has said that it is ready.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        loop {
            let len = self.0.recv(&mut buffer).await?;
            if says_ready(&buffer[..len]) {
                return Ok(());
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_news_than_readiness_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let readiness = Readiness::at(&path, &mut Command::new("true")).unwrap();
        let sender = StdDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=READY=1 soon", &path).unwrap();
        sender.send_to(b"MAINPID=7\nREADY=1\n", &path).unwrap();
        readiness.wait().await.unwrap();
    }
}
