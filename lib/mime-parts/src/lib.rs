//! MIME messages, as far as user data uses them: headers, multipart bodies, transfer encodings.
//!
//! EKS adds a part to a customer's message and nodeadm takes the whole apart: both read it alike.
//!
//! Source: RFC 2045 and 2046. Whatever is not understood is an error; nothing here panics.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// How deep messages may be in messages.
const DEPTH: usize = 4;
/// How many parts a message may have.
const PARTS: usize = 256;

/// A part that is not itself multipart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// In lower case, without parameters: `application/node.eks.aws`.
    pub content_type: String,
    pub filename: Option<String>,
    pub body: Vec<u8>,
}

/// A message that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MimeError {
    #[error("a multipart message says no boundary")]
    NoBoundary,
    #[error("the boundary `{boundary}` does not occur in the message")]
    NoParts { boundary: String },
    #[error("a part's base64 cannot be decoded")]
    Base64,
    #[error("the transfer encoding `{encoding}` is not known")]
    Encoding { encoding: String },
    #[error("messages are nested more than {DEPTH} deep, or have more than {PARTS} parts")]
    TooMany,
}

/// Says whether `data` begins with the headers of a multipart message.
pub fn is_multipart(data: &[u8]) -> bool {
    let (headers, _) = split_head(data);
    Headers::parse(headers).is_multipart()
}

/// The boundary that the headers of a multipart message name; `None` for anything else.
pub fn boundary(data: &[u8]) -> Option<String> {
    let (head, _) = split_head(data);
    boundary_of(&Headers::parse(head))
}

fn boundary_of(headers: &Headers) -> Option<String> {
    let full = headers.value("content-type").filter(|_| headers.is_multipart())?;
    parameter(&full, "boundary").filter(|it| !it.is_empty())
}

/// The parts of a message, depth first.
pub fn parts(data: &[u8]) -> Result<Vec<Part>, MimeError> {
    let mut found = Vec::new();
    walk(data, 0, &mut found)?;
    Ok(found)
}

fn walk(data: &[u8], depth: usize, found: &mut Vec<Part>) -> Result<(), MimeError> {
    if depth > DEPTH || found.len() >= PARTS {
        return Err(MimeError::TooMany);
    }
    let (head, body) = split_head(data);
    let headers = Headers::parse(head);
    if !headers.is_multipart() {
        let content_type = headers.content_type();
        let encoding = headers.value("content-transfer-encoding").unwrap_or_default();
        let disposition = headers.value("content-disposition").unwrap_or_default();
        let filename = parameter(&disposition, "filename");
        found.push(Part { content_type, filename, body: decode(body, &encoding)? });
        return Ok(());
    }
    let boundary = boundary_of(&headers).ok_or(MimeError::NoBoundary)?;
    let sections = sections(body, &boundary);
    if sections.is_empty() {
        return Err(MimeError::NoParts { boundary });
    }
    for section in sections {
        walk(section, depth + 1, found)?;
    }
    Ok(())
}

/// What is between the boundary's lines. A message that is cut off ends with its last line.
fn sections<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let open = format!("--{boundary}");
    let close = format!("--{boundary}--");
    let mut found = Vec::new();
    let mut begin: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let is_close = text == close.as_bytes();
        if text == open.as_bytes() || is_close {
            if let Some(begin) = begin {
                found.push(without_line_end(&body[begin..at]));
            }
            begin = (!is_close).then_some(at + line.len());
            if is_close {
                return found;
            }
        }
        at += line.len();
    }
    if let Some(begin) = begin {
        found.push(&body[begin..]);
    }
    found
}

/// The line end before a boundary belongs to the boundary.
fn without_line_end(section: &[u8]) -> &[u8] {
    let section = section.strip_suffix(b"\n").unwrap_or(section);
    section.strip_suffix(b"\r").unwrap_or(section)
}

/// Headers and body, which an empty line parts. Without headers all is body.
fn split_head(data: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        if text.is_empty() {
            return (&data[..at], &data[at + line.len()..]);
        }
        let is_continued = at > 0 && line.first().is_some_and(u8::is_ascii_whitespace);
        if !is_continued && !is_header(text) {
            return (&[], data);
        }
        at += line.len();
    }
    (data, &[])
}

fn is_header(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    name.len() < line.len() && !name.is_empty() && name.iter().all(is_name)
}

#[derive(Debug, Default)]
struct Headers(Vec<(String, String)>);

