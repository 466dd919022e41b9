//! Requests that go on to kubelets, pods and Services. (Builder A2's; see the signatures below.)

use http::{Request, Response};
use transport::Body;

use crate::{
    registry::Reader,
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// Where and as whom kubelets, pods and Services are dialled.
#[derive(Clone, Debug, Default)]
pub struct Config {}

#[derive(Clone, Debug)]
pub struct Proxy {}

impl Proxy {
    pub fn new(_config: Config, _objects: Reader) -> Self {
        Self {}
    }

    /// Answers `pods/{log,exec,attach,portforward,proxy}`, `nodes/proxy`, `services/proxy`. The
    /// request's upgrade (`hyper::upgrade::on`) is still to be taken.
    pub async fn connect(
        &self,
        _user: &UserInfo,
        info: &RequestInfo,
        _request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        Err(Status::method_not_allowed(&info.verb, &info.group_resource()))
    }
}
