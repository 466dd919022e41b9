//! Public keys that users bring, and their fingerprints.
//!
//! What is kept is the key alone, with the pair's name in place of the comment: nothing else of what was
//! brought gets into an instance's `authorized_keys`.
//!
//! Source: EC2 user guide, "Verify the fingerprint of your key pair"; RFC 4253 §6.6 and RFC 8709 for the
//! form; RFC 8017 A.1.1 and RFC 3279 for RSA's DER form.

use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD};
use md5::Md5;
use sha2::{Digest, Sha256};

/// EC2 takes RSA keys of 1024, 2048 and 4096 bits.
const RSA_BITS: [usize; 3] = [1024, 2048, 4096];

pub(super) struct PublicKey {
    key: Key,
    /// As it is in OpenSSH's base64.
    blob: Vec<u8>,
}

enum Key {
    Rsa { exponent: Vec<u8>, modulus: Vec<u8> },
    Ed25519,
}

impl PublicKey {
    /// Reads an OpenSSH line, which comes in base64.
    pub(super) fn parse(material: &str) -> Result<Self, Fault> {
        Self::read(material).ok_or_else(|| {
            Fault::new("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
        })
    }

    fn read(material: &str) -> Option<Self> {
        let packed: String = material.split_ascii_whitespace().collect();
        let text = String::from_utf8(BASE64_STANDARD.decode(packed).ok()?).ok()?;
        let mut lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        let mut words = line.split_ascii_whitespace();
        let (kind, blob) = (words.next()?, BASE64_STANDARD.decode(words.next()?).ok()?);
        let mut fields = Fields(&blob);
        if fields.next()? != kind.as_bytes() {
            return None;
        }
        let key = match kind {
            "ssh-rsa" => {
                let (exponent, modulus) = (fields.next()?.to_vec(), fields.next()?.to_vec());
                let is_known = RSA_BITS.contains(&bits(&modulus)) && bits(&exponent) > 1;
                is_known.then_some(Key::Rsa { exponent, modulus })?
            }
            "ssh-ed25519" => (fields.next()?.len() == 32).then_some(Key::Ed25519)?,
            _ => return None,
        };
        fields.0.is_empty().then_some(Self { key, blob })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.key {
            Key::Rsa { .. } => "rsa",
            Key::Ed25519 => "ed25519",
        }
    }

    /// A line of `authorized_keys`.
    pub(super) fn line(&self, name: &str) -> String {
        format!("ssh-{} {} {name}", self.kind(), BASE64_STANDARD.encode(&self.blob))
    }

    /// Of RSA keys that are imported, EC2 takes the MD5 of the DER form.
    pub(super) fn fingerprint(&self) -> String {
        match &self.key {
            Key::Rsa { exponent, modulus } => with_colons(&Md5::digest(spki(exponent, modulus))),
            Key::Ed25519 => sha256(&self.blob),
        }
    }
}

/// EC2 keeps base64's padding, which ssh-keygen leaves out.
pub(super) fn sha256(blob: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(blob))
}

pub(super) fn with_colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Strings behind their lengths.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }
}

/// How long a number is that is written as a positive one.
fn bits(number: &[u8]) -> usize {
    let digits = number.iter().skip_while(|it| **it == 0);
    let first = digits.clone().next().map_or(0, |it| it.leading_zeros());
    (digits.count() * 8).saturating_sub(usize::try_from(first).unwrap_or(0))
}

/// SubjectPublicKeyInfo, in DER. Numbers of SSH are as those of DER.
fn spki(exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    let key = der(0x30, &[der(0x02, modulus), der(0x02, exponent)].concat());
    let key = der(0x03, &[vec![0], key].concat());
    der(0x30, &[der(0x30, RSA), key].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|it| *it != 0).unwrap_or(length.len() - 1);
    let length = length.get(first..).unwrap_or_default();
    let mut bytes = vec![tag];
    if content.len() >= 0x80 {
        bytes.push(0x80 | u8::try_from(length.len()).unwrap_or(8));
    }
    bytes.extend(length);
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with ssh-keygen; the fingerprint with
    /// `ssh-keygen -e -m pkcs8 -f key.pub | openssl pkey -pubin -outform DER | openssl md5 -c`.
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDEYA1wcSiIyzouno1Cr+KTMZRsHq63QXiXj69Sek+99lY1xTMq9hsaG8o5xJuW6g+1Ht1q8rZISAd0w1PDW081EQdBJ/L8qBmXabqMJ/a9KdAbaNGmQrLJ1KcAly1P24u4o/DYWgoHtLKqXyXALcuBOPwpJz1iA+wpRsX/33C3kWcjmfEdCTFGoXzAtifHcwEDmKdI0M+EKqK+C/Eah6umeQVRSMF11au9NT4sOjLKDB8uPgG4RU0CIHpuS/CNnqSh5MGelPGwRzgV71JRiWrxftfKVR/eQqq6SRohassRp+Ls8WcZ6BkyrdTX5bD6wSE4INMPUNrmruUmMwTPPEEj a comment";
    const RSA_MD5: &str = "4a:7d:cc:c7:1d:80:f8:a2:52:49:56:b6:6e:fb:d8:d8";
    /// The fingerprint with `ssh-keygen -l`, and its padding.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINutNXK7IhFjX6qEPWheUWrXcb6/NT9bVEV1DxFqRp5M comment";
    const ED25519_SHA256: &str = "544fx4xRNW/BfZPPHOHyCOShwtsuGpCashC7V26ZuwY=";

    fn parse(line: &str) -> Option<PublicKey> {
        PublicKey::read(&BASE64_STANDARD.encode(line))
    }

    #[test]
    fn fingerprints_are_those_that_ec2_shows() {
        let rsa = parse(RSA).unwrap();
        assert_eq!((rsa.kind(), rsa.fingerprint().as_str()), ("rsa", RSA_MD5));
        let ed25519 = parse(ED25519).unwrap();
        assert_eq!((ed25519.kind(), ed25519.fingerprint().as_str()), ("ed25519", ED25519_SHA256));
    }

    #[test]
    fn the_name_takes_the_place_of_the_comment() {
        let key = ED25519.rsplit_once(' ').unwrap().0;
        assert_eq!(parse(ED25519).unwrap().line("mine"), format!("{key} mine"));
        assert_eq!(parse(&format!("{key}\n")).unwrap().line("mine"), format!("{key} mine"));
    }

    #[test]
    fn what_is_not_one_key_is_refused() {
        let key = ED25519.split(' ').nth(1).unwrap();
        for line in [
            String::new(),
            "ssh-ed25519".to_owned(),
            format!("{ED25519}\n{RSA}"),
            format!("command=\"sh\" {ED25519}"),
            format!("ssh-rsa {key}"),
            format!("ssh-dss {key}"),
            format!("ssh-ed25519 {}", &key[..key.len() - 4]),
            format!("ssh-ed25519 {}", BASE64_STANDARD.encode(b"\xff\xff\xff\xffx")),
        ] {
            assert!(parse(&line).is_none(), "{line}");
        }
    }

    #[test]
    fn lengths_of_der_are_as_short_as_they_can_be() {
        assert_eq!(der(4, b"x"), [4, 1, b'x']);
        assert_eq!(der(4, &[7; 0x80])[..4], [4, 0x81, 0x80, 7]);
        assert_eq!(der(4, &[7; 0x100])[..5], [4, 0x82, 1, 0, 7]);
        assert_eq!(der(5, b""), [5, 0]);
    }
}
