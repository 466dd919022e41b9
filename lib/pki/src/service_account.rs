//! The key pair that signs service-account tokens, and its public half as JWKS.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::PkiError;

/// An RSA 2048 key pair for RS256.
#[derive(Clone, Debug)]
pub struct ServiceAccountKey {
    private_pem: String,
    public_pem: String,
    key_id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl ServiceAccountKey {
    pub fn generate() -> Result<Self, PkiError> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map_err(|source| PkiError::Make { name: "service accounts".into(), source })?;
        Self::of(&key)
    }

    /// Loads a PKCS#8 private key in PEM.
    pub fn from_pem(private_pem: &str) -> Result<Self, PkiError> {
        Self::of(&KeyPair::from_pem(private_pem).map_err(|source| PkiError::BadKey { source })?)
    }

    fn of(key: &KeyPair) -> Result<Self, PkiError> {
        let der = key.subject_public_key_info();
        let bad = |reason: &str| PkiError::BadCertificate { reason: reason.to_owned() };
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| bad("no public key"))?;
        let Ok(PublicKey::RSA(rsa)) = info.parsed() else { return Err(bad("not an RSA key")) };
        let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        Ok(Self {
            private_pem: key.serialize_pem(),
            public_pem: key.public_key_pem(),
            // As upstream's `keyIDFromPublicKey`: SHA-256 of the DER public key.
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(&der)),
            modulus: strip(rsa.modulus),
            exponent: strip(rsa.exponent),
        })
    }

    pub fn private_pem(&self) -> &str {
        &self.private_pem
    }

    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The `kid` of tokens that this key signs.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key as a JSON Web Key Set (`/openid/v1/jwks`).
    pub fn jwks(&self) -> Value {
        json!({"keys": [{
            "use": "sig", "kty": "RSA", "kid": self.key_id, "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_id_when_it_is_loaded_again() {
        let key = ServiceAccountKey::generate().unwrap();
        let again = ServiceAccountKey::from_pem(key.private_pem()).unwrap();
        assert_eq!(again.jwks(), key.jwks());
        assert_eq!(key.jwks()["keys"][0]["e"], "AQAB");
    }
}
