//! What user data asks for: node configuration and scripts.
//!
//! User data is a MIME message, a `NodeConfig`, a script, or Bottlerocket's settings; each of them
//! perhaps compressed, or in base64.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use mime_parts::{MimeError, Part};

use crate::bottlerocket;

/// EC2 takes 16 KiB of user data; this is what they may unpack to.
const UNPACKED_LIMIT: u64 = 4 << 20;

/// The media type of a `NodeConfig`.
const NODE_CONFIG: &str = "application/node.eks.aws";

/// What was found in user data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserData {
    /// `NodeConfig` documents, in YAML, in the order in which they are merged.
    pub configs: Vec<String>,
    pub scripts: Vec<Script>,
    /// Media types that nothing here handles.
    pub ignored: Vec<String>,
}

/// Something to run once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub content: Vec<u8>,
}

/// User data that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum UserDataError {
    #[error("failed to unpack compressed user data")]
    Unpack {
        #[source]
        source: std::io::Error,
    },
    #[error("user data unpacks to more than {UNPACKED_LIMIT} bytes")]
    TooLong,
    #[error("user data is a MIME message that cannot be read")]
    Mime {
        #[source]
        source: MimeError,
    },
    #[error("part {number} of user data is not text")]
    NotText { number: usize },
}

impl UserData {
    /// Reads user data as EC2 gives it.
    pub fn parse(data: &[u8]) -> Result<Self, UserDataError> {
        let data = unpack(data)?;
        let mut found = Self::default();
        if mime_parts::is_multipart(&data) {
            let parts =
                mime_parts::parts(&data).map_err(|source| UserDataError::Mime { source })?;
            for (number, part) in parts.into_iter().enumerate() {
                found.add(number + 1, part)?;
            }
        } else if !data.trim_ascii().is_empty() {
            found.add(1, Part { content_type: String::new(), filename: None, body: data })?;
        }
        Ok(found)
    }

    /// Joins the content of several sources, in order.
    pub fn extend(&mut self, other: Self) {
        self.configs.extend(other.configs);
        self.scripts.extend(other.scripts);
        self.ignored.extend(other.ignored);
    }

    fn add(&mut self, number: usize, part: Part) -> Result<(), UserDataError> {
        let body = unpack(&part.body)?;
        let name = part.filename.unwrap_or_else(|| format!("part-{number:03}"));
        let is_script = |kind: &str| {
            matches!(
                kind,
                "text/x-shellscript" | "text/x-shellscript-per-instance" | "text/cloud-boothook"
            )
        };
        match part.content_type.as_str() {
            NODE_CONFIG => self.configs.push(text(number, body)?),
            kind if is_script(kind) => self.scripts.push(Script { name, content: body }),
            // Nothing said, or nothing useful: the content tells.
            "" | "text/plain" if body.starts_with(b"#!") => {
                self.scripts.push(Script { name, content: body });
            }
            "" | "text/plain" if is_cloud_config(&body) => {
                self.ignored.push("text/cloud-config".to_owned());
            }
            "" | "text/plain" if bottlerocket::is_settings(&body) => {
                let (config, ignored) = bottlerocket::node_config(&text(number, body)?);
                self.configs.extend(config);
                self.ignored.extend(ignored);
            }
            "" => self.configs.push(text(number, body)?),
            other => self.ignored.push(other.to_owned()),
        }
        Ok(())
    }
}

fn text(number: usize, body: Vec<u8>) -> Result<String, UserDataError> {
    String::from_utf8(body).map_err(|_| UserDataError::NotText { number })
}

fn is_cloud_config(body: &[u8]) -> bool {
    body.starts_with(b"#cloud-config") || body.starts_with(b"## template: jinja")
}

/// Takes off base64 and gzip, in whichever order they were put on, but not for ever.
fn unpack(data: &[u8]) -> Result<Vec<u8>, UserDataError> {
    const LAYERS: usize = 4;
    let mut data = data.to_vec();
    for _ in 0..LAYERS {
        if data.starts_with(&[0x1f, 0x8b]) {
            data = gunzip(&data)?;
        } else if let Some(decoded) = whole_base64(&data) {
            data = decoded;
        } else {
            break;
        }
    }
    Ok(data)
}

fn gunzip(data: &[u8]) -> Result<Vec<u8>, UserDataError> {
    let mut out = Vec::new();
    let mut limited = MultiGzDecoder::new(data).take(UNPACKED_LIMIT + 1);
    limited.read_to_end(&mut out).map_err(|source| UserDataError::Unpack { source })?;
    if out.len() as u64 > UNPACKED_LIMIT { Err(UserDataError::TooLong) } else { Ok(out) }
}

/// Base64 of something that is user data: plain words are base64 too, so the content decides.
fn whole_base64(data: &[u8]) -> Option<Vec<u8>> {
    let dense = data.trim_ascii();
    let is_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    if dense.len() < 8 || !dense.iter().all(is_alphabet) {
        return None;
    }
    let decoded = mime_parts::decode_base64(dense)?;
    let is_user_data = decoded.starts_with(b"#!")
        || decoded.starts_with(&[0x1f, 0x8b])
        || is_cloud_config(&decoded)
        || mime_parts::is_multipart(&decoded)
        || std::str::from_utf8(&decoded).is_ok_and(|it| it.contains("node.eks.aws"));
    is_user_data.then_some(decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    const CONFIG: &str = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_form_of_a_configuration_is_the_same_configuration() {
        let message = format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\n\
             Content-Type: application/node.eks.aws\n\n{CONFIG}\n--//--\n"
        );
        for data in [
            CONFIG.as_bytes().to_vec(),
            gzip(CONFIG.as_bytes()),
            STANDARD.encode(CONFIG).into_bytes(),
            STANDARD.encode(gzip(CONFIG.as_bytes())).into_bytes(),
            message.clone().into_bytes(),
            gzip(message.as_bytes()),
        ] {
            let found = UserData::parse(&data).unwrap();
            assert_eq!(found.configs.len(), 1, "{data:?}");
            assert!(found.configs[0].starts_with("apiVersion: node.eks.aws"));
            assert!(found.scripts.is_empty());
        }
    }

    #[test]
    fn scripts_are_found_and_foreign_parts_are_named() {
        let script = UserData::parse(b"#!/bin/bash\necho hi\n").unwrap();
        assert_eq!(script.scripts[0].name, "part-001");
        let message = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\
            Content-Type: text/cloud-config\n\npackages: []\n--b\n\
            Content-Type: text/x-shellscript; charset=utf-8\n\n#!/bin/sh\n--b--\n";
        let found = UserData::parse(message).unwrap();
        assert_eq!((found.scripts.len(), found.ignored.len()), (1, 1));
        assert_eq!(UserData::parse(b"").unwrap(), UserData::default());
        assert_eq!(UserData::parse(b"#cloud-config\n").unwrap().configs.len(), 0);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![0; usize::try_from(UNPACKED_LIMIT).unwrap() + 10]);
        assert!(matches!(UserData::parse(&bomb), Err(UserDataError::TooLong)));
        let broken = [0x1f, 0x8b, 1, 2, 3];
        assert!(matches!(UserData::parse(&broken), Err(UserDataError::Unpack { .. })));
    }

    proptest! {
        #[test]
        fn no_user_data_panics(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _outcome = UserData::parse(&data);
        }
    }
}
