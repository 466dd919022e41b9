//! What upstream refuses, in its words.
//!
//! Upstream: `pkg/scheduler/apis/config/validation`.
//! Deviation: the terms of `addedAffinity` are not looked into; one that is malformed selects nothing.

mod extender;

use std::fmt::Display;

use component_config::duration::SignedGoDuration as GoDuration;

use super::{
    Configuration, ProfileConfig,
    args::{
        self, DefaultPreemptionArgs, DynamicResourcesArgs, InterPodAffinityArgs, NodeAffinityArgs,
        NodeResourcesBalancedAllocationArgs, NodeResourcesFitArgs, PodTopologySpreadArgs,
        ResourceSpec, ShapePoint, VolumeBindingArgs,
    },
    load::ConfigError,
};

const STRATEGIES: [&str; 3] = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
const NOT_SATISFIED: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];

/// Refuses a configuration in which something is wrong, and tells all of it.
pub fn check(config: &Configuration) -> Result<(), ConfigError> {
    let mut errors = Errors(Vec::new());
    errors.client(config);
    errors.leader_election(config);
    if config.parallelism <= 0 {
        errors.invalid(
            "parallelism",
            config.parallelism,
            "should be an integer value greater than zero",
        );
    }
    errors.profiles(config);
    errors.percentage("percentageOfNodesToScore", config.percentage_of_nodes_to_score);
    let (first, last) = (config.pod_initial_backoff_seconds, config.pod_max_backoff_seconds);
    if first <= 0 {
        errors.invalid("podInitialBackoffSeconds", first, "must be greater than 0");
    }
    if last < first {
        let why = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.invalid("podMaxBackoffSeconds", last, why);
    }
    extender::check(&mut errors, &config.extenders);
    match errors.0.len() {
        0 => Ok(()),
        1 => Err(ConfigError::Invalid { message: errors.0.remove(0) }),
        _ => Err(ConfigError::Invalid { message: format!("[{}]", errors.0.join(", ")) }),
    }
}

/// The messages so far.
struct Errors(Vec<String>);

impl Errors {
    fn invalid(&mut self, path: impl Display, value: impl Display, why: &str) {
        self.0.push(format!("{path}: Invalid value: {value}: {why}"));
    }

    fn text(&mut self, path: impl Display, value: &str, why: &str) {
        self.invalid(path, format_args!("{value:?}"), why);
    }

    fn required(&mut self, path: impl Display, why: &str) {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        self.0.push(format!("{path}: Required value{why}"));
    }

    fn unsupported(&mut self, path: impl Display, value: &str, supported: &[&str]) {
        let supported: Vec<_> = supported.iter().map(|it| format!("{it:?}")).collect();
        let supported = supported.join(", ");
        self.0.push(format!("{path}: Unsupported value: {value:?}: supported values: {supported}"));
    }

    fn range(&mut self, path: impl Display, value: i32, (least, most): (i32, i32)) {
        if !(least..=most).contains(&value) {
            self.invalid(path, value, &format!("not in valid range [{least}, {most}]"));
        }
    }

    fn percentage(&mut self, path: impl Display, value: Option<i32>) {
        if let Some(value) = value.filter(|it| !(0..=100).contains(it)) {
            self.invalid(path, value, "not in valid range [0-100]");
        }
    }

    fn client(&mut self, config: &Configuration) {
        let burst = config.client_connection.burst;
        if burst < 0 {
            self.invalid("clientConnection.burst", burst, "must be non-negative");
        }
    }

    fn leader_election(&mut self, config: &Configuration) {
        let it = &config.leader_election;
        if !it.leader_elect {
            return;
        }
        for (name, duration) in [
            ("leaseDuration", it.lease_duration),
            ("renewDeadline", it.renew_deadline),
            ("retryPeriod", it.retry_period),
        ] {
            if duration.0 <= 0 {
                let path = format!("leaderElection.{name}");
                self.invalid(path, duration, "must be greater than zero");
            }
        }
        if it.lease_duration < it.renew_deadline {
            let why = "LeaseDuration must be greater than RenewDeadline";
            self.invalid("leaderElection.leaseDuration", it.renew_deadline, why);
        }
        for (name, text) in [
            ("resourceLock", &it.resource_lock),
            ("resourceNamespace", &it.resource_namespace),
            ("resourceName", &it.resource_name),
        ] {
            if text.is_empty() {
                let why = format!("{name} is required");
                self.text(format_args!("leaderElection.{name}"), text, &why);
            }
        }
        if it.resource_lock != "leases" {
            let why = "resourceLock value must be \"leases\"";
            self.text("leaderElection.resourceLock", &it.resource_lock, why);
        }
    }

