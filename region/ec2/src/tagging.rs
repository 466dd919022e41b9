//! Tags: what may be set, by whom, and how they look on the wire.

use aws_ec2::common::{Tag, TagInput, TagSpecification};
use aws_wire::Fault;

use crate::{Call, faults, records::Tags};

/// Tags per resource (EC2 user guide, "Tag restrictions").
const LIMIT: usize = 50;

/// The tags that a creating call gives to resources of type `kind`; `allowed` are all types that
/// the call may tag.
pub(crate) fn of_specifications(
    call: &Call<'_>,
    specifications: &[TagSpecification],
    kind: &str,
    allowed: &[&str],
) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for specification in specifications {
        let named = specification.resource_type.as_deref().unwrap_or(kind);
        if !allowed.contains(&named) {
            return Err(faults::invalid(format!(
                "'{named}' is not a valid taggable resource type for this operation."
            )));
        }
        if named == kind {
            merge(call, &mut tags, &specification.tags)?;
        }
    }
    Ok(tags)
}

/// Sets `new` on `tags`, within the rules.
pub(crate) fn merge(call: &Call<'_>, tags: &mut Tags, new: &[TagInput]) -> Result<(), Fault> {
    for tag in new {
        let key = tag.key.clone().ok_or_else(|| faults::missing("Tag.Key"))?;
        let value = tag.value.clone().unwrap_or_default();
        check(call, &key, &value)?;
        tags.insert(key, value);
    }
    if tags.keys().filter(|it| !it.starts_with("aws:")).count() > LIMIT {
        return Err(Fault::new(
            "TagLimitExceeded",
            "The maximum number of Tags for a resource has been reached.",
        ));
    }
    Ok(())
}

pub(crate) fn check(call: &Call<'_>, key: &str, value: &str) -> Result<(), Fault> {
    if key.starts_with("aws:") && !call.caller.is_service() {
        return Err(faults::invalid("Tag keys starting with 'aws:' are reserved for internal use"));
    }
    if key.is_empty() || key.chars().count() > 128 {
        return Err(faults::invalid(format!(
            "Tag key '{key}' must be between 1 and 128 characters long"
        )));
    }
    if value.chars().count() > 256 {
        return Err(faults::invalid(format!(
            "Tag value exceeds the maximum length of 256 characters for key '{key}'"
        )));
    }
    Ok(())
}

/// Tags as they are answered.
pub(crate) fn answer(tags: &Tags) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}
