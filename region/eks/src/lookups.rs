//! What there is to choose from, and lists of what no cluster here can have.
//!
//! Deviation: there are no OpenID Connect providers: none can be made, so their list is empty.

use aws_eks::{
    ClusterVersionInformation, DescribeAddonConfiguration, DescribeAddonConfigurationRequest,
    DescribeAddonConfigurationResponse, DescribeClusterVersions, DescribeClusterVersionsRequest,
    DescribeClusterVersionsResponse, ListIdentityProviderConfigs,
    ListIdentityProviderConfigsResponse, ListOfClusterRequest,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

use crate::{
    Eks, addons, faults,
    service::{KUBERNETES_VERSION, PLATFORM_VERSION},
};

const STATUS: &str = "STANDARD_SUPPORT";

impl Handle<DescribeClusterVersions> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeClusterVersionsRequest,
    ) -> Result<DescribeClusterVersionsResponse, Fault> {
        let asked = &request.cluster_versions;
        if let Some(unknown) = asked.iter().find(|it| *it != KUBERNETES_VERSION) {
            return Err(faults::invalid_parameter(format!(
                "The following cluster versions are not found: [{unknown}]"
            )));
        }
        let is_meant = request.cluster_type.as_deref().is_none_or(|it| it == "eks")
            && request.version_status.as_deref().is_none_or(|it| it == STATUS);
        let only = ClusterVersionInformation {
            cluster_version: KUBERNETES_VERSION.to_owned(),
            cluster_type: "eks".to_owned(),
            default_platform_version: PLATFORM_VERSION.to_owned(),
            default_version: true,
            version_status: STATUS.to_owned(),
        };
        let cluster_versions = is_meant.then_some(only).into_iter().collect();
        Ok(DescribeClusterVersionsResponse { next_token: None, cluster_versions })
    }
}

impl Handle<DescribeAddonConfiguration> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeAddonConfigurationRequest,
    ) -> Result<DescribeAddonConfigurationResponse, Fault> {
        let configuration_schema = addons::schema(&request.addon_name, &request.addon_version)?;
        Ok(DescribeAddonConfigurationResponse {
            addon_name: request.addon_name,
            addon_version: request.addon_version,
            configuration_schema,
        })
    }
}

/// The list of a kind of thing that a cluster cannot have.
macro_rules! empty {
    ($operation:ident, $response:ident) => {
        impl Handle<$operation> for Eks {
            fn targets(&self, _: &Caller, request: &ListOfClusterRequest) -> Vec<Target> {
                self.cluster_target(&request.cluster_name)
            }

            async fn handle(
                &self,
                _: &Caller,
                request: ListOfClusterRequest,
            ) -> Result<$response, Fault> {
                self.find(&request.cluster_name)?;
                Ok($response::default())
            }
        }
    };
}

empty!(ListIdentityProviderConfigs, ListIdentityProviderConfigsResponse);