    fn profiles(&mut self, config: &Configuration) {
        for (index, profile) in config.profiles.iter().enumerate() {
            let path = format!("profiles[{index}]");
            if profile.name().is_empty() {
                self.required(format_args!("{path}.schedulerName"), "");
            }
            let percentage = format!("{path}.percentageOfNodesToScore");
            self.percentage(percentage, profile.percentage_of_nodes_to_score);
            self.plugin_config(&path, profile);
            let mut earlier = config.profiles[..index].iter();
            if let Some(other) = earlier.position(|it| it.name() == profile.name()) {
                self.0.push(format!(
                    "{path}.schedulerName: Duplicate value: \"profiles[{other}].schedulerName\""
                ));
            }
        }
    }

    fn plugin_config(&mut self, profile: &str, config: &ProfileConfig) {
        for (index, plugin) in config.plugin_config.iter().enumerate() {
            let at = format!("{profile}.pluginConfig[{index}]");
            let name = plugin.name.as_str();
            if config.plugin_config[..index].iter().any(|it| it.name == name) {
                self.0.push(format!("{at}: Duplicate value: {name:?}"));
            } else if args::WITH_ARGS.contains(&name)
                && let Err(why) = self.args(&format!("{at}.args"), name, config)
            {
                self.0.push(why);
            }
        }
    }

    fn args(&mut self, at: &str, name: &str, config: &ProfileConfig) -> Result<(), String> {
        match name {
            "DefaultPreemption" => self.preemption(at, &args::of(config, name)?),
            "DynamicResources" => self.devices(at, &args::of(config, name)?),
            "InterPodAffinity" => {
                let args: InterPodAffinityArgs = args::of(config, name)?;
                let path = format!("{at}.hardPodAffinityWeight");
                self.range(path, args.hard_pod_affinity_weight, (0, 100));
            }
            "NodeAffinity" => drop(args::of::<NodeAffinityArgs>(config, name)?),
            "NodeResourcesBalancedAllocation" => self.balance(at, &args::of(config, name)?),
            "NodeResourcesFit" => self.fit(at, &args::of(config, name)?),
            "PodTopologySpread" => self.spread(at, &args::of(config, name)?),
            _ => self.volumes(at, &args::of(config, name)?),
        }
        Ok(())
    }

    fn preemption(&mut self, at: &str, args: &DefaultPreemptionArgs) {
        let (percentage, absolute) =
            (args.min_candidate_nodes_percentage, args.min_candidate_nodes_absolute);
        let percentage_path = format!("{at}.minCandidateNodesPercentage");
        let absolute_path = format!("{at}.minCandidateNodesAbsolute");
        self.range(&percentage_path, percentage, (0, 100));
        if absolute < 0 {
            self.invalid(&absolute_path, absolute, "not in valid range [0, inf)");
        }
        if (percentage, absolute) == (0, 0) {
            let why = "cannot be zero at the same time as minCandidateNodesAbsolute";
            self.invalid(percentage_path, percentage, why);
            let why = "cannot be zero at the same time as minCandidateNodesPercentage";
            self.invalid(absolute_path, absolute, why);
        }
    }

    fn devices(&mut self, at: &str, args: &DynamicResourcesArgs) {
        if args.filter_timeout.0 < 0 {
            let why = "must not be negative";
            self.invalid(format_args!("{at}.filterTimeout"), args.filter_timeout, why);
        }
        if args.binding_timeout < GoDuration::seconds(1) {
            let why = "must be at least 1 second";
            self.invalid(format_args!("{at}.bindingTimeout"), args.binding_timeout, why);
        }
    }

