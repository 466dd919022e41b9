//! Servers on loopback that speak something else, or nothing. Time is real.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// What a server that sends this and closes, or stays, comes to in a client's words.
async fn told(scheme: &str, sends: &'static [u8], closes: bool) -> String {
    told_within(Duration::from_secs(10), scheme, sends, closes).await
}

/// The same of one for whose answer the client would wait for ever.
async fn told_late(scheme: &str, sends: &'static [u8]) -> String {
    told_within(Duration::from_millis(700), scheme, sends, false).await
}

async fn told_within(limit: Duration, scheme: &str, sends: &'static [u8], closes: bool) -> String {
    let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let uri: Uri = format!("{scheme}://{address}/x").parse().unwrap();
    let serving = serve(&listener, sends, closes);
    let headers = HeaderMap::new();
    let asking = exchange(address, &uri, &headers, limit);
    let (_held, answer) = tokio::join!(serving, asking);
    match answer {
        Ok(it) => format!("{} {:?}", it.status, it.body),
        Err(AskError::Dial(it)) => format!("dial: {it}"),
        Err(AskError::NoTls(it)) => format!("plain: {it}"),
        Err(AskError::Other(it)) => it,
    }
}

async fn serve(listener: &TcpListener, sends: &[u8], closes: bool) -> Option<TcpStream> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut space = [0; 4096];
    assert!(stream.read(&mut space).await.unwrap() > 0);
    stream.write_all(sends).await.unwrap();
    (!closes).then_some(stream)
}

#[tokio::test]
async fn servers_of_other_protocols_are_told_as_go_tells_them() {
    let broken = "net/http: HTTP/1.x transport connection broken: malformed HTTP";
    let mysql = b"J\0\0\0\n8.0.33\0";
    assert_eq!(told("http", mysql, false).await, format!("{broken} response \"J\\x00\\x00\\x00\""));
    let banner = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
    assert_eq!(told("http", banner, false).await, format!("{broken} status code \"Debian-2\""));
    let alert = b"\x15\x03\x01\0\x02\x02";
    let text = format!("{broken} response \"\\x15\\x03\\x01\\x00\\x02\\x02\"");
    assert_eq!(told("http", alert, true).await, text);
    assert_eq!(told_late("http", alert).await, NO_HEAD, "the line may go on");
    assert_eq!(told("http", b"", true).await, "EOF");
    assert_eq!(told_late("http", b"").await, NO_HEAD);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_answer_and_a_long_one_is_cut() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort";
    assert_eq!(told("http", head, true).await, "200 OK Err(\"unexpected EOF\")");
    assert_eq!(told_late("http", head).await, format!("200 OK Err({NO_BODY:?})"));
    let whole = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nnope";
    assert_eq!(told("http", whole, false).await, "503 Service Unavailable Ok(\"nope\")");
    assert_eq!(
        told("http", b"HTTP/1.0 204 No Content\r\n\r\n", true).await,
        "204 No Content Ok(\"\")"
    );
}

#[tokio::test]
async fn servers_without_tls_are_told_apart() {
    let plain = told("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    assert_eq!(plain, "plain: http: server gave HTTP response to HTTPS client");
    let other = "tls: first record does not look like a TLS handshake";
    assert_eq!(told("https", b"220 mail ESMTP\r\n", false).await, other);
    assert_eq!(
        told("https", b"\x15\x03\x03\0\x02\x02\x28", false).await,
        "remote error: tls: handshake failure"
    );
    assert_eq!(told("https", b"", true).await, "EOF");
    assert_eq!(told_late("https", b"").await, NO_HEAD);
}

#[tokio::test]
async fn whoever_cannot_be_reached_or_hangs_up_is_told_with_both_addresses() {
    let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let uri: Uri = format!("http://{address}/").parse().unwrap();
    let headers = HeaderMap::new();
    let limit = Duration::from_secs(5);
    let resetting = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 1);
        stream.set_zero_linger().unwrap();
    };
    let (answer, ()) = tokio::join!(exchange(address, &uri, &headers, limit), resetting);
    let Err(AskError::Other(text)) = answer else { panic!("it was answered") };
    assert!(text.starts_with("read tcp 127.0.0.1:"), "{text}");
    let ending = format!("->{address}: read: connection reset by peer");
    assert!(text.ends_with(&ending), "{text}");
    drop(listener);
    let Err(AskError::Dial(text)) = exchange(address, &uri, &headers, limit).await else {
        panic!("it was answered")
    };
    assert_eq!(text, format!("dial tcp {address}: connect: connection refused"));
}
