//! New key pairs, in the forms that OpenSSH reads.
//!
//! RSA private keys come in PKCS#1 (`BEGIN RSA PRIVATE KEY`), Ed25519 ones in OpenSSH's own form,
//! as EC2 gives them. The private half is answered once and kept nowhere.
//!
//! Upstream: OpenSSH `PROTOCOL.key`; RFC 4253 §6.6 and RFC 8709 for public keys.

use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use sha1::{Digest, Sha1};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::public_key::{sha256, with_colons};

/// A new pair.
pub(super) struct Generated {
    /// In PEM.
    pub(super) private_key: String,
    /// A line of `authorized_keys`, without a comment.
    pub(super) public_key: String,
    pub(super) fingerprint: String,
}

pub(super) fn rsa() -> Result<Generated, Fault> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let pkcs8 = key.serialize_der();
    let pkcs1 = pkcs1_in(&pkcs8).ok_or_else(|| failed("an RSA key of another form"))?;
    let spki = key.subject_public_key_info();
    let (_, info) = SubjectPublicKeyInfo::from_der(&spki).map_err(failed)?;
    let Ok(PublicKey::RSA(public)) = info.parsed() else { return Err(failed("not an RSA key")) };
    let mut blob = Vec::new();
    put(&mut blob, b"ssh-rsa");
    put_number(&mut blob, public.exponent);
    put_number(&mut blob, public.modulus);
    // For pairs that it makes, EC2's fingerprint is that of the private key.
    let fingerprint = with_colons(&Sha1::digest(&pkcs8));
    Ok(Generated {
        private_key: pem("RSA PRIVATE KEY", pkcs1),
        public_key: format!("ssh-rsa {}", BASE64_STANDARD.encode(blob)),
        fingerprint,
    })
}

pub(super) fn ed25519() -> Result<Generated, Fault> {
    const KIND: &[u8] = b"ssh-ed25519";
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(failed)?;
    let pkcs8 = key.serialize_der();
    let seed = seed_in(&pkcs8).ok_or_else(|| failed("an Ed25519 key of another form"))?;
    let public = key.public_key_raw();
    let mut blob = Vec::new();
    put(&mut blob, KIND);
    put(&mut blob, public);

    // Twice the same number: how OpenSSH checks a passphrase, of which there is none.
    let check = entropy::bytes::<4>();
    let mut private = [check, check].concat();
    put(&mut private, KIND);
    put(&mut private, public);
    put(&mut private, &[seed, public].concat());
    put(&mut private, b"");
    let padding = (8 - private.len() % 8) % 8;
    private.extend((1..=8).take(padding));

    let mut file = b"openssh-key-v1\0".to_vec();
    put(&mut file, b"none");
    put(&mut file, b"none");
    put(&mut file, b"");
    file.extend(1_u32.to_be_bytes());
    put(&mut file, &blob);
    put(&mut file, &private);
    Ok(Generated {
        private_key: pem("OPENSSH PRIVATE KEY", &file),
        public_key: format!("ssh-ed25519 {}", BASE64_STANDARD.encode(&blob)),
        fingerprint: sha256(&blob),
    })
}

fn failed(error: impl ToString) -> Fault {
    Fault::internal(format!("failed to make a key pair: {}", error.to_string()))
}

/// The RSAPrivateKey inside of a PKCS#8 document: the content of its only OCTET STRING, which
/// begins at the 23rd byte with a length of two bytes (for keys of 1024 bits and more).
fn pkcs1_in(pkcs8: &[u8]) -> Option<&[u8]> {
    let (header, key) = pkcs8.split_at_checked(26)?;
    (header[22..24] == [0x04, 0x82]).then_some(key)
}

/// The 32 bytes inside of the OCTET STRING inside of the OCTET STRING.
fn seed_in(pkcs8: &[u8]) -> Option<&[u8]> {
    const HEADER: [u8; 4] = [0x04, 0x22, 0x04, 0x20];
    let at = pkcs8.windows(HEADER.len()).position(|it| it == HEADER)? + HEADER.len();
    pkcs8.get(at..at + 32)
}

/// A string: its length and its bytes.
fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a key is far shorter than 4 GiB");
    buffer.extend(length.to_be_bytes());
    buffer.extend(bytes);
}

/// A positive number: no zero bytes in front, but one where the first bit is set.
fn put_number(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let mut digits: Vec<u8> = bytes.iter().copied().skip_while(|it| *it == 0).collect();
    if digits.first().is_some_and(|it| it & 0x80 != 0) {
        digits.insert(0, 0);
    }
    put(buffer, &digits);
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(bytes);
    let lines: Vec<&str> = (0..encoded.len())
        .step_by(64)
        .filter_map(|at| encoded.get(at..(at + 64).min(encoded.len())))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_positive() {
        for (bytes, expected) in [
            (&[0, 0, 1][..], &[0, 0, 0, 1, 1][..]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
            (&[], &[0, 0, 0, 0]),
        ] {
            let mut buffer = Vec::new();
            put_number(&mut buffer, bytes);
            assert_eq!(buffer, expected);
        }
    }

    #[test]
    fn an_ed25519_file_holds_its_public_key_and_is_padded() {
        let pair = ed25519().unwrap();
        let body: String = pair.private_key.lines().filter(|it| !it.starts_with('-')).collect();
        let file = BASE64_STANDARD.decode(body).unwrap();
        let public = pair.public_key.split_once(' ').unwrap().1;
        let public = BASE64_STANDARD.decode(public).unwrap();
        assert!(file.starts_with(b"openssh-key-v1\0"));
        assert_eq!(file.windows(public.len()).filter(|it| *it == public).count(), 2);
        assert_eq!((file.len() - 15 - 8 - 8 - 4 - 4 - 4 - public.len() - 4) % 8, 0);
    }

    #[test]
    fn an_rsa_file_holds_its_modulus() {
        let pair = rsa().unwrap();
        let body: String = pair.private_key.lines().filter(|it| !it.starts_with('-')).collect();
        let file = BASE64_STANDARD.decode(body).unwrap();
        let public = BASE64_STANDARD.decode(pair.public_key.split_once(' ').unwrap().1).unwrap();
        let modulus = &public[public.len() - 256..];
        assert!(file.windows(modulus.len()).any(|it| it == modulus));
        assert_eq!(pair.fingerprint.len(), 59);
    }
}
