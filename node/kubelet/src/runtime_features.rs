//! What the runtime and its handlers say that they can do.
//!
//! Runtimes before containerd 2 say nothing, which is as if they could do nothing.
//!
//! Upstream: `runtimeHandlers` of `pkg/kubelet/runtime.go`, `pkg/kubelet/kubelet_getters.go`.

use std::collections::BTreeMap;

use api_cri::v1;

/// Why it is not known what a handler can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The runtime has not been asked yet.
    #[error("runtime handlers are not set")]
    Unset,
    #[error("the handler \"{0}\" is not known")]
    Unknown(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub user_namespaces: bool,
    pub recursive_read_only_mounts: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handlers {
    /// By their names; the default one's is empty.
    by_name: BTreeMap<String, Features>,
    /// The runtime can leave out the groups that an image gives its users.
    pub supplemental_groups_policy: bool,
}

impl Handlers {
    pub(crate) fn of(asked: &v1::StatusResponse) -> Self {
        let features = asked.runtime_handlers.iter().map(|it| {
            let of = it.features.unwrap_or_default();
            let features = Features {
                user_namespaces: of.user_namespaces,
                recursive_read_only_mounts: of.recursive_read_only_mounts,
            };
            (it.name.clone(), features)
        });
        Self {
            by_name: features.collect(),
            supplemental_groups_policy: asked
                .features
                .is_some_and(|it| it.supplemental_groups_policy),
        }
    }

    pub(crate) fn find(&self, handler: &str) -> Result<Features, LookupError> {
        let unknown = || LookupError::Unknown(handler.to_owned());
        self.by_name.get(handler).copied().ok_or_else(unknown)
    }
}

/// The first two numbers of a runtime's version: of `v1.7.1` and `1.7.20~ds1` they are 1 and 7.
pub(crate) fn number(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
