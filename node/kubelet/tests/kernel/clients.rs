//! Clients of the kubelet's server: directly, and kubectl through the API server.

use std::{path::Path, process::Stdio};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::client::generate_key, protocol::Role},
};
use transport::{HttpClient, Place};

use crate::support::{Bed, LIMIT};

impl Bed {
    /// What a server in the pod answers through `kubectl port-forward`.
    pub(crate) async fn forward(&self, config: &Path, pod: &str, port: u16) -> String {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut child = tokio::process::Command::new("kubectl")
            .arg(format!("--kubeconfig={}", config.display()))
            .args(["port-forward", pod, &format!(":{port}")])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("kubectl says where it listens");
        // `Forwarding from 127.0.0.1:40001 -> 8080`
        let address = line.split(' ').nth(2).unwrap().to_owned();
        let client = HttpClient::new(Place::Here, None, LIMIT);
        let request = http::Request::get(format!("http://{address}/index.html"));
        let request = request.body(transport::empty()).unwrap();
        let reply = client.fetch(request, 1 << 16).await.unwrap();
        String::from_utf8(reply.into_body().to_vec()).unwrap()
    }

    fn kubelet_client(&self) -> HttpClient {
        let tls = transport::tls::client_unverified(None).unwrap();
        HttpClient::new(Place::Here, Some(tls), LIMIT)
    }

