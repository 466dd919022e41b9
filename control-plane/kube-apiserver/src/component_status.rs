//! `componentstatuses`: whether the other parts of the control plane run.
//!
//! Upstream: `pkg/registry/core/componentstatus`. Deviation: parts of this process are asked whether
//! they run, not over HTTP; a server that runs alone knows of its store and of nobody else.

use std::sync::Arc;

use http::StatusCode;
use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::{render::Answer, server::Call, status::Status, verbs::get};

const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

type IsRunning = Arc<dyn Fn() -> bool + Send + Sync>;

/// The other parts, by their names. Clones share them.
#[derive(Clone, Default)]
pub struct Components(Arc<RwLock<Vec<(&'static str, IsRunning)>>>);

impl Components {
    /// Makes a part known.
    pub fn add(&self, name: &'static str, is_running: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.write().push((name, Arc::new(is_running)));
    }

    fn statuses(&self) -> Vec<Value> {
        let known = self.0.read();
        let others = known.iter().map(|(name, is_running)| status(name, is_running()));
        // Who answers has read its store, in which all that it answers is.
        others.chain([status("etcd-0", true)]).collect()
    }
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.read().iter().map(|(name, _)| name)).finish()
    }
}

fn status(name: &str, is_running: bool) -> Value {
    let condition = match is_running {
        true => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        false => json!({ "type": "Healthy", "status": "False", "error": "it does not run" }),
    };
    json!({ "metadata": { "name": name }, "conditions": [condition] })
}

pub(crate) fn answer(call: &mut Call) -> Result<Answer, Status> {
    call.warnings.push(DEPRECATED.to_owned());
    let mut all = call.server.config.components.statuses();
    match call.info.verb.as_str() {
        "list" => {
            let selection = get::selection(call)?;
            all.retain(|it| selection.matches_bytes(it.to_string().as_bytes()));
            Ok(Answer::Made(all))
        }
        "get" => {
            let name = call.name();
            let found = all.into_iter().find(|it| it["metadata"]["name"] == name);
            // No 404, as upstream.
            let missing = || {
                let message = format!("Component not found: {name}");
                Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
            };
            let found = found.ok_or_else(missing)?;
            let mut object = json!({ "kind": call.resource.kind, "apiVersion": "v1" });
            object["metadata"] = found["metadata"].clone();
            object["conditions"] = found["conditions"].clone();
            Ok(Answer::Object(StatusCode::OK, object.to_string().into()))
        }
        verb => Err(Status::method_not_allowed(verb, &call.resource.qualified())),
    }
}
