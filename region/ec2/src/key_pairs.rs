//! Key pairs: public keys under names.
//!
//! Deviation: keys are imported, never made here: a private key that the region has seen is no
//! longer the user's alone. `CreateKeyPair` is refused.

use aws_ec2::key_pair::{
    CreateKeyPairRequest, CreateKeyPairResponse, DeleteKeyPairRequest, DeleteKeyPairResponse,
    DescribeKeyPairsRequest, DescribeKeyPairsResponse, ImportKeyPairRequest, ImportKeyPairResponse,
    KeyPairInfo,
};
use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use crate::{
    Call, faults, names,
    query::{self, Values, one},
    records::KeyPair,
    state::State,
    tagging,
};

const TYPE: &str = "key-pair";

pub(crate) fn create(
    _call: &Call<'_>,
    _state: &mut State,
    request: CreateKeyPairRequest,
) -> Result<CreateKeyPairResponse, Fault> {
    Err(faults::unsupported(format!(
        "Key pairs are not generated in this region. Make one with ssh-keygen and import it: aws \
         ec2 import-key-pair --key-name {} --public-key-material fileb://KEY.pub",
        request.key_name
    )))
}

pub(crate) fn import(
    call: &Call<'_>,
    state: &mut State,
    request: ImportKeyPairRequest,
) -> Result<ImportKeyPairResponse, Fault> {
    let name = request.key_name;
    if state.key_pairs.iter().any(|it| it.name == name) {
        return Err(Fault::new(
            "InvalidKeyPair.Duplicate",
            format!("The key pair '{name}' already exists"),
        ));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let key = PublicKey::parse(&request.public_key_material)?;
    let pair = KeyPair {
        id: entropy::aws_id("key"),
        name,
        kind: key.kind.to_owned(),
        fingerprint: key.fingerprint,
        public_key: key.line,
        created_at: call.now,
        tags,
    };
    let response = ImportKeyPairResponse {
        key_fingerprint: Some(pair.fingerprint.clone()),
        key_name: Some(pair.name.clone()),
        key_pair_id: Some(pair.id.clone()),
        tags: tagging::answer(&pair.tags),
    };
    state.key_pairs.insert(pair);
    Ok(response)
}

struct PublicKey {
    kind: &'static str,
    line: String,
    /// Deviation: for RSA keys EC2 answers an MD5 of the DER form.
    fingerprint: String,
}

impl PublicKey {
    /// Reads an OpenSSH line, which comes in base64.
    fn parse(material: &str) -> Result<Self, Fault> {
        let bad =
            || Fault::new("InvalidKey.Format", "Key is not in valid OpenSSH public key format");
        let line = BASE64_STANDARD.decode(material).map_err(|_| bad())?;
        let line = String::from_utf8(line).map_err(|_| bad())?.trim().to_owned();
        let mut words = line.split_ascii_whitespace();
        let kind = match words.next() {
            Some("ssh-rsa") => "rsa",
            Some("ssh-ed25519") => "ed25519",
            _ => return Err(bad()),
        };
        let blob = BASE64_STANDARD.decode(words.next().ok_or_else(bad)?).map_err(|_| bad())?;
        let fingerprint = BASE64_STANDARD_NO_PAD.encode(Sha256::digest(blob));
        Ok(Self { kind, fingerprint, line })
    }
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteKeyPairRequest,
) -> Result<DeleteKeyPairResponse, Fault> {
    let found = match (&request.key_pair_id, &request.key_name) {
        (Some(id), _) => state.key_pairs.get(id).map(|it| it.id.clone()),
        (None, Some(name)) => {
            state.key_pairs.iter().find(|it| it.name == *name).map(|it| it.id.clone())
        }
        (None, None) => return Err(faults::missing("KeyName")),
    };
    // Deleting what is not there succeeds, as on EC2.
    if let Some(id) = &found {
        state.key_pairs.remove(id)?;
    }
    Ok(DeleteKeyPairResponse { r#return: Some(true), key_pair_id: found })
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeKeyPairsRequest,
) -> Result<DescribeKeyPairsResponse, Fault> {
    let mut ids = request.key_pair_ids;
    for name in &request.key_names {
        let known = state.key_pairs.iter().find(|it| it.name == *name);
        ids.push(known.map(|it| it.id.clone()).ok_or_else(|| {
            Fault::new("InvalidKeyPair.NotFound", format!("The key pair '{name}' does not exist"))
        })?);
    }
    let with_key = request.include_public_key == Some(true);
    let found = state.key_pairs.named(&ids)?;
    let found = query::select(found, &request.filters, |it| &it.tags, attribute)?;
    let answer = |it: &KeyPair| KeyPairInfo {
        key_pair_id: Some(it.id.clone()),
        key_type: Some(it.kind.clone()),
        tags: tagging::answer(&it.tags),
        public_key: with_key.then(|| it.public_key.clone()),
        create_time: Some(names::date(it.created_at)),
        key_name: Some(it.name.clone()),
        key_fingerprint: Some(it.fingerprint.clone()),
    };
    Ok(DescribeKeyPairsResponse { key_pairs: found.into_iter().map(answer).collect() })
}

fn attribute(pair: &KeyPair, name: &str) -> Values {
    match name {
        "key-name" => one(&pair.name),
        "key-pair-id" => one(&pair.id),
        "fingerprint" => one(&pair.fingerprint),
        _ => None,
    }
}
