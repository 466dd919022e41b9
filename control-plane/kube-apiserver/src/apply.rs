//! temporary
use crate::{render::Answer, server::Call, status::Status};

pub(crate) async fn apply(_call: &mut Call) -> Result<Answer, Status> {
    Err(Status::unsupported_media_type(
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
    ))
}
