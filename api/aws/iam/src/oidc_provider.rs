//! OpenID Connect providers: whose tokens may become role sessions.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::Tag;

operations! {
    service "iam", case "PascalCase";

    /// Registers a provider.
    CreateOpenIDConnectProvider(CreateOpenIDConnectProviderRequest {
        pub url: String,
        #[serde(rename = "ClientIDList", default)]
        pub client_id_list: Vec<String>,
        #[serde(default)]
        pub thumbprint_list: Vec<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> CreateOpenIDConnectProviderResponse {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    /// Reads a provider.
    GetOpenIDConnectProvider(GetOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
    }) -> GetOpenIDConnectProviderResponse {
        pub url: String,
        #[serde(rename = "ClientIDList", default)]
        pub client_id_list: Vec<String>,
        #[serde(default)]
        pub thumbprint_list: Vec<String>,
        pub create_date: String,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    /// Removes a provider.
    DeleteOpenIDConnectProvider(DeleteOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
    }) -> DeleteOpenIDConnectProviderResponse {}

    /// Names the providers.
    ListOpenIDConnectProviders(ListOpenIDConnectProvidersRequest {})
        -> ListOpenIDConnectProvidersResponse {
        #[serde(rename = "OpenIDConnectProviderList", default)]
        pub open_id_connect_provider_list: Vec<OpenIDConnectProviderListEntry>,
    }

    /// Replaces the thumbprints.
    UpdateOpenIDConnectProviderThumbprint(UpdateOpenIDConnectProviderThumbprintRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(default)]
        pub thumbprint_list: Vec<String>,
    }) -> UpdateOpenIDConnectProviderThumbprintResponse {}

    /// Adds an audience.
    AddClientIDToOpenIDConnectProvider(AddClientIDToOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(rename = "ClientID")]
        pub client_id: String,
    }) -> AddClientIDToOpenIDConnectProviderResponse {}

    /// Removes an audience.
    RemoveClientIDFromOpenIDConnectProvider(RemoveClientIDFromOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(rename = "ClientID")]
        pub client_id: String,
    }) -> RemoveClientIDFromOpenIDConnectProviderResponse {}

    /// Sets tags.
    TagOpenIDConnectProvider(TagOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> TagOpenIDConnectProviderResponse {}

    /// Removes tags.
    UntagOpenIDConnectProvider(UntagOpenIDConnectProviderRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        #[serde(default)]
        pub tag_keys: Vec<String>,
    }) -> UntagOpenIDConnectProviderResponse {}

    /// Lists tags.
    ListOpenIDConnectProviderTags(ListOpenIDConnectProviderTagsRequest {
        #[serde(rename = "OpenIDConnectProviderArn")]
        pub open_id_connect_provider_arn: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListOpenIDConnectProviderTagsResponse {
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}

aws_wire::structures! {
    case "PascalCase";

    OpenIDConnectProviderListEntry { pub arn: String }
}