impl Headers {
    fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let is_continued = line.starts_with([' ', '\t']);
            match (headers.last_mut(), line.split_once(':')) {
                (Some((_, value)), _) if is_continued => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                (_, Some((name, value))) => {
                    headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                _ => {}
            }
        }
        Self(headers)
    }

    fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone())
    }

    fn is_multipart(&self) -> bool {
        self.content_type().starts_with("multipart/")
    }

    /// RFC 2046's default is plain text.
    fn content_type(&self) -> String {
        let value = self.value("content-type").unwrap_or_else(|| "text/plain".to_owned());
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// `name` of `a; name="b"; c=d`.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn decode(body: &[u8], encoding: &str) -> Result<Vec<u8>, MimeError> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "7bit" | "8bit" | "binary" => Ok(body.to_vec()),
        "base64" => decode_base64(body).ok_or(MimeError::Base64),
        "quoted-printable" => Ok(quoted_printable(body)),
        other => Err(MimeError::Encoding { encoding: other.to_owned() }),
    }
}

/// Base64 with line ends anywhere and padding or not.
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
    let dense: Vec<u8> = text.iter().copied().filter(|it| !it.is_ascii_whitespace()).collect();
    engine.decode(dense).ok()
}

fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        let soft = [b"\r\n".as_slice(), b"\n"].into_iter().find_map(|it| rest.strip_prefix(it));
        if let Some(after) = soft {
            rest = after;
            continue;
        }
        let code = rest
            .get(..2)
            .and_then(|it| std::str::from_utf8(it).ok())
            .and_then(|it| u8::from_str_radix(it, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &rest[2..];
            }
            None => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &str = "MIME-Version: 1.0\r\n\
Content-Type: multipart/mixed;\r\n boundary=\"==B==\"\r\n\r\n\
preamble\r\n--==B==\r\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\r\n\
Content-Disposition: attachment; filename=\"a.sh\"\r\n\r\n#!/bin/sh\necho a\r\n\r\n\
--==B==\r\nContent-Type: Application/Node.EKS.aws\r\nContent-Transfer-Encoding: base64\r\n\r\n\
a2luZDog\r\nTm9kZQ==\r\n--==B==--\r\nepilogue\r\n";

    #[test]
    fn a_message_is_taken_apart() {
        assert!(is_multipart(MESSAGE.as_bytes()));
        let parts = parts(MESSAGE.as_bytes()).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].content_type, "text/x-shellscript");
        assert_eq!(parts[0].filename.as_deref(), Some("a.sh"));
        assert_eq!(parts[0].body, b"#!/bin/sh\necho a\r\n");
        assert_eq!(parts[1].content_type, "application/node.eks.aws");
        assert_eq!(parts[1].body, b"kind: Node");
    }

    #[test]
    fn the_boundary_is_found_however_it_is_written() {
        let of = |headers: &str| boundary(format!("{headers}\r\n\r\n--x\r\n").as_bytes());
        for good in [
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"x\"",
            "content-type: Multipart/Mixed;\n boundary=x; charset=utf-8",
        ] {
            assert_eq!(of(good).as_deref(), Some("x"), "{good}");
        }
        assert_eq!(of("#!/bin/bash\necho boundary=x"), None);
        assert_eq!(of("Content-Type: text/plain; boundary=x"), None);
    }

    #[test]
    fn a_message_in_a_message_is_flattened_and_too_many_are_refused() {
        let inner = MESSAGE.replace("==B==", "==I==");
        let outer = format!("Content-Type: multipart/mixed; boundary=o\n\n--o\n{inner}\n--o--\n");
        assert_eq!(parts(outer.as_bytes()).unwrap().len(), 2);
        let mut deep = "x".to_owned();
        for level in 0..10 {
            deep = format!(
                "Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n{deep}\n--b{level}--\n"
            );
        }
        assert_eq!(parts(deep.as_bytes()), Err(MimeError::TooMany));
    }

    #[test]
    fn what_is_broken_is_said() {
        let no_boundary = b"Content-Type: multipart/mixed\n\nx";
        assert_eq!(parts(no_boundary), Err(MimeError::NoBoundary));
        let none = b"Content-Type: multipart/mixed; boundary=b\n\nx";
        assert!(matches!(parts(none), Err(MimeError::NoParts { .. })));
        let bad = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n!!\n--b--";
        assert_eq!(parts(bad), Err(MimeError::Base64));
    }

    #[test]
    fn yaml_and_scripts_are_not_messages() {
        assert!(!is_multipart(b"apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n"));
        assert!(!is_multipart(b"#!/bin/sh\nContent-Type: multipart/mixed\n"));
        assert!(!is_multipart(b""));
    }

    #[test]
    fn quoted_printable_is_decoded() {
        assert_eq!(quoted_printable(b"a=3Db=\r\nc=zz="), b"a=bc=zz=");
    }

    proptest! {
        #[test]
        fn no_input_panics(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _outcome = parts(&data);
        }

        #[test]
        fn no_text_after_a_multipart_header_panics(text in "(--b|--b--|\r|\n|[a-z:; =\"-]){0,80}") {
            let message = format!("Content-Type: multipart/mixed; boundary=b\n\n{text}");
            let _outcome = parts(message.as_bytes());
        }
    }
}