    fn balance(&mut self, at: &str, args: &NodeResourcesBalancedAllocationArgs) {
        for (index, resource) in args.resources.iter().enumerate() {
            let path = format!("{at}.resources[{index}]");
            if args.resources[..index].iter().any(|it| it.name == resource.name) {
                self.0.push(format!("{path}.name: Duplicate value: {:?}", resource.name));
            }
            if resource.weight != 1 {
                self.invalid(format_args!("{path}.weight"), resource.weight, "must be 1");
            }
        }
    }

    fn fit(&mut self, at: &str, args: &NodeResourcesFitArgs) {
        for (index, group) in args.ignored_resource_groups.iter().enumerate() {
            if group.contains('/') {
                let path = format!("{at}.ignoredResourceGroups[{index}]");
                self.text(path, group, "resource group name can't contain '/'");
            }
        }
        let strategy = &args.scoring_strategy;
        let path = format!("{at}.scoringStrategy");
        if !STRATEGIES.contains(&strategy.kind.as_str()) {
            self.unsupported(format_args!("{path}.type"), &strategy.kind, &STRATEGIES);
        }
        self.resources(&format!("{path}.resources"), &strategy.resources);
        if let Some(ratio) = &strategy.requested_to_capacity_ratio {
            self.shape(&format!("{path}.shape"), &ratio.shape);
        } else if strategy.kind == STRATEGIES[2] {
            self.shape(&format!("{path}.shape"), &[]);
        }
    }

    fn resources(&mut self, at: &str, resources: &[ResourceSpec]) {
        for (index, it) in resources.iter().enumerate() {
            if !(1..=100).contains(&it.weight) {
                let why = format!("resource weight of {} not in valid range (0, 100]", it.name);
                self.invalid(format_args!("{at}[{index}].weight"), it.weight, &why);
            }
        }
    }

    fn shape(&mut self, at: &str, shape: &[ShapePoint]) {
        if shape.is_empty() {
            return self.required(at, "at least one point must be specified");
        }
        let falls = |index: &usize| shape[index - 1].utilization >= shape[*index].utilization;
        if let Some(index) = (1..shape.len()).find(falls) {
            let why = "utilization values must be sorted in increasing order";
            let path = format!("{at}[{index}].utilization");
            self.invalid(path, shape[index].utilization, why);
        }
        for (index, point) in shape.iter().enumerate() {
            self.range(format_args!("{at}[{index}].utilization"), point.utilization, (0, 100));
            self.range(format_args!("{at}[{index}].score"), point.score, (0, 10));
        }
    }

    fn spread(&mut self, at: &str, args: &PodTopologySpreadArgs) {
        let (kind, constraints) = (args.defaulting_type.as_str(), &args.default_constraints);
        let path = format!("{at}.defaultingType");
        if !matches!(kind, "System" | "List") {
            self.unsupported(path, kind, &["System", "List"]);
        } else if kind == "System" && !constraints.is_empty() {
            self.text(path, kind, "when .defaultConstraints are not empty");
        }
        let list = format!("{at}.defaultConstraints");
        for (index, it) in constraints.iter().enumerate() {
            let path = format!("{list}[{index}]");
            if it.max_skew <= 0 {
                self.invalid(
                    format_args!("{path}.maxSkew"),
                    it.max_skew,
                    "not in valid range (0, inf)",
                );
            }
            if it.topology_key.is_empty() {
                self.required(format_args!("{path}.topologyKey"), "can not be empty");
            }
            match it.when_unsatisfiable.as_str() {
                "" => self.required(format_args!("{path}.whenUnsatisfiable"), "can not be empty"),
                one if NOT_SATISFIED.contains(&one) => {}
                other => {
                    let path = format!("{path}.whenUnsatisfiable");
                    self.unsupported(path, other, &NOT_SATISFIED);
                }
            }
            if it.label_selector.is_some() {
                self.0.push(format!(
                    "{path}.labelSelector: Forbidden: constraint must not define a selector, as they \
                     deduced for each pod"
                ));
            }
            let is_same = |other: &&args::DefaultConstraint| {
                other.topology_key == it.topology_key
                    && other.when_unsatisfiable == it.when_unsatisfiable
            };
            if constraints[..index].iter().any(|other| is_same(&other)) {
                let pair = format!("{{{}, {}}}", it.topology_key, it.when_unsatisfiable);
                self.0.push(format!("{path}: Duplicate value: {pair:?}"));
            }
        }
    }

