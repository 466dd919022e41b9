//! What IAM decides on: the ARNs and tags of the resources that a call touches.

use aws_ec2::common::TagSpecification;
use region_gateway::{Caller, Target};

use crate::{Ec2, records::Tags};

/// One target per id, with the tags that the resource carries.
pub(crate) fn of_ids<S: AsRef<str>>(ec2: &Ec2, _caller: &Caller, ids: &[S]) -> Vec<Target> {
    let view = ec2.view();
    let none = Tags::new();
    let target = |id: &str| {
        let found = view.all_tags().find(|(_, it, _)| *it == id);
        let (kind, tags) = found.map_or(("*", &none), |(kind, _, tags)| (kind, tags));
        let pairs = || tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Target::resource(ec2.config().arn(kind, id))
            .with_tags("aws:ResourceTag", pairs())
            .with_tags("ec2:ResourceTag", pairs())
    };
    match ids {
        [] => vec![Target::any()],
        _ => ids.iter().map(|it| target(it.as_ref())).collect(),
    }
}

/// Making a resource of type `kind`, and tagging it while it is made.
pub(crate) fn of_creation(
    ec2: &Ec2,
    action: &str,
    kind: &str,
    specifications: &[TagSpecification],
) -> Vec<Target> {
    let all: Vec<(&str, &str)> = specifications
        .iter()
        .flat_map(|it| &it.tags)
        .map(|it| (it.key.as_deref().unwrap_or_default(), it.value.as_deref().unwrap_or_default()))
        .collect();
    let arn = ec2.config().arn(kind, "*");
    let made = Target::resource(&arn).with_tags("aws:RequestTag", all.iter().copied());
    let mut targets = vec![made];
    if !all.is_empty() {
        let tagged = Target::action("ec2:CreateTags", &arn)
            .with("ec2:CreateAction", [action.to_owned()])
            .with_tags("aws:RequestTag", all.iter().copied());
        targets.push(tagged);
    }
    targets
}
