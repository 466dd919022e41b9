//! Key pairs: public keys under names.
//!
//! The private half of a pair that is made here is answered once and not kept. An instance keeps the
//! public key that it was launched with, whatever becomes of the pair.
//! Deviation: the PPK format is refused, and keys are imported in OpenSSH's form alone.

mod generate;
mod public_key;

use self::public_key::PublicKey;
use crate::{
    Call, faults, names,
    query::{self, Values, one},
    records::KeyPair,
    state::State,
    tagging,
};
use aws_ec2::key_pair::{
    CreateKeyPairRequest, CreateKeyPairResponse, DeleteKeyPairRequest, DeleteKeyPairResponse,
    DescribeKeyPairsRequest, DescribeKeyPairsResponse, ImportKeyPairRequest, ImportKeyPairResponse,
    KeyPairInfo,
};
use aws_wire::Fault;

const TYPE: &str = "key-pair";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateKeyPairRequest,
) -> Result<CreateKeyPairResponse, Fault> {
    let name = request.key_name;
    check_name(state, &name)?;
    if request.key_format.as_deref().is_some_and(|it| it != "pem") {
        return Err(faults::unsupported("Only the key format pem is supported in this region."));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let kind = request.key_type.unwrap_or("rsa".to_owned());
    let made = match kind.as_str() {
        "rsa" => generate::rsa()?,
        "ed25519" => generate::ed25519()?,
        other => return Err(faults::invalid_value("KeyType", other)),
    };
    let pair = KeyPair {
        id: entropy::aws_id("key"),
        public_key: format!("{} {name}", made.public_key),
        name,
        kind,
        fingerprint: made.fingerprint,
        created_at: call.now,
        tags,
    };
    let response = CreateKeyPairResponse {
        key_pair_id: Some(pair.id.clone()),
        tags: tagging::answer(&pair.tags),
        key_name: Some(pair.name.clone()),
        key_fingerprint: Some(pair.fingerprint.clone()),
        key_material: Some(made.private_key),
    };
    state.key_pairs.insert(pair);
    Ok(response)
}

/// Names become a part of a line of `authorized_keys`.
fn check_name(state: &State, name: &str) -> Result<(), Fault> {
    let is_plain = |it: u8| it.is_ascii_graphic() || it == b' ';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(is_plain) {
        return Err(faults::invalid_value("KeyName", name));
    }
    match state.key_pairs.iter().any(|it| it.name == name) {
        false => Ok(()),
        true => Err(Fault::new(
            "InvalidKeyPair.Duplicate",
            format!("The keypair '{name}' already exists."),
        )),
    }
}

pub(crate) fn import(
    call: &Call<'_>,
    state: &mut State,
    request: ImportKeyPairRequest,
) -> Result<ImportKeyPairResponse, Fault> {
    let name = request.key_name;
    check_name(state, &name)?;
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let key = PublicKey::parse(&request.public_key_material)?;
    let pair = KeyPair {
        id: entropy::aws_id("key"),
        kind: key.kind().to_owned(),
        fingerprint: key.fingerprint(),
        public_key: key.line(&name),
        name,
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
        ids.push(by_name(state, name)?.id.clone());
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

pub(crate) fn by_name<'a>(state: &'a State, name: &str) -> Result<&'a KeyPair, Fault> {
    state.key_pairs.iter().find(|it| it.name == *name).ok_or_else(|| {
        Fault::new("InvalidKeyPair.NotFound", format!("The key pair '{name}' does not exist"))
    })
}

fn attribute(pair: &KeyPair, name: &str) -> Values {
    match name {
        "key-name" => one(&pair.name),
        "key-pair-id" => one(&pair.id),
        "fingerprint" => one(&pair.fingerprint),
        _ => None,
    }
}