    fn volumes(&mut self, at: &str, args: &VolumeBindingArgs) {
        if args.bind_timeout_seconds < 0 {
            let why = "invalid BindTimeoutSeconds, should not be a negative value";
            self.invalid(format_args!("{at}.bindTimeoutSeconds"), args.bind_timeout_seconds, why);
        }
        if !args.shape.is_empty() {
            self.0.push(format!("{at}.shape: Forbidden: scoring by capacity is not supported"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(fields: Value) -> String {
        let config: Configuration = serde_json::from_value(fields).unwrap();
        check(&config).err().map(|it| it.to_string()).unwrap_or_default()
    }

    fn told_of_args(plugin: &str, args: Value) -> String {
        let told =
            told(json!({ "profiles": [{ "pluginConfig": [{ "name": plugin, "args": args }] }] }));
        told.replace("profiles[0].pluginConfig[0].args", "args")
    }

    #[test]
    fn what_is_out_of_range_is_told_with_its_path() {
        assert_eq!(told(json!({})), "");
        assert_eq!(
            told(json!({ "parallelism": 0, "percentageOfNodesToScore": 101 })),
            "[parallelism: Invalid value: 0: should be an integer value greater than zero, \
             percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]]"
        );
        assert_eq!(
            told(json!({ "podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 4 })),
            "podMaxBackoffSeconds: Invalid value: 4: must be greater than or equal to \
             PodInitialBackoffSeconds"
        );
        assert_eq!(
            told(json!({ "leaderElection": { "leaseDuration": "5s" } })),
            "leaderElection.leaseDuration: Invalid value: 10s: LeaseDuration must be greater than \
             RenewDeadline"
        );
    }

    #[test]
    fn each_scheduler_has_one_profile_and_each_plug_in_one_configuration() {
        let profile = json!({ "schedulerName": "a" });
        assert_eq!(
            told(json!({ "profiles": [profile, profile, { "schedulerName": "" }] })),
            "[profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\", \
             profiles[2].schedulerName: Required value]"
        );
        let twice = json!([{ "name": "NodeAffinity" }, { "name": "NodeAffinity" }]);
        assert_eq!(
            told(json!({ "profiles": [{ "pluginConfig": twice }] })),
            "profiles[0].pluginConfig[1]: Duplicate value: \"NodeAffinity\""
        );
    }

    #[test]
    fn arguments_are_checked_in_upstreams_words() {
        for (plugin, args, expected) in [
            (
                "InterPodAffinity",
                json!({ "hardPodAffinityWeight": 200 }),
                "args.hardPodAffinityWeight: Invalid value: 200: not in valid range [0, 100]",
            ),
            (
                "NodeResourcesFit",
                json!({ "scoringStrategy": { "type": "Fullest", "resources": [
                    { "name": "cpu", "weight": 101 }] } }),
                "[args.scoringStrategy.type: Unsupported value: \"Fullest\": supported values: \
                 \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\", \
                 args.scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu \
                 not in valid range (0, 100]]",
            ),
            (
                "PodTopologySpread",
                json!({ "defaultConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
                    "whenUnsatisfiable": "Never" }] }),
                "[args.defaultingType: Invalid value: \"System\": when .defaultConstraints are not \
                 empty, args.defaultConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": \
                 supported values: \"DoNotSchedule\", \"ScheduleAnyway\"]",
            ),
            (
                "DefaultPreemption",
                json!({ "minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": -1 }),
                "args.minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)",
            ),
            (
                "VolumeBinding",
                json!({ "bindTimeoutSeconds": -1 }),
                "args.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be \
                 a negative value",
            ),
        ] {
            assert_eq!(told_of_args(plugin, args), expected);
        }
        let falling =
            json!([{ "utilization": 50, "score": 1 }, { "utilization": 40, "score": 11 }]);
        let strategy = json!({ "type": "RequestedToCapacityRatio",
            "requestedToCapacityRatio": { "shape": falling } });
        assert_eq!(
            told_of_args("NodeResourcesFit", json!({ "scoringStrategy": strategy })),
            "[args.scoringStrategy.shape[1].utilization: Invalid value: 40: utilization values must be \
             sorted in increasing order, args.scoringStrategy.shape[1].score: Invalid value: 11: not in \
             valid range [0, 10]]"
        );
    }
}
