//! Tags of load balancers.

use aws_wire::{operations, structures};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Adds tags, or changes their values.
    AddTags(AddTagsRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub load_balancer_names: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub tags: Vec<Tag>,
    }) -> AddTagsResponse {}

    /// Removes tags by their keys.
    RemoveTags(RemoveTagsRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub load_balancer_names: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub tags: Vec<TagKeyOnly>,
    }) -> RemoveTagsResponse {}

    /// The tags of up to twenty load balancers.
    DescribeTags(DescribeTagsRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub load_balancer_names: Vec<String>,
    }) -> DescribeTagsResponse {
        #[serde(default)]
        pub tag_descriptions: Vec<TagDescription>,
    }
}

structures! {
    case "PascalCase";

    Tag {
        pub key: String,
        pub value: Option<String>,
    }

    TagKeyOnly {
        pub key: Option<String>,
    }

    TagDescription {
        pub load_balancer_name: Option<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }
}
