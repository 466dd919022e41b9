//! `service.beta.kubernetes.io/aws-load-balancer-…`: what they say.

use std::{collections::BTreeMap, str::FromStr};

use k8s_openapi::api::core::v1::{Node, Service};
use kube::ResourceExt;

use super::{ProviderError, failed};

const PREFIX: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// From before the field of the spec.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// A Service's annotations.
pub(super) struct Annotations<'a>(&'a Service);

impl<'a> Annotations<'a> {
    pub(super) fn of(service: &'a Service) -> Self {
        Self(service)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.annotations().get(&format!("{PREFIX}{name}")).map(String::as_str)
    }

    /// Upstream treats an empty one as none, mostly.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|it| !it.is_empty())
    }

    /// Whether the AWS Load Balancer Controller has to do with it.
    pub(super) fn is_external(&self) -> bool {
        matches!(self.get("type"), Some("external" | "nlb-ip"))
    }

    pub(super) fn is_nlb(&self) -> bool {
        self.get("type") == Some("nlb")
    }

    pub(super) fn is_internal(&self) -> bool {
        self.given("internal").is_some_and(|it| it != "false")
    }

    /// A list with commas between.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',').map(str::trim);
        items.filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// `key=value` with commas between; a key alone has an empty value.
    pub(super) fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let pair = |it: String| {
            let (key, value) = it.split_once('=').unwrap_or((&it, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        };
        self.list(name).into_iter().map(pair).filter(|(key, _)| !key.is_empty()).collect()
    }

    /// A boolean as Go reads it.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ProviderError> {
        self.given(name).map(|it| go_bool(it).ok_or_else(|| self.unreadable(name, it))).transpose()
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ProviderError> {
        let parse = |it: &str| it.parse().map_err(|_| self.unreadable(name, it));
        self.given(name).map(parse).transpose()
    }

    fn unreadable(&self, name: &str, value: &str) -> ProviderError {
        failed(format!("error parsing service annotation: {PREFIX}{name}={value}"))
    }

    /// Whom the load balancer lets in.
    pub(super) fn source_ranges(&self) -> Result<Vec<String>, ProviderError> {
        let spec = self.0.spec.as_ref();
        let listed = spec.and_then(|it| it.load_balancer_source_ranges.clone()).unwrap_or_default();
        let (given, origin) = match listed.is_empty() {
            false => (listed, "service.Spec.LoadBalancerSourceRanges"),
            true => {
                let text = self.0.annotations().get(SOURCE_RANGES).map_or("", |it| it.trim());
                let items = text.split(',').map(str::to_owned).filter(|_| !text.is_empty());
                (items.collect(), SOURCE_RANGES)
            }
        };
        if given.is_empty() {
            return Ok(vec!["0.0.0.0/0".to_owned()]);
        }
        let mut ranges = Vec::new();
        for range in &given {
            let Ok(network) = range.trim().parse::<ipnet::Ipv4Net>() else {
                return Err(failed(format!(
                    "{origin}: {given:?} is not valid. Expecting a list of IP ranges. For example, \
                     10.0.0.0/24. Error msg: invalid CIDR address: {range}"
                )));
            };
            ranges.push(network.trunc().to_string());
        }
        ranges.sort();
        ranges.dedup();
        Ok(ranges)
    }

    /// Whether the Service's labels for nodes fit: an empty value fits any.
    pub(super) fn wants_node(&self, node: &Node) -> bool {
        let wanted = self.pairs("target-node-labels");
        let fits = |(key, value): (&String, &String)| {
            node.labels().get(key).is_some_and(|it| value.is_empty() || it == value)
        };
        wanted.iter().all(fits)
    }
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
