//! A connection to a port: one at a time, made again for the client's next one.
//!
//! Source: `agent/session/plugins/port/port_basic.go` of `amazon-ssm-agent`.

use std::{io, net::SocketAddr, time::Duration};

use aws_ssm::message::payload;
use lifecycle::Scope;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use transport::Place;

use crate::program::{BLOCK, Input, Inside, Output, Program, pair};

const LIMIT: Duration = Duration::from_secs(30);

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// One connection after the other; else the session ends with its first.
    pub(crate) is_forwarding: bool,
}

/// Connects; a session whose port does not answer is over before it begins.
pub(crate) async fn start(scope: &Scope, to: Destination) -> io::Result<Program> {
    let stream = connect(&to).await?;
    let (program, inside) = pair();
    drop(scope.spawn("port", drive(to, stream, inside)));
    Ok(program)
}

async fn connect(to: &Destination) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((to.host.as_str(), to.port)).await?.collect();
    let mut failure = io::Error::other("the name has no address");
    for address in addresses {
        match Place::Here.connect(address, LIMIT).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How one connection ended.
enum Ended {
    /// By the client, or by the port.
    Connection,
    Session,
}

async fn drive(to: Destination, stream: TcpStream, inside: Inside) {
    let Inside { mut input, output } = inside;
    let mut stream = stream;
    loop {
        let ended = carry(stream, &mut input, &output).await;
        if matches!(ended, Ended::Session) || !to.is_forwarding {
            return;
        }
        // The client's next byte begins the next connection.
        let first = loop {
            match input.recv().await {
                None => return,
                Some(Input::Data(bytes)) => break bytes,
                Some(_) => {}
            }
        };
        stream = match connect(&to).await {
            Ok(mut stream) => match stream.write_all(&first).await {
                Ok(()) => stream,
                Err(_) => return,
            },
            Err(error) => {
                tracing::warn!(%error, port = to.port, "the port does not answer any more");
                return;
            }
        };
    }
}

async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    input: &mut mpsc::Receiver<Input>,
    output: &mpsc::Sender<Output>,
) -> Ended {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        loop {
            let mut block = vec![0; BLOCK];
            match reader.read(&mut block).await {
                Ok(length) if length > 0 => block.truncate(length),
                _ => return Ended::Connection,
            }
            if output.send((payload::OUTPUT, block)).await.is_err() {
                return Ended::Session;
            }
        }
    };
    let writing = async {
        loop {
            match input.recv().await {
                None => return Ended::Session,
                Some(Input::Disconnect) => return Ended::Connection,
                Some(Input::Data(bytes)) if writer.write_all(&bytes).await.is_err() => {
                    return Ended::Connection;
                }
                Some(_) => {}
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says each word back, and hangs up after it.
    async fn server(scope: &Scope) -> u16 {
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(scope.spawn("server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut word = [0; 4];
                if stream.read_exact(&mut word).await.is_ok() {
                    stream.write_all(&word).await.unwrap();
                }
            }
        }));
        port
    }

    fn destination(port: u16, is_forwarding: bool) -> Destination {
        Destination { host: "127.0.0.1".to_owned(), port, is_forwarding }
    }

    async fn say(program: &mut Program, word: &str) -> Option<Vec<u8>> {
        program.to.send(Input::Data(word.as_bytes().to_vec())).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), program.from.recv());
        answer.await.unwrap().map(|it| it.1)
    }

    #[tokio::test]
    async fn the_next_connection_is_made_where_the_port_has_hung_up() {
        let scope = Scope::new();
        let port = server(&scope).await;
        let mut program = start(&scope, destination(port, true)).await.unwrap();
        for word in ["ping", "pong"] {
            assert_eq!(say(&mut program, word).await.unwrap(), word.as_bytes());
            program.to.send(Input::Disconnect).await.unwrap();
        }
        let mut once = start(&scope, destination(port, false)).await.unwrap();
        assert_eq!(say(&mut once, "ping").await.unwrap(), b"ping");
        assert_eq!(once.from.recv().await, None, "the session ends with its connection");
        scope.cancel();
    }

    #[tokio::test]
    async fn a_port_that_does_not_answer_is_told_at_once() {
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(start(&Scope::new(), destination(port, true)).await.is_err());
    }
}
