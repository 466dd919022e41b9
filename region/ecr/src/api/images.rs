//! Images: listed, described, read, written, removed.

use aws_ecr::image::{
    BatchDeleteImageRequest, BatchDeleteImageResponse, BatchGetImageRequest, BatchGetImageResponse,
    DescribeImagesRequest, DescribeImagesResponse, Image, ImageDetail, ImageFailure,
    ImageIdentifier, ListImagesRequest, ListImagesResponse, PutImageRequest, PutImageResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, page};

use super::repositories::size;
use crate::{Digest, Ecr, catalog::DeleteImageError, faults, names::RepositoryId};

pub(super) fn list(
    ecr: &Ecr,
    _caller: &Caller,
    request: ListImagesRequest,
) -> Result<ListImagesResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let wanted = request.filter.and_then(|filter| filter.tag_status).unwrap_or_default();
    let tags = ecr.catalog.tags(&id);
    let mut found = Vec::new();
    for (digest, _) in ecr.catalog.images(&id) {
        let own = tags.iter().filter(|(_, target)| **target == digest);
        let before = found.len();
        found.extend(own.map(|(tag, _)| identifier(&digest, Some(tag))));
        if found.len() == before {
            found.push(identifier(&digest, None));
        }
    }
    found.retain(|it| match wanted.as_str() {
        "TAGGED" => it.image_tag.is_some(),
        "UNTAGGED" => it.image_tag.is_none(),
        _ => true,
    });
    let key = |it: &ImageIdentifier| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}:{}", part(&it.image_digest), part(&it.image_tag))
    };
    let page = page(found, size(request.max_results), request.next_token.as_deref(), key)
        .map_err(|error| error.fault("InvalidParameterException"))?;
    Ok(ListImagesResponse { image_ids: page.items, next_token: page.next })
}

pub(super) fn describe(
    ecr: &Ecr,
    _caller: &Caller,
    request: DescribeImagesRequest,
) -> Result<DescribeImagesResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let tags = ecr.catalog.tags(&id);
    let images = match request.image_ids.as_slice() {
        [] => ecr.catalog.images(&id),
        asked => asked.iter().map(|it| find(ecr, &id, it)).collect::<Result<_, _>>()?,
    };
    let detail = |(digest, image): (Digest, std::sync::Arc<crate::records::Image>)| ImageDetail {
        registry_id: ecr.registry_id(&id),
        repository_name: id.shown(),
        image_tags: tags
            .iter()
            .filter(|(_, target)| **target == digest)
            .map(|(tag, _)| tag.clone())
            .collect(),
        image_digest: digest.to_string(),
        image_size_in_bytes: image.size,
        image_pushed_at: image.pushed_at,
        image_manifest_media_type: image.media_type.clone(),
    };
    let details: Vec<ImageDetail> = images.into_iter().map(detail).collect();
    let (size, token) = (size(request.max_results), request.next_token.as_deref());
    let page = page(details, size, token, |it| it.image_digest.clone())
        .map_err(|error| error.fault("InvalidParameterException"))?;
    Ok(DescribeImagesResponse { image_details: page.items, next_token: page.next })
}

pub(super) fn get(
    ecr: &Ecr,
    _caller: &Caller,
    request: BatchGetImageRequest,
) -> Result<BatchGetImageResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let mut response = BatchGetImageResponse::default();
    for asked in request.image_ids {
        match find(ecr, &id, &asked) {
            Ok((digest, image)) => {
                let bytes = ecr.blobs.read(&digest);
                let bytes = bytes.map_err(|error| Fault::internal(error.to_string()))?;
                response.images.push(Image {
                    registry_id: ecr.registry_id(&id),
                    repository_name: id.shown(),
                    image_id: Some(identifier(&digest, asked.image_tag.as_deref())),
                    image_manifest: String::from_utf8_lossy(&bytes).into_owned(),
                    image_manifest_media_type: image.media_type.clone(),
                });
            }
            Err(_) => response.failures.push(not_found(asked)),
        }
    }
    Ok(response)
}

