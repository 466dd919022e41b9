//! Layers over the API: what the `docker` protocol does with blobs.

use std::io::Write;

use aws_ecr::layer::{
    BatchCheckLayerAvailabilityRequest, BatchCheckLayerAvailabilityResponse,
    CompleteLayerUploadRequest, CompleteLayerUploadResponse, GetDownloadUrlForLayerRequest,
    GetDownloadUrlForLayerResponse, InitiateLayerUploadRequest, InitiateLayerUploadResponse, Layer,
    LayerFailure, UploadLayerPartRequest, UploadLayerPartResponse,
};
use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use region_gateway::Caller;

use crate::{Digest, Ecr, blobs::FinishError, faults, names::RepositoryId};

/// ECR's own.
const PART_SIZE: u64 = 20_971_520;

const URL_LIFE: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn check(
    ecr: &Ecr,
    _caller: &Caller,
    request: BatchCheckLayerAvailabilityRequest,
) -> Result<BatchCheckLayerAvailabilityResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let mut response = BatchCheckLayerAvailabilityResponse::default();
    for asked in request.layer_digests {
        let Some(digest) = Digest::parse(&asked) else {
            response.failures.push(LayerFailure {
                layer_digest: asked,
                failure_code: "InvalidLayerDigest".into(),
                failure_reason: "Invalid layer digest".into(),
            });
            continue;
        };
        let found = ecr.catalog.layer(&id, &digest);
        let availability = if found.is_some() { "AVAILABLE" } else { "UNAVAILABLE" };
        response.layers.push(Layer {
            layer_digest: asked,
            layer_availability: availability.into(),
            layer_size: found.map_or(0, |it| it.size),
            media_type: String::new(),
        });
    }
    Ok(response)
}

pub(super) fn url(
    ecr: &Ecr,
    caller: &Caller,
    request: GetDownloadUrlForLayerRequest,
) -> Result<GetDownloadUrlForLayerResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let digest = Digest::parse(&request.layer_digest);
    let found = digest.and_then(|digest| ecr.catalog.layer(&id, &digest).map(|_| digest));
    let digest = found.ok_or_else(|| faults::no_layer(&id, &request.layer_digest))?;
    let sealed = ecr.tokens.seal(caller, ecr.config.clock.now() + URL_LIFE);
    let token = sealed.ok_or_else(|| Fault::internal("the caller is nobody"))?;
    let token = aws_wire::percent::encode(&token);
    let (host, name) = (&id.registry, &id.name);
    let download_url = format!("https://{host}/v2/{name}/blobs/{digest}?token={token}");
    Ok(GetDownloadUrlForLayerResponse { download_url, layer_digest: request.layer_digest })
}

pub(super) fn begin(
    ecr: &Ecr,
    _caller: &Caller,
    request: InitiateLayerUploadRequest,
) -> Result<InitiateLayerUploadResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let upload = ecr.begin_upload(&id);
    let upload_id = upload.map_err(|error| Fault::internal(error.to_string()))?;
    Ok(InitiateLayerUploadResponse { upload_id, part_size: PART_SIZE })
}

pub(super) fn add(
    ecr: &Ecr,
    _caller: &Caller,
    request: UploadLayerPartRequest,
) -> Result<UploadLayerPartResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    check_upload(ecr, &id, &request.upload_id)?;
    let bytes = STANDARD.decode(&request.layer_part_blob);
    let bytes = bytes.map_err(|_| faults::invalid("the layer part is not base64"))?;
    let failed = |error: std::io::Error| Fault::internal(error.to_string());
    let path = ecr.blobs.upload(&request.upload_id);
    let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
    let received = file.metadata().map_err(failed)?.len();
    let last = (received + bytes.len() as u64).saturating_sub(1);
    if request.part_first_byte != received || request.part_last_byte != last {
        let (first, last) = (request.part_first_byte, request.part_last_byte);
        return Err(Fault::new(
            "InvalidLayerPartException",
            format!("The part from byte {first} to {last} does not go on at byte {received}"),
        ));
    }
    file.write_all(&bytes).map_err(failed)?;
    Ok(UploadLayerPartResponse {
        registry_id: ecr.registry_id(&id),
        repository_name: id.shown(),
        upload_id: request.upload_id,
        last_byte_received: last,
    })
}

pub(super) fn complete(
    ecr: &Ecr,
    _caller: &Caller,
    request: CompleteLayerUploadRequest,
) -> Result<CompleteLayerUploadResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    check_upload(ecr, &id, &request.upload_id)?;
    let wanted = match request.layer_digests.as_slice() {
        [one] => Digest::parse(one),
        _ => None,
    };
    let wanted = wanted.ok_or_else(|| faults::invalid("one sha256 digest is needed"))?;
    let size = match ecr.blobs.finish(&request.upload_id, &wanted) {
        Ok(size) => size,
        Err(error @ FinishError::Mismatch { .. }) => {
            ecr.forget_upload(&request.upload_id).map_err(faults::commit)?;
            return Err(Fault::new("InvalidLayerException", error.to_string()));
        }
        Err(error) => return Err(Fault::internal(error.to_string())),
    };
    ecr.catalog.add_layer(&id, &wanted, size).map_err(faults::commit)?;
    ecr.forget_upload(&request.upload_id).map_err(faults::commit)?;
    Ok(CompleteLayerUploadResponse {
        registry_id: ecr.registry_id(&id),
        repository_name: id.shown(),
        upload_id: request.upload_id,
        layer_digest: wanted.to_string(),
    })
}

fn check_upload(ecr: &Ecr, id: &RepositoryId, upload: &str) -> Result<(), Fault> {
    match ecr.catalog.uploads.get(upload) {
        Some(known) if known.repository == id.key() => Ok(()),
        _ => Err(faults::no_upload(id, upload)),
    }
}
