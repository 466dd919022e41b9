//! Go's words for what is no answer.

use std::{io, net::SocketAddr};

use super::tap::Seen;
use crate::probes::attempt::os_text;

/// The addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
}

const BROKEN: &str = "net/http: HTTP/1.x transport connection broken";
/// The kinds of a server's first TLS record.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Versions from here on are none.
const NO_VERSION: u8 = 0x10;

/// Of an error of the connection itself, or of what a TLS server sends in the place of an answer.
pub(super) fn of_connection(error: &io::Error, Ends { local, remote }: Ends) -> Option<String> {
    if let Some(rustls::Error::AlertReceived(alert)) = tls_cause(error) {
        return Some(format!("remote error: tls: {}", alert_text((*alert).into())));
    }
    error.raw_os_error()?;
    let (side, call) = match error.kind() {
        io::ErrorKind::BrokenPipe => ("write", "write"),
        _ => ("read", "read"),
    };
    let local = local.map(|it| it.to_string()).unwrap_or_default();
    Some(format!("{side} tcp {local}->{remote}: {call}: {}", os_text(error)))
}

/// Of what came in the place of an answer's first line; `None` if that was one.
pub(super) fn of_answer(seen: &Seen) -> Option<String> {
    if seen.bytes.is_empty() {
        return seen.has_ended.then(|| "EOF".to_owned());
    }
    let line = seen.bytes.split(|it| *it == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let malformed =
        |what: &str, text: &[u8]| Some(format!("{BROKEN}: malformed {what} {}", quoted(text)));
    let Some(at) = line.iter().position(|it| *it == b' ') else {
        return malformed("HTTP response", line);
    };
    let (version, status) = (&line[..at], line[at..].trim_ascii_start());
    let code = status.split(|it| *it == b' ').next().unwrap_or_default();
    if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) {
        return malformed("HTTP status code", code);
    }
    if !is_version(version) {
        return malformed("HTTP version", version);
    }
    seen.has_ended.then(|| format!("{BROKEN}: unexpected EOF"))
}

fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Whether the first bytes in the place of a TLS record are those of an HTTP answer.
pub(super) fn is_http(seen: &Seen) -> bool {
    seen.bytes == *b"HTTP/"
}

/// Of a handshake that did not come about.
pub(super) fn of_tls(seen: &Seen, error: &io::Error, ends: Ends) -> String {
    if let Some(text) = of_connection(error, ends) {
        return text;
    }
    match seen.bytes[..] {
        [] if seen.has_ended => "EOF".to_owned(),
        _ if seen.has_ended && seen.bytes.len() < 5 => "unexpected EOF".to_owned(),
        [kind, version, ..] if !matches!(kind, ALERT | HANDSHAKE) || version >= NO_VERSION => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        _ if seen.has_ended => "EOF".to_owned(),
        _ => format!("tls: {error}"),
    }
}

fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Go's names of the alerts that a server sends.
fn alert_text(alert: u8) -> String {
    let text = match alert {
        10 => "unexpected message",
        20 => "bad record MAC",
        22 => "record overflow",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "revoked certificate",
        45 => "expired certificate",
        46 => "unknown certificate",
        47 => "illegal parameter",
        48 => "unknown certificate authority",
        49 => "access denied",
        50 => "error decoding message",
        51 => "error decrypting message",
        70 => "protocol version not supported",
        71 => "insufficient security level",
        80 => "internal error",
        86 => "inappropriate fallback",
        90 => "user canceled",
        100 => "no renegotiation",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no application protocol",
        other => return format!("alert({other})"),
    };
    text.to_owned()
}

/// As Go's `%q`.
fn quoted(bytes: &[u8]) -> String {
    let mut text = "\"".to_owned();
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|it| text.push_str(&escaped(it)));
        chunk.invalid().iter().for_each(|it| text.push_str(&format!("\\x{it:02x}")));
    }
    text.push('"');
    text
}

fn escaped(char: char) -> String {
    let number = u32::from(char);
    match char {
        '"' | '\\' => format!("\\{char}"),
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\x0b' => "\\v".to_owned(),
        _ if number < 0x20 || number == 0x7f => format!("\\x{number:02x}"),
        ' ' => " ".to_owned(),
        _ if char.is_control() || char.is_whitespace() => format!("\\u{number:04x}"),
        _ => char.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], has_ended: bool) -> Option<String> {
        let told = of_answer(&Seen { bytes: bytes.to_vec(), has_ended });
        told.map(|it| it.strip_prefix(&format!("{BROKEN}: ")).unwrap_or(&it).to_owned())
    }

    #[test]
    fn what_is_no_status_line_is_told_as_go_reads_it() {
        for (bytes, text) in [
            (
                &b"\x15\x03\x03\x00\x02\x02P"[..],
                r#"malformed HTTP response "\x15\x03\x03\x00\x02\x02P""#,
            ),
            (b"J\0\0\0\n8.0.33\0", r#"malformed HTTP response "J\x00\x00\x00""#),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", r#"malformed HTTP status code "Debian-2""#),
            (b"-ERR wrong number\r\n", r#"malformed HTTP status code "wrong""#),
            (b"220 mail ESMTP\r\n", r#"malformed HTTP status code "mail""#),
            (b"SMTP/1.0 200 OK\r\n", r#"malformed HTTP version "SMTP/1.0""#),
            (b"say \"\\\xff\t\x7f\xe9", r#"malformed HTTP status code "\"\\\xff\t\x7f\xe9""#),
            ("caf\u{e9}\u{a0}".as_bytes(), "malformed HTTP response \"caf\u{e9}\\u00a0\""),
            (b"", "EOF"),
            (b"HTTP/1.1 200 OK\r\n", "unexpected EOF"),
        ] {
            assert_eq!(told(bytes, true).as_deref(), Some(text));
        }
        assert_eq!(told(b"HTTP/1.1 200 OK\r\n", false), None);
        assert_eq!(told(b"", false), None);
    }

    #[test]
    fn a_server_that_begins_as_no_tls_server_does_is_told_so() {
        let ends = Ends { local: None, remote: "192.0.2.1:443".parse().unwrap() };
        let error = io::Error::from(io::ErrorKind::InvalidData);
        let told = |bytes: &[u8], has_ended| {
            of_tls(&Seen { bytes: bytes.to_vec(), has_ended }, &error, ends)
        };
        let other = "tls: first record does not look like a TLS handshake";
        assert_eq!(told(b"SSH-2", false), other);
        assert_eq!(told(b"\x16\x31\x01\0\0", false), other);
        assert_eq!(
            (told(b"", true), told(b"\x16\x03", true)),
            ("EOF".into(), "unexpected EOF".into())
        );
        assert!(told(b"\x16\x03\x01\0\0", false).starts_with("tls: "));
    }
}
