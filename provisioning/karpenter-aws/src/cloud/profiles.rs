//! Instance profiles: one for each role that a class has named.
//!
//! The name is the cluster's with a hash of the region, the class and the role: IAM takes 128
//! characters, and two classes must not share a profile, or one class's nodes have the other's rights.
//! A role that changes means another profile: instances that run keep the rights that they were
//! launched with. The path says which cluster's and class's a profile is, which is how those are found
//! that nobody needs any more. Upstream: `pkg/providers/instanceprofile` of aws/karpenter-provider-aws.

use std::collections::BTreeMap;

use api_kube::karpenter::{Ec2NodeClass, labels};
use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, CreateInstanceProfile,
    CreateInstanceProfileRequest, DeleteInstanceProfile, DeleteInstanceProfileRequest,
    GetInstanceProfile, GetInstanceProfileRequest, InstanceProfile, ListInstanceProfiles,
    ListInstanceProfilesRequest, RemoveRoleFromInstanceProfile,
    RemoveRoleFromInstanceProfileRequest, Tag,
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
        // IAM takes the name alone.
        let role = role.rsplit('/').next().unwrap_or(role);
        let uid = class.metadata.uid.as_deref().unwrap_or_default();
        let name = profile_name(&self.cluster, self.aws.region(), &format!("{uid}/{role}"));
        let roles = match self.known_profile(&name).await? {
            Some(known) => known.roles,
            None => {
                let request = CreateInstanceProfileRequest {
                    instance_profile_name: name.clone(),
                    path: Some(self.path_of(uid)),
                    tags: self.profile_tags(class),
                };
                self.aws.call::<CreateInstanceProfile>(request).await?.instance_profile.roles
            }
        };
        if roles.iter().any(|it| it.role_name == role) {
            return Ok(Some(name));
        }
        self.strip(&name, roles.into_iter().map(|it| it.role_name)).await?;
        let request = AddRoleToInstanceProfileRequest {
            instance_profile_name: name.clone(),
            role_name: role.to_owned(),
        };
        self.aws.call::<AddRoleToInstanceProfile>(request).await?;
        Ok(Some(name))
    }

    async fn known_profile(&self, name: &str) -> Result<Option<InstanceProfile>, CallError> {
        let request = GetInstanceProfileRequest { instance_profile_name: name.to_owned() };
        match self.aws.call::<GetInstanceProfile>(request).await {
            Ok(answer) => Ok(Some(answer.instance_profile)),
            Err(error) if error.is("NoSuchEntity") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn profile_tags(&self, class: &Ec2NodeClass) -> Vec<Tag> {
        let own = [
            (format!("kubernetes.io/cluster/{}", self.cluster), "owned"),
            (CLUSTER_TAG.to_owned(), self.cluster.as_str()),
            (labels::NODE_CLASS.to_owned(), class.name()),
            (labels::REGION.to_owned(), self.aws.region()),
        ];
        let mut all: BTreeMap<String, String> = class.spec.tags.clone();
        all.extend(own.map(|(key, value)| (key, value.to_owned())));
        all.into_iter().map(|(key, value)| Tag { key, value }).collect()
    }

    /// Where the profiles of a class are, by its uid; of an empty one, those of the whole cluster.
    fn path_of(&self, class: &str) -> String {
        let path = format!("/karpenter/{}/{}/", self.aws.region(), self.cluster);
        if class.is_empty() { path } else { format!("{path}{class}/") }
    }

    /// The names of all profiles that were made for classes of the cluster.
    pub(crate) async fn profiles(&self) -> Result<Vec<String>, CallError> {
        self.profiles_of("").await
    }

    async fn profiles_of(&self, class: &str) -> Result<Vec<String>, CallError> {
        let mut request = ListInstanceProfilesRequest {
            path_prefix: Some(self.path_of(class)),
            ..ListInstanceProfilesRequest::default()
        };
        let mut names = Vec::new();
        loop {
            let page = self.aws.call::<ListInstanceProfiles>(request.clone()).await?;
            names.extend(page.instance_profiles.into_iter().map(|it| it.instance_profile_name));
            request.marker = page.marker.filter(|it| page.is_truncated && !it.is_empty());
            if request.marker.is_none() {
                return Ok(names);
            }
        }
    }

    /// Deletes all profiles that were made for a class, whatever it names now.
    pub(crate) async fn delete_profiles(&self, class: &Ec2NodeClass) -> Result<(), CallError> {
        // Of a class that is not stored the path is the cluster's.
        let Some(uid) = class.metadata.uid.as_deref() else { return Ok(()) };
        for name in self.profiles_of(uid).await? {
            self.delete_profile(&name).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete_profile(&self, name: &str) -> Result<(), CallError> {
        let Some(known) = self.known_profile(name).await? else { return Ok(()) };
        self.strip(name, known.roles.into_iter().map(|it| it.role_name)).await?;
        let request = DeleteInstanceProfileRequest { instance_profile_name: name.to_owned() };
        match self.aws.call::<DeleteInstanceProfile>(request).await {
            Err(error) if !error.is("NoSuchEntity") => Err(error),
            _ => Ok(()),
        }
    }

    async fn strip(
        &self,
        name: &str,
        roles: impl Iterator<Item = String>,
    ) -> Result<(), CallError> {
        for role_name in roles {
            let instance_profile_name = name.to_owned();
            let request = RemoveRoleFromInstanceProfileRequest { instance_profile_name, role_name };
            self.aws.call::<RemoveRoleFromInstanceProfile>(request).await?;
        }
        Ok(())
    }
}

fn profile_name(cluster: &str, region: &str, of: &str) -> String {
    let digest = Sha256::digest(format!("{region}/{of}"));
    let hash: String = digest.iter().take(10).map(|it| format!("{it:02x}")).collect();
    let cluster: String = cluster.chars().take(MOST_OF_CLUSTER).collect();
    format!("{cluster}_{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_alike_and_is_long_has_profiles_of_its_own() {
        let (cluster, long) = ("c".repeat(100), "n".repeat(250));
        let name = |of: &str| profile_name(&cluster, "us-east-1", of);
        let (a, b) = (name(&format!("{long}-a")), name(&format!("{long}-b")));
        assert_ne!(a, b);
        assert_ne!(a, profile_name(&cluster, "us-west-2", &format!("{long}-a")));
        assert_eq!(a, name(&format!("{long}-a")));
        assert!(a.len() <= 128, "{a}");
    }
}
