//! Instance profiles: one for each class that names a role.
//!
//! The name is the cluster's with a hash of the region and the class: IAM takes 128 characters, and
//! two long names of classes must not share a profile, or one class's nodes have the other's rights.

use api_kube::karpenter::{Ec2NodeClass, labels};
use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, CreateInstanceProfile,
    CreateInstanceProfileRequest, DeleteInstanceProfile, DeleteInstanceProfileRequest,
    GetInstanceProfile, GetInstanceProfileRequest, RemoveRoleFromInstanceProfile,
    RemoveRoleFromInstanceProfileRequest,
};
use aws_wire::client::CallError;
use sha2::{Digest, Sha256};

use super::{CLUSTER_TAG, Cloud};

/// Names of clusters are no longer than this: with the hash it is 128 at most.
const MOST_OF_CLUSTER: usize = 100;

impl Cloud {
    /// The profile of a class's role, made where it is not there.
    pub(crate) async fn profile(&self, class: &Ec2NodeClass) -> Result<Option<String>, CallError> {
        let Some(role) = &class.spec.role else { return Ok(class.spec.instance_profile.clone()) };
        let name = self.profile_name(class.name());
        let instance_profile_name = name.clone();
        let known = self
            .aws
            .call::<GetInstanceProfile>(GetInstanceProfileRequest { instance_profile_name });
        let roles = match known.await {
            Ok(answer) => answer.instance_profile.roles,
            Err(error) if error.is("NoSuchEntity") => {
                let tag = |key: &str, value: &str| aws_iam::Tag {
                    key: key.to_owned(),
                    value: value.to_owned(),
                };
                let request = CreateInstanceProfileRequest {
                    instance_profile_name: name.clone(),
                    path: None,
                    tags: vec![
                        tag(CLUSTER_TAG, &self.cluster),
                        tag(labels::NODE_CLASS, class.name()),
                    ],
                };
                self.aws.call::<CreateInstanceProfile>(request).await?.instance_profile.roles
            }
            Err(error) => return Err(error),
        };
        if roles.iter().any(|it| it.role_name == *role) {
            return Ok(Some(name));
        }
        for old in roles {
            let request = RemoveRoleFromInstanceProfileRequest {
                instance_profile_name: name.clone(),
                role_name: old.role_name,
            };
            self.aws.call::<RemoveRoleFromInstanceProfile>(request).await?;
        }
        let request = AddRoleToInstanceProfileRequest {
            instance_profile_name: name.clone(),
            role_name: role.clone(),
        };
        self.aws.call::<AddRoleToInstanceProfile>(request).await?;
        Ok(Some(name))
    }

    fn profile_name(&self, class: &str) -> String {
        profile_name(&self.cluster, self.aws.region(), class)
    }

    /// Deletes the profile that was made for a class.
    pub(crate) async fn delete_profile(&self, class: &Ec2NodeClass) -> Result<(), CallError> {
        if class.spec.role.is_none() {
            return Ok(());
        }
        let name = self.profile_name(class.name());
        let request = GetInstanceProfileRequest { instance_profile_name: name.clone() };
        let known = match self.aws.call::<GetInstanceProfile>(request).await {
            Ok(answer) => answer.instance_profile,
            Err(error) if error.is("NoSuchEntity") => return Ok(()),
            Err(error) => return Err(error),
        };
        for role in known.roles {
            let request = RemoveRoleFromInstanceProfileRequest {
                instance_profile_name: name.clone(),
                role_name: role.role_name,
            };
            self.aws.call::<RemoveRoleFromInstanceProfile>(request).await?;
        }
        let request = DeleteInstanceProfileRequest { instance_profile_name: name };
        self.aws.call::<DeleteInstanceProfile>(request).await.map(drop)
    }
}

fn profile_name(cluster: &str, region: &str, class: &str) -> String {
    let digest = Sha256::digest(format!("{region}/{class}"));
    let hash: String = digest.iter().take(10).map(|it| format!("{it:02x}")).collect();
    let cluster: String = cluster.chars().take(MOST_OF_CLUSTER).collect();
    format!("{cluster}_{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_with_long_names_that_begin_alike_have_profiles_of_their_own() {
        let (cluster, long) = ("c".repeat(100), "n".repeat(250));
        let name = |class: &str| profile_name(&cluster, "us-east-1", class);
        let (a, b) = (name(&format!("{long}-a")), name(&format!("{long}-b")));
        assert_ne!(a, b);
        assert_ne!(a, profile_name(&cluster, "us-west-2", &format!("{long}-a")));
        assert_eq!(a, name(&format!("{long}-a")));
        assert!(a.len() <= 128, "{a}");
    }
}
