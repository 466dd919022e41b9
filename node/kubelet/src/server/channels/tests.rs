//! What must hold of the channels.

use futures::StreamExt;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::*;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

fn named(name: &str) -> Protocol {
    PROTOCOLS.iter().find(|(it, _)| *it == name).unwrap().1
}

fn frames(channels: &Channels, message: &[u8]) -> Vec<Frame> {
    let mut out = BytesMut::new();
    channels.inbound(&Encoder::default(), message, &mut out);
    std::iter::from_fn(|| decode(&mut out).unwrap()).collect()
}

#[test]
fn only_version_five_can_close_stdin() {
    let old = Channels::of_process(named("v4.channel.k8s.io"), ALL);
    assert_eq!(frames(&old, &[CLOSE, STDIN]), []);
    let new = Channels::of_process(named("v5.channel.k8s.io"), ALL);
    let stream = new.input(STDIN).unwrap().id;
    let closed = Frame::Data { stream, data: Bytes::new(), is_last: true };
    assert_eq!(frames(&new, &[CLOSE, STDIN]), [closed]);
    let data = Frame::Data { stream, data: Bytes::from("x"), is_last: false };
    assert_eq!(frames(&new, b"\0x"), [data]);
}

#[test]
fn callers_write_to_stdin_only() {
    let channels = Channels::of_process(named("v5.channel.k8s.io"), ALL);
    for message in
        [&[STDOUT, b'x'][..], &[ERROR, b'x'], &[RESIZE, b'x'], &[9, b'x'], &[CLOSE, 1], &[]]
    {
        assert_eq!(frames(&channels, message), [], "{message:?}");
    }
}

#[test]
fn base64_channels_are_digits_and_text() {
    let channels = Channels::of_process(named("v4.base64.channel.k8s.io"), ALL);
    let stream = channels.input(STDIN).unwrap().id;
    let data = Frame::Data { stream, data: Bytes::from("hello"), is_last: false };
    assert_eq!(frames(&channels, b"0aGVsbG8="), [data]);
    assert_eq!(frames(&channels, b"0not base64"), []);
    assert_eq!(channels.message(STDOUT, b"hello"), Message::Text("1aGVsbG8=".into()));
}

#[test]
fn before_version_four_the_result_is_the_text_of_a_failure() {
    let channels = Channels::of_process(named("channel.k8s.io"), ALL);
    let line = channels.lines.iter().find(|it| it.channel == ERROR).unwrap();
    let said = |status: &'static str| channels.outbound(line, &Bytes::from(status));
    assert_eq!(said(r#"{"status":"Success"}"#), None);
    let failure = said(r#"{"status":"Failure","message":"exit code 7"}"#).unwrap();
    assert_eq!(failure.into_data(), Bytes::from("\x03exit code 7"));
}

#[test]
fn each_port_has_a_channel_for_data_and_one_for_errors() {
    let channels = Channels::of_ports(named("v4.channel.k8s.io"), &[80, 8080]);
    let layout: Vec<_> = channels
        .lines
        .iter()
        .map(|it| (it.channel, it.is_input, it.headers[1].1.as_str()))
        .collect();
    assert_eq!(layout, [(1, false, "80"), (0, true, "80"), (3, false, "8080"), (2, true, "8080")]);
    // 8080 is 0x1f90. The data's channel is told before the errors'.
    let greetings: Vec<_> = channels.greetings().into_iter().map(Message::into_data).collect();
    assert_eq!(greetings, [&[0, 80, 0][..], &[1, 80, 0], &[2, 0x90, 0x1f], &[3, 0x90, 0x1f]]);
    // An error that a port reports is text already, whatever its channel's number.
    let error = &channels.lines[0];
    let said = channels.outbound(error, &Bytes::from("refused")).unwrap();
    assert_eq!(said.into_data(), Bytes::from("\x01refused"));
}

/// A runtime: reads until `enough`, writes `answer`, and closes.
async fn runtime(far: tokio::io::DuplexStream, answer: BytesMut) {
    let (mut reader, mut writer) = tokio::io::split(far);
    writer.write_all(&answer).await.unwrap();
    writer.shutdown().await.unwrap();
    drop(tokio::io::copy(&mut reader, &mut tokio::io::sink()).await);
}

#[tokio::test]
async fn output_and_result_arrive_although_the_process_reads_no_more_input() {
    let (client, near) = tokio::io::duplex(256);
    let (backend, far) = tokio::io::duplex(256);
    let channels = Channels::of_process(named("v5.channel.k8s.io"), ALL);
    let (encoder, mut answer) = (Encoder::default(), BytesMut::new());
    encoder.data(5, b"out", true, &mut answer);
    encoder.data(1, br#"{"status":"Success"}"#, true, &mut answer);
    let caller = async {
        let socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (mut sink, mut stream) = socket.split();
        let sending = async {
            // More than fits anywhere; it ends when the connection does.
            while sink.send(Message::Binary(vec![STDIN; 4096].into())).await.is_ok() {}
        };
        let receiving = async {
            let mut heard = Vec::new();
            while let Some(Ok(Message::Binary(data))) = stream.next().await {
                heard.push(data);
            }
            heard
        };
        tokio::select! { () = sending => panic!("not before the end"), heard = receiving => heard }
    };
    let (heard, _, _) = tokio::join!(caller, carry(near, backend, channels), runtime(far, answer));
    let expected: [&[u8]; 2] = [b"\x01out", b"\x03{\"status\":\"Success\"}"];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_caller_that_goes_ends_the_runtimes_connection() {
    let (client, near) = tokio::io::duplex(256);
    let (backend, mut far) = tokio::io::duplex(1024);
    let channels = Channels::of_process(named("v5.channel.k8s.io"), ALL);
    drop(client);
    drop(carry(near, backend, channels).await);
    let mut seen = Vec::new();
    far.read_to_end(&mut seen).await.unwrap();
}
