//! The image service.

use std::path::PathBuf;

use api_cri::v1::{self, image_service_server::ImageService};
use tonic::{Request, Response, Status, async_trait};

use crate::FakeCri;

type Reply<T> = Result<Response<T>, Status>;

fn name(image: Option<v1::ImageSpec>) -> String {
    image.map(|it| it.image).unwrap_or_default()
}

/// A pull that is under way.
struct Pull<'a>(&'a FakeCri);

impl<'a> Pull<'a> {
    fn begin(runtime: &'a FakeCri) -> Self {
        let mut state = runtime.state.lock();
        state.pulls += 1;
        state.most_pulls = state.most_pulls.max(state.pulls);
        Self(runtime)
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        self.0.state.lock().pulls -= 1;
    }
}

#[async_trait]
impl ImageService for FakeCri {
    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Reply<v1::ListImagesResponse> {
        self.fail("ListImages")?;
        let images = self.state.lock().images.values().cloned().collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Reply<v1::ImageStatusResponse> {
        let name = name(request.into_inner().image);
        self.enter("ImageStatus", &name)?;
        let image = self.state.lock().image(&name).cloned();
        Ok(Response::new(v1::ImageStatusResponse { image, ..Default::default() }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Reply<v1::PullImageResponse> {
        let v1::PullImageRequest { image, auth, .. } = request.into_inner();
        let name = name(image);
        self.state.lock().pulled_with.push((name.clone(), auth));
        self.enter("PullImage", &name)?;
        let _pull = Pull::begin(self);
        if self.state.lock().hanging.contains(&name) {
            std::future::pending::<()>().await;
        }
        let takes = self.state.lock().pull_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.state.lock();
        state.add_image(&name);
        let image_ref = state.image(&name).map(|it| it.id.clone()).unwrap_or_default();
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Reply<v1::RemoveImageResponse> {
        let name = name(request.into_inner().image);
        self.enter("RemoveImage", &name)?;
        let mut state = self.state.lock();
        state.images.retain(|_, it| it.id != name);
        if let Some(file) = state.image_files.remove(&name) {
            std::fs::remove_file(file).map_err(|it| Status::internal(it.to_string()))?;
        }
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Reply<v1::ImageFsInfoResponse> {
        let state = self.state.lock();
        let usage = |path: &PathBuf| {
            let mountpoint = path.display().to_string();
            let fs_id = Some(v1::FilesystemIdentifier { mountpoint });
            v1::FilesystemUsage { fs_id, ..Default::default() }
        };
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: state.image_fs.iter().map(usage).collect(),
            container_filesystems: state.container_fs.iter().map(usage).collect(),
        }))
    }
}
