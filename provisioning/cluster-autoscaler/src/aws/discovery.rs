//! Which groups are scaled: those with certain tags, and those that are named.

use aws_autoscaling::{
    group::{AutoScalingGroup, DescribeAutoScalingGroups, DescribeAutoScalingGroupsRequest},
    tag::Filter,
};
use aws_wire::{Client, client::CallError};

/// `asg:tag=KEY[=VALUE],…`: groups that have all of these tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    tags: Vec<(String, Option<String>)>,
}

/// `min:max:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedGroup {
    pub min: i64,
    pub max: i64,
    pub name: String,
}

impl Discovery {
    pub fn parse(spec: &str) -> Result<Self, String> {
        let unsupported =
            || format!("unsupported key or discoverer specified in {spec:?}: only asg:tag= is");
        let (discoverer, rest) = spec.split_once(':').ok_or_else(unsupported)?;
        let (key, tags) = rest.split_once('=').ok_or_else(unsupported)?;
        if discoverer != "asg" || key != "tag" {
            return Err(unsupported());
        }
        let tags: Vec<_> = tags
            .split(',')
            .map(|it| match it.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (it.to_owned(), None),
            })
            .collect();
        match tags.iter().any(|(key, _)| key.is_empty()) {
            true => Err(format!("tag value not supplied or empty in {spec:?}")),
            false => Ok(Self { tags }),
        }
    }

    fn filters(&self) -> Vec<Filter> {
        let filter = |(key, value): &(String, Option<String>)| match value {
            Some(value) => Filter { name: Some(format!("tag:{key}")), values: vec![value.clone()] },
            None => Filter { name: Some("tag-key".to_owned()), values: vec![key.clone()] },
        };
        self.tags.iter().map(filter).collect()
    }
}

impl FixedGroup {
    pub fn parse(spec: &str) -> Result<Self, String> {
        let wrong = || format!("wrong nodes configuration: {spec}, expected min:max:name");
        let mut parts = spec.splitn(3, ':');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (min, max) = number().zip(number()).ok_or_else(wrong)?;
        let name = parts.next().filter(|it| !it.is_empty()).ok_or_else(wrong)?.to_owned();
        match min < 0 || max < min {
            true => Err(format!("wrong nodes configuration: {spec}: bad minimum or maximum")),
            false => Ok(Self { min, max, name }),
        }
    }
}

/// The groups, each once; those that are named with what was said of them.
pub(super) async fn find(
    client: &Client,
    discovery: &[Discovery],
    fixed: &[FixedGroup],
) -> Result<Vec<(AutoScalingGroup, Option<FixedGroup>)>, CallError> {
    let mut found: Vec<(AutoScalingGroup, Option<FixedGroup>)> = Vec::new();
    if !fixed.is_empty() {
        let names = fixed.iter().map(|it| it.name.clone()).collect();
        let request = DescribeAutoScalingGroupsRequest {
            auto_scaling_group_names: names,
            ..Default::default()
        };
        for group in pages(client, request).await? {
            let name = group.auto_scaling_group_name.as_deref();
            let of = fixed.iter().find(|it| Some(it.name.as_str()) == name).cloned();
            found.push((group, of));
        }
    }
    for spec in discovery {
        let request =
            DescribeAutoScalingGroupsRequest { filters: spec.filters(), ..Default::default() };
        for group in pages(client, request).await? {
            let is_known = found
                .iter()
                .any(|(it, _)| it.auto_scaling_group_name == group.auto_scaling_group_name);
            // A group that is going has a status.
            if !is_known && group.status.is_none() {
                found.push((group, None));
            }
        }
    }
    Ok(found)
}

async fn pages(
    client: &Client,
    mut request: DescribeAutoScalingGroupsRequest,
) -> Result<Vec<AutoScalingGroup>, CallError> {
    let mut all = Vec::new();
    request.max_records = Some(100);
    loop {
        let page = client.call::<DescribeAutoScalingGroups>(request.clone()).await?;
        all.extend(page.auto_scaling_groups);
        match page.next_token {
            Some(token) => request.next_token = Some(token),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_tags_or_by_name() {
        let spec = "asg:tag=k8s.io/cluster-autoscaler/enabled,team=a";
        let filters = Discovery::parse(spec).unwrap().filters();
        assert_eq!(filters[0].name.as_deref(), Some("tag-key"));
        assert_eq!(filters[0].values, ["k8s.io/cluster-autoscaler/enabled"]);
        assert_eq!(filters[1].name.as_deref(), Some("tag:team"));
        let fixed = FixedGroup::parse("1:5:a:b").unwrap();
        assert_eq!((fixed.min, fixed.max, fixed.name.as_str()), (1, 5, "a:b"));
        for wrong in ["mig:namePrefix=x", "asg:name=x", "asg:tag=", "asg"] {
            assert!(Discovery::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1:a", "5:1:a", "-1:1:a", "1:5:"] {
            assert!(FixedGroup::parse(wrong).is_err(), "{wrong}");
        }
    }
}