    /// What the kubelet's server answers.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let uri = format!("https://127.0.0.1:{}{path}", self.port);
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(transport::empty()).unwrap();
        let reply = self.kubelet_client().fetch(request, 1 << 22).await.unwrap();
        let status = reply.status().as_u16();
        (status, String::from_utf8(reply.into_body().to_vec()).unwrap())
    }

    pub(crate) async fn log(&self, pod: &str, container: &str) -> String {
        let uri = format!(
            "https://127.0.0.1:{}/containerLogs/{}/{pod}/{container}",
            self.port,
            self.namespace()
        );
        let request = http::Request::get(uri).body(transport::empty()).unwrap();
        let reply = self.kubelet_client().fetch(request, 1 << 20).await.unwrap();
        String::from_utf8(reply.into_body().to_vec()).unwrap()
    }

    /// `/stats/summary`.
    pub(crate) async fn summary(&self) -> Value {
        let uri = format!("https://127.0.0.1:{}/stats/summary", self.port);
        let request = http::Request::get(uri).body(transport::empty()).unwrap();
        let reply = self.kubelet_client().fetch(request, 1 << 20).await.unwrap();
        serde_json::from_slice(reply.body()).unwrap()
    }

    /// A WebSocket to the kubelet.
    pub(crate) async fn web_socket(
        &self,
        target: &str,
        protocols: &str,
    ) -> WebSocketStream<hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>> {
        let request = http::Request::get(format!("https://127.0.0.1:{}{target}", self.port))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .header("sec-websocket-protocol", protocols)
            .body(transport::empty())
            .unwrap();
        let mut response = self.kubelet_client().send(request).await.unwrap();
        if response.status() != 101 {
            let status = response.status();
            let body = transport::collect(response.into_body(), 1 << 16).await.unwrap();
            panic!("{status}: {}", String::from_utf8_lossy(&body.unwrap_or_default()));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(upgraded);
        WebSocketStream::from_raw_socket(io, Role::Client, None).await
    }

    /// Runs a command as clients with this protocol do, and gives its output and its error channel.
    /// Input goes as text, as the Python client sends it.
    pub(crate) async fn exec_as(
        &self,
        pod: &str,
        container: &str,
        command: &[&str],
        protocol: &str,
        stdin: &str,
    ) -> (String, String) {
        let target = format!(
            "/exec/{}/{pod}/{container}?{}output=1&error=1&input=1",
            self.namespace(),
            command_query(command)
        );
        let mut socket = self.web_socket(&target, protocol).await;
        let is_base64 = protocol.contains("base64");
        let message = match is_base64 {
            true => format!("0{}", BASE64_STANDARD.encode(stdin)),
            false => format!("\0{stdin}"),
        };
        socket.send(Message::Text(message.into())).await.unwrap();
        let mut heard = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let reading = async {
            while let Some(Ok(message)) = socket.next().await {
                let data = match message {
                    Message::Text(_) | Message::Binary(_) => message.into_data(),
                    _ => continue,
                };
                let (channel, data) = match is_base64 {
                    true => (data[0] - b'0', BASE64_STANDARD.decode(&data[1..]).unwrap()),
                    false => (data[0], data[1..].to_vec()),
                };
                heard[usize::from(channel)].extend(data);
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("the exec ends");
        let [_, out, _, error] = heard.map(|it| String::from_utf8(it).unwrap());
        (out, error)
    }

    /// What comes on the data and error channels of two forwarded ports: the first answers as much
    /// as it hears, and hears it only when the second has told its error.
    pub(crate) async fn forward_as(&self, pod: &str, ports: [u16; 2], sent: &str) -> [Vec<u8>; 4] {
        let target =
            format!("/portForward/{}/{pod}?port={}&port={}", self.namespace(), ports[0], ports[1]);
        let mut socket = self.web_socket(&target, "v4.channel.k8s.io").await;
        let mut heard: [Vec<u8>; 4] = Default::default();
        let talking = async {
            let mut is_sent = false;
            while heard[0].len() < sent.len() + 2 {
                if heard[3].len() > 2 && !is_sent {
                    let message = [&[0], sent.as_bytes()].concat();
                    socket.send(Message::Binary(message.into())).await.unwrap();
                    is_sent = true;
                }
                let message = socket.next().await.unwrap().unwrap().into_data();
                heard[usize::from(message[0])].extend_from_slice(&message[1..]);
            }
        };
        tokio::time::timeout(LIMIT, talking).await.expect("it is answered");
        heard
    }

    pub(crate) async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: &[&str],
        stdin: Option<&str>,
    ) -> Ran {
        let mut query = command_query(command);
        query.push_str("output=1&error=1");
        if stdin.is_some() {
            query.push_str("&input=1");
        }
        let target = format!("/exec/{}/{pod}/{container}?{query}", self.namespace());
        let mut socket = self.web_socket(&target, "v5.channel.k8s.io, v4.channel.k8s.io").await;
        if let Some(text) = stdin {
            let message = [&[0], text.as_bytes()].concat();
            socket.send(Message::Binary(message.into())).await.unwrap();
            socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
        }
        let mut ran = Ran::default();
        let reading = async {
            while let Some(Ok(message)) = socket.next().await {
                let Message::Binary(data) = message else { continue };
                let text = String::from_utf8_lossy(&data[1..]);
                match data[0] {
                    1 => ran.stdout.push_str(&text),
                    2 => ran.stderr.push_str(&text),
                    3 => ran.status.push_str(&text),
                    other => panic!("channel {other}"),
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("the exec ends");
        ran
    }
}

fn command_query(command: &[&str]) -> String {
    let escaped = command
        .iter()
        .map(|it| percent_encoding::utf8_percent_encode(it, percent_encoding::NON_ALPHANUMERIC));
    escaped.map(|it| format!("command={it}&")).collect()
}

/// What an exec gave.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub stdout: String,
    pub stderr: String,
    status: String,
}

impl Ran {
    pub(crate) fn exit_code(&self) -> i32 {
        let status: Value = serde_json::from_str(&self.status).unwrap();
        if status["status"] == "Success" {
            return 0;
        }
        let causes = status["details"]["causes"].as_array().unwrap();
        let cause = causes.iter().find(|it| it["reason"] == "ExitCode").unwrap();
        cause["message"].as_str().unwrap().parse().unwrap()
    }
}

/// Runs kubectl, and returns what it printed and how it ended.
pub(crate) async fn kubectl(
    config: &Path,
    arguments: &[&str],
    stdin: &str,
) -> (String, String, Option<i32>) {
    use tokio::io::AsyncWriteExt;
    let mut child = tokio::process::Command::new("kubectl")
        .arg(format!("--kubeconfig={}", config.display()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.as_bytes()).await.unwrap();
    drop(input);
    let done = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let done = done.expect("kubectl ends").unwrap();
    let text = |it: Vec<u8>| String::from_utf8_lossy(&it).into_owned();
    (text(done.stdout), text(done.stderr), done.status.code())
}