pub(super) fn put(
    ecr: &Ecr,
    _caller: &Caller,
    request: PutImageRequest,
) -> Result<PutImageResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let bytes = request.image_manifest.as_bytes();
    let digest = Digest::of(bytes);
    if request.image_digest.as_deref().is_some_and(|it| it != digest.as_str()) {
        let message = "The provided image digest does not match the manifest's";
        return Err(Fault::new("ImageDigestDoesNotMatchException", message));
    }
    let known = ecr.catalog.resolve(&id, digest.as_str()).is_some();
    let tag = request.image_tag.as_deref();
    let is_same_tag = tag
        .is_none_or(|tag| ecr.catalog.resolve(&id, tag).is_some_and(|(found, _)| found == digest));
    if known && is_same_tag {
        return Err(Fault::new(
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{digest}' and tag '{}' already exists in the repository with \
                 name '{}' in registry with id '{}'",
                tag.unwrap_or("null"),
                id.name,
                ecr.registry_id(&id)
            ),
        ));
    }
    ecr.blobs.store(&mut &bytes[..]).map_err(|error| Fault::internal(error.to_string()))?;
    let media_type = request.image_manifest_media_type.as_deref();
    let put = ecr.catalog.put_manifest(&id, bytes, media_type, tag, ecr.now());
    put.map_err(faults::put_manifest)?;
    let image = Image {
        registry_id: ecr.registry_id(&id),
        repository_name: id.shown(),
        image_id: Some(identifier(&digest, tag)),
        image_manifest: request.image_manifest,
        image_manifest_media_type: request.image_manifest_media_type.unwrap_or_default(),
    };
    Ok(PutImageResponse { image: Some(image) })
}

pub(super) fn delete(
    ecr: &Ecr,
    _caller: &Caller,
    request: BatchDeleteImageRequest,
) -> Result<BatchDeleteImageResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let mut response = BatchDeleteImageResponse::default();
    for asked in request.image_ids {
        let Ok((digest, _)) = find(ecr, &id, &asked) else {
            response.failures.push(not_found(asked));
            continue;
        };
        let has_other_tags = ecr.catalog.tags(&id).iter().any(|(tag, target)| {
            **target == digest && asked.image_tag.as_deref() != Some(tag.as_str())
        });
        let read = |digest: &Digest| ecr.blobs.read(digest);
        let deleted = match &asked.image_tag {
            // The last tag takes the image along.
            Some(tag) if has_other_tags => ecr.catalog.delete_tag(&id, tag).map_err(Into::into),
            _ => ecr.catalog.delete_image(&id, &digest, &read),
        };
        match deleted {
            Ok(()) => {}
            Err(DeleteImageError::Listed { by }) => {
                response.failures.push(listed(asked, &digest, &by));
                continue;
            }
            Err(error) => return Err(Fault::internal(error.to_string())),
        }
        response.image_ids.push(identifier(&digest, asked.image_tag.as_deref()));
    }
    Ok(response)
}

fn find(
    ecr: &Ecr,
    id: &RepositoryId,
    asked: &ImageIdentifier,
) -> Result<(Digest, std::sync::Arc<crate::records::Image>), Fault> {
    let (digest, tag) = (asked.image_digest.as_deref(), asked.image_tag.as_deref());
    let missing = || faults::no_image(id, digest, tag);
    let found = match (digest, tag) {
        (Some(digest), _) => {
            ecr.catalog.resolve(id, Digest::parse(digest).ok_or_else(missing)?.as_str())
        }
        (None, Some(tag)) => ecr.catalog.resolve(id, tag),
        (None, None) => None,
    };
    let found = found.ok_or_else(missing)?;
    // Both together must mean the same image.
    let is_tagged = tag.is_none_or(|tag| {
        ecr.catalog.resolve(id, tag).is_some_and(|(digest, _)| digest == found.0)
    });
    if is_tagged { Ok(found) } else { Err(missing()) }
}

fn listed(asked: ImageIdentifier, digest: &Digest, by: &Digest) -> ImageFailure {
    ImageFailure {
        image_id: Some(asked),
        failure_code: "ImageReferencedByManifestList".into(),
        failure_reason: format!(
            "Requested image referenced by manifest list: [{by}]. Image digest: {digest}"
        ),
    }
}

fn not_found(asked: ImageIdentifier) -> ImageFailure {
    ImageFailure {
        image_id: Some(asked),
        failure_code: "ImageNotFound".into(),
        failure_reason: "Requested image not found".into(),
    }
}

fn identifier(digest: &Digest, tag: Option<&str>) -> ImageIdentifier {
    ImageIdentifier { image_digest: Some(digest.to_string()), image_tag: tag.map(str::to_owned) }
}
