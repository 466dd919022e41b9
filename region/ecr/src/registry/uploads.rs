//! Uploads of blobs: `POST` begins, `PATCH` adds, `PUT` ends with the digest.

use std::time::Duration;

use http::{
    Method, Response, StatusCode,
    header::{CONTENT_RANGE, LOCATION, RANGE},
};
use http_body_util::BodyExt;
use tokio::{fs::OpenOptions, io::AsyncWriteExt, time::timeout};
use transport::Body;

use super::{
    Call,
    answer::{self, Refusal},
};
use crate::{Digest, blobs::FinishError, names::RepositoryId, records::Upload};

/// ECR's quota for a layer.
const LARGEST: u64 = 52_000 << 20;
/// How long a client may be silent in the middle of a part.
const SILENCE: Duration = Duration::from_secs(60);

impl Call<'_> {
    pub(super) async fn upload(&self, id: &str, body: Body) -> Result<Response<Body>, Refusal> {
        match (&self.parts.method, id) {
            (&Method::POST, "") => self.begin(body).await,
            (_, "") => Err(Refusal::method()),
            (&Method::GET, id) => {
                self.known(id)?;
                Ok(self.progress(id, self.received(id).await?, StatusCode::NO_CONTENT))
            }
            (&Method::PATCH, id) => {
                self.require("UploadLayerPart")?;
                self.known(id)?;
                let size = self.append(id, body).await?;
                Ok(self.progress(id, size, StatusCode::ACCEPTED))
            }
            (&Method::PUT, id) => {
                self.require("CompleteLayerUpload")?;
                self.known(id)?;
                self.append(id, body).await?;
                self.complete(id).await
            }
            (&Method::DELETE, id) => {
                self.known(id)?;
                self.forget(id)?;
                Ok(answer::with_status(StatusCode::NO_CONTENT, String::new()))
            }
            _ => Err(Refusal::method()),
        }
    }

    async fn begin(&self, body: Body) -> Result<Response<Body>, Refusal> {
        self.require("InitiateLayerUpload")?;
        self.repository()?;
        if let Some(response) = self.mount()? {
            return Ok(response);
        }
        let id = self.ecr.begin_upload(&self.id).map_err(|error| Refusal::internal(&*error))?;
        if self.query("digest").is_some() {
            self.require("CompleteLayerUpload")?;
            self.append(&id, body).await?;
            return self.complete(&id).await;
        }
        Ok(self.progress(&id, 0, StatusCode::ACCEPTED))
    }

    /// A blob of another repository that the caller may read needs no upload.
    fn mount(&self) -> Result<Option<Response<Body>>, Refusal> {
        let (Some(digest), Some(from)) = (self.query("mount"), self.query("from")) else {
            return Ok(None);
        };
        let from = RepositoryId::new(&self.id.registry, &from);
        let Some(digest) = Digest::parse(&digest) else { return Ok(None) };
        let Some(layer) = self.ecr.catalog.layer(&from, &digest) else { return Ok(None) };
        let may_read = self.caller.as_ref().is_some_and(|caller| {
            self.ecr.require(caller, "ecr:GetDownloadUrlForLayer", &from).is_ok()
        });
        if !may_read {
            return Ok(None);
        }
        let added = self.ecr.catalog.add_layer(&self.id, &digest, layer.size);
        added.map_err(|error| Refusal::internal(&error))?;
        Ok(Some(self.created(&digest)))
    }

    fn known(&self, id: &str) -> Result<(), Refusal> {
        let upload = self.ecr.catalog.uploads.get(id);
        match upload {
            Some(upload) if upload.repository == self.id.key() => Ok(()),
            _ => Err(Refusal::no_upload()),
        }
    }

    async fn received(&self, id: &str) -> Result<u64, Refusal> {
        let found = tokio::fs::metadata(self.ecr.blobs.upload(id)).await;
        found.map(|it| it.len()).map_err(|_| Refusal::no_upload())
    }

    /// Adds the body's bytes; a part that names its place must go on where the last one ended.
    async fn append(&self, id: &str, mut body: Body) -> Result<u64, Refusal> {
        let failed = |error: std::io::Error| Refusal::internal(&error);
        let mut size = self.received(id).await?;
        let place = self.parts.headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok());
        if let Some(place) = place {
            let place = place.trim_start_matches("bytes ");
            let from = place.split('-').next().and_then(|it| it.parse::<u64>().ok());
            if from != Some(size) {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let message = "the part does not go on where the last one ended";
                return Err(Refusal::new(status, "BLOB_UPLOAD_INVALID", message));
            }
        }
        let path = self.ecr.blobs.upload(id);
        let mut file = OpenOptions::new().append(true).open(path).await.map_err(failed)?;
        let late = |_| {
            let message = "the part did not arrive in time";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message)
        };
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(late)? {
            let frame = frame.map_err(|error| {
                let message = format!("the part did not arrive: {error}");
                Refusal::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
            })?;
            if let Ok(data) = frame.into_data() {
                size += data.len() as u64;
                if size > LARGEST {
                    self.forget(id)?;
                    let message = format!("a layer may have {LARGEST} bytes");
                    return Err(Refusal::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "SIZE_INVALID",
                        message,
                    ));
                }
                file.write_all(&data).await.map_err(failed)?;
            }
        }
        file.flush().await.map_err(failed)?;
        Ok(size)
    }

    async fn complete(&self, id: &str) -> Result<Response<Body>, Refusal> {
        let wanted = self.query("digest").as_deref().and_then(Digest::parse);
        let wanted = wanted.ok_or_else(|| Refusal::bad_digest("provided digest is invalid"))?;
        let ecr = self.ecr.clone();
        let (upload, digest) = (id.to_owned(), wanted.clone());
        let finished =
            tokio::task::spawn_blocking(move || ecr.blobs.finish(&upload, &digest)).await;
        let finished = finished.map_err(|error| Refusal::internal(&error))?;
        let size = match finished {
            Ok(size) => size,
            Err(error @ FinishError::Mismatch { .. }) => {
                self.forget(id)?;
                return Err(Refusal::bad_digest(error.to_string()));
            }
            Err(error) => return Err(Refusal::internal(&error)),
        };
        let added = self.ecr.catalog.add_layer(&self.id, &wanted, size);
        added.map_err(|error| Refusal::internal(&error))?;
        self.forget(id)?;
        Ok(self.created(&wanted))
    }

    fn forget(&self, id: &str) -> Result<(), Refusal> {
        self.ecr.forget_upload(id).map_err(|error| Refusal::internal(&error))
    }

    fn progress(&self, id: &str, size: u64, status: StatusCode) -> Response<Body> {
        let mut response = answer::with_status(status, String::new());
        let location = format!("/v2/{}/blobs/uploads/{id}", self.id.name);
        answer::set(&mut response, LOCATION.as_str(), &location);
        answer::set(&mut response, RANGE.as_str(), &format!("0-{}", size.saturating_sub(1)));
        answer::set(&mut response, "docker-upload-uuid", id);
        response
    }

    fn created(&self, digest: &Digest) -> Response<Body> {
        let mut response = answer::with_status(StatusCode::CREATED, String::new());
        let location = format!("/v2/{}/blobs/{digest}", self.id.name);
        answer::set(&mut response, LOCATION.as_str(), &location);
        answer::set_digest(&mut response, digest);
        response
    }
}

impl crate::Ecr {
    pub(crate) fn begin_upload(
        &self,
        id: &RepositoryId,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let upload = entropy::uuid();
        std::fs::File::create_new(self.blobs.upload(&upload))?;
        let catalog = &self.catalog;
        catalog.store.transaction(|change| {
            let record = Upload { repository: id.key() };
            change.put(&catalog.uploads, upload.clone(), record);
            Ok::<_, region_store::CommitError>(())
        })?;
        Ok(upload)
    }

    pub(crate) fn forget_upload(&self, upload: &str) -> Result<(), region_store::CommitError> {
        let catalog = &self.catalog;
        match std::fs::remove_file(self.blobs.upload(upload)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, upload, "an upload's file could not be removed");
            }
            _ => {}
        }
        catalog.store.transaction(|change| {
            change.delete(&catalog.uploads, upload);
            Ok(())
        })
    }
}
