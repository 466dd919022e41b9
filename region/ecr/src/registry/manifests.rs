//! Manifests: `HEAD`, `GET`, `PUT`, `DELETE`.

use http::{
    Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use transport::Body;

use super::{
    Call,
    answer::{self, Refusal},
};
use crate::{
    Digest,
    catalog::{DeleteImageError, PutManifestError},
    names,
};

/// ECR's limit.
const LIMIT: usize = 4 << 20;

impl Call<'_> {
    pub(super) async fn manifest(
        &self,
        reference: &str,
        body: Body,
    ) -> Result<Response<Body>, Refusal> {
        match self.parts.method {
            Method::GET | Method::HEAD => self.get_manifest(reference).await,
            Method::PUT => self.put_manifest(reference, body).await,
            Method::DELETE => self.delete_manifest(reference),
            _ => Err(Refusal::method()),
        }
    }

    async fn get_manifest(&self, reference: &str) -> Result<Response<Body>, Refusal> {
        self.require("BatchGetImage")?;
        self.repository()?;
        let found = self.ecr.catalog.resolve(&self.id, reference);
        let (digest, image) = found.ok_or_else(|| Refusal::no_manifest(reference))?;
        let read = tokio::fs::read(self.ecr.blobs.path(&digest)).await;
        let bytes = read.map_err(|error| Refusal::internal(&error))?;
        let length = bytes.len().to_string();
        let body = match self.parts.method {
            Method::HEAD => transport::empty(),
            _ => transport::full(bytes),
        };
        let mut response = answer::with_status(StatusCode::OK, String::new());
        *response.body_mut() = body;
        answer::set(&mut response, CONTENT_TYPE.as_str(), &image.media_type);
        answer::set(&mut response, CONTENT_LENGTH.as_str(), &length);
        answer::set_digest(&mut response, &digest);
        Ok(response)
    }

    async fn put_manifest(&self, reference: &str, body: Body) -> Result<Response<Body>, Refusal> {
        self.require("PutImage")?;
        self.repository()?;
        let read = transport::collect_request(body, LIMIT).await;
        let bytes = read.ok().flatten().ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "the manifest is too long")
        })?;
        let digest = Digest::of(&bytes);
        let tag = match Digest::parse(reference) {
            Some(named) if named != digest => {
                return Err(Refusal::bad_digest(format!("the manifest's digest is {digest}")));
            }
            Some(_) => None,
            None if names::is_tag(reference) => Some(reference),
            None => {
                let message = format!("`{reference}` is not a tag");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", message));
            }
        };
        let declared = self.parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        self.ecr.blobs.store(&mut &bytes[..]).map_err(|error| Refusal::internal(&error))?;
        let catalog = &self.ecr.catalog;
        catalog.put_manifest(&self.id, &bytes, declared, tag, self.ecr.now()).map_err(refused)?;
        let mut response = answer::with_status(StatusCode::CREATED, String::new());
        let location = format!("/v2/{}/manifests/{digest}", self.id.name);
        answer::set(&mut response, "location", &location);
        answer::set_digest(&mut response, &digest);
        Ok(response)
    }

    fn delete_manifest(&self, reference: &str) -> Result<Response<Body>, Refusal> {
        self.require("BatchDeleteImage")?;
        self.repository()?;
        let catalog = &self.ecr.catalog;
        let found = catalog.resolve(&self.id, reference);
        let (digest, _) = found.ok_or_else(|| Refusal::no_manifest(reference))?;
        let read = |digest: &Digest| self.ecr.blobs.read(digest);
        let deleted = match Digest::parse(reference) {
            Some(_) => catalog.delete_image(&self.id, &digest, &read),
            None => catalog.delete_tag(&self.id, reference).map_err(Into::into),
        };
        match deleted {
            Err(error @ DeleteImageError::Listed { .. }) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "DENIED", error.to_string()));
            }
            done => done.map_err(|error| Refusal::internal(&error))?,
        }
        Ok(answer::with_status(StatusCode::ACCEPTED, String::new()))
    }
}

fn refused(error: PutManifestError) -> Refusal {
    let message = error.to_string();
    match error {
        PutManifestError::Manifest { .. } => {
            Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
        }
        PutManifestError::Missing { .. } => {
            Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message)
        }
        PutManifestError::Immutable { .. } => {
            Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", message)
        }
        PutManifestError::Commit(error) => Refusal::internal(&error),
    }
}
