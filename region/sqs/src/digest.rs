//! The digests that SDKs compare with their own.
//!
//! Source: Amazon SQS developer guide, "Calculating the MD5 message digest for message attributes".

use std::collections::BTreeMap;

use aws_sqs::message::MessageAttributeValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

pub(crate) fn of_body(body: &str) -> String {
    hex::encode(Md5::digest(body))
}

/// `None` without attributes.
pub(crate) fn of_attributes(
    attributes: &BTreeMap<String, MessageAttributeValue>,
) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    // In the order of their names, as the map has them.
    for (name, value) in attributes {
        add(&mut digest, name.as_bytes());
        add(&mut digest, value.data_type.as_bytes());
        if let Some(binary) = &value.binary_value {
            digest.update([2]);
            add(&mut digest, &STANDARD.decode(binary).unwrap_or_default());
        } else {
            digest.update([1]);
            add(&mut digest, value.string_value.as_deref().unwrap_or_default().as_bytes());
        }
    }
    Some(hex::encode(digest.finalize()))
}

fn add(digest: &mut Md5, bytes: &[u8]) {
    digest.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    digest.update(bytes);
}
