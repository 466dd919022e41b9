//! From an IAM principal to a Kubernetes user.

use futures::future::BoxFuture;

use crate::Identity;

/// What a principal is in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// May hold `{{EC2PrivateDNSName}}`, `{{SessionName}}`, `{{SessionNameRaw}}`, `{{AccountID}}`,
    /// `{{AccessKeyID}}`.
    pub username: String,
    pub groups: Vec<String>,
}

/// Where mappings come from: EKS access entries, behind the region.
pub trait Mappings: Send + Sync + 'static {
    /// The mapping of a principal, looked up by its canonical ARN (and, to be strict, its user id:
    /// a role that was made again under the same name is another principal).
    fn find<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Option<Mapping>>;

    /// The private DNS name of an instance of this account.
    fn private_dns_name<'a>(&'a self, instance_id: &'a str) -> BoxFuture<'a, Option<String>>;
}

/// Why a template gives no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    #[error("session name `{session}` is not an EC2 instance id")]
    NotAnInstance { session: String },
    #[error("instance `{instance}` has no private DNS name")]
    UnknownInstance { instance: String },
    #[error("`{template}` holds an unknown placeholder")]
    Placeholder { template: String },
}

/// Fills the placeholders of a user or group name.
pub(crate) async fn expand(
    template: &str,
    identity: &Identity,
    mappings: &dyn Mappings,
) -> Result<String, ExpandError> {
    let mut name = template
        .replace("{{AccountID}}", &identity.account)
        .replace("{{AccessKeyID}}", &identity.access_key_id)
        .replace("{{SessionNameRaw}}", &identity.session_name)
        // An `@` would make a name that some tools take for an address.
        .replace("{{SessionName}}", &identity.session_name.replace('@', "-"));
    if name.contains("{{EC2PrivateDNSName}}") {
        let instance = &identity.session_name;
        if !is_instance_id(instance) {
            return Err(ExpandError::NotAnInstance { session: instance.clone() });
        }
        let found = mappings.private_dns_name(instance).await;
        let found =
            found.ok_or_else(|| ExpandError::UnknownInstance { instance: instance.clone() })?;
        name = name.replace("{{EC2PrivateDNSName}}", &found);
    }
    if name.contains("{{") {
        return Err(ExpandError::Placeholder { template: template.to_owned() });
    }
    Ok(name)
}

fn is_instance_id(session: &str) -> bool {
    let digits = session.strip_prefix("i-").unwrap_or_default();
    matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
