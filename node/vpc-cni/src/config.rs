//! The DaemonSet's environment, by upstream's names and defaults.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;
use tracing::warn;

use crate::warm_pool::Targets;

const ENI_CONFIG: &str = "k8s.amazonaws.com/eniConfig";

/// What operators can set. See upstream's README for the meaning of each variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `WARM_ENI_TARGET`, `WARM_IP_TARGET`, `MINIMUM_IP_TARGET`, `WARM_PREFIX_TARGET`,
    /// `ENABLE_PREFIX_DELEGATION`
    pub targets: Targets,
    /// `MAX_ENI`: only ever lowers the instance type's limit.
    pub max_eni: Option<usize>,
    /// `AWS_VPC_K8S_CNI_EXTERNALSNAT`
    pub is_external_snat: bool,
    /// `AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`
    pub exclude_snat_cidrs: Vec<Ipv4Net>,
    /// `AWS_EXTERNAL_SERVICE_CIDRS`
    pub external_service_cidrs: Vec<Ipv4Net>,
    /// `AWS_VPC_K8S_CNI_RANDOMIZESNAT`: `prng` (default), `hashrandom`, `none`
    pub randomize_snat: String,
    /// `ENABLE_BANDWIDTH_PLUGIN`: pods' bandwidth annotations are heeded.
    pub limits_bandwidth: bool,
    /// `ENABLE_IPv6`: pods have IPv6 addresses, of one prefix of the primary interface.
    pub is_ipv6: bool,
    /// `ENABLE_V4_EGRESS`: in an IPv6 cluster, whether pods reach what is IPv4 only.
    pub has_v4_egress: bool,
    /// `AWS_VPC_ENI_MTU`
    pub eni_mtu: u32,
    /// `POD_MTU`, else the interfaces'.
    pub pod_mtu: u32,
    /// `AWS_VPC_K8S_CNI_VETHPREFIX`
    pub veth_prefix: String,
    /// `IP_COOLDOWN_PERIOD`
    pub cooldown: Duration,
    /// `DISABLE_NETWORK_RESOURCE_PROVISIONING`: use what IMDS shows, never call EC2.
    pub is_provisioning_disabled: bool,
    /// `AWS_MANAGE_ENIS_NON_SCHEDULABLE`
    pub manages_when_unschedulable: bool,
    /// `MANAGE_UNTAGGED_ENI`
    pub manages_untagged: bool,
    /// `ENABLE_SUBNET_DISCOVERY`
    pub discovers_subnets: bool,
    /// `AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`: pods' addresses come from the subnet of an ENIConfig.
    pub is_custom_networking: bool,
    /// `ENI_CONFIG_ANNOTATION_DEF`, `ENI_CONFIG_LABEL_DEF`: where a node names its ENIConfig.
    pub eni_config_annotation: String,
    pub eni_config_label: String,
    /// `ADDITIONAL_ENI_TAGS`, JSON.
    pub additional_tags: BTreeMap<String, String>,
    /// `DISABLE_METRICS`, `DISABLE_INTROSPECTION`, `INTROSPECTION_BIND_ADDRESS`
    pub is_metrics_disabled: bool,
    pub is_introspection_disabled: bool,
    pub introspection_address: String,
    /// `ENABLE_NETWORK_POLICY`: the agent runs beside ipamd.
    pub enforces_policies: bool,
    /// `NETWORK_POLICY_ENFORCING_MODE=strict`: no pod starts before the agent enforces.
    pub is_strict: bool,
    /// `ENABLE_POD_ENI`: pods can have security groups of their own.
    pub enables_pod_eni: bool,
    /// `POD_SECURITY_GROUP_ENFORCING_MODE`: `strict` (default), `standard`.
    pub pod_eni_mode: PodEniMode,
    /// `CLUSTER_NAME`, `MY_NODE_NAME`, `MY_POD_NAME`
    pub cluster_name: String,
    pub node_name: String,
    pub pod_name: String,
}

/// What a pod's own security groups see of its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodEniMode {
    /// All of them.
    #[default]
    Strict,
    /// Those that leave the node by the branch.
    Standard,
}

impl PodEniMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
        }
    }
}

/// Why ipamd does not start with this environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("`{variable}={value}` is not supported here")]
    Unsupported { variable: &'static str, value: String },
    #[error("`{variable}` is `{value}`: {problem}")]
    Wrong { variable: &'static str, value: String, problem: &'static str },
    #[error(
        "with ENABLE_PREFIX_DELEGATION at least one of WARM_PREFIX_TARGET, WARM_IP_TARGET and \
         MINIMUM_IP_TARGET has to be above 0"
    )]
    NoPrefixTarget,
}

impl Config {
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = Environment(&get);
        if env.flag("ENABLE_MULTI_NIC", false) {
            let value = "true".to_owned();
            return Err(ConfigError::Unsupported { variable: "ENABLE_MULTI_NIC", value });
        }
        let is_ipv6 = env.flag("ENABLE_IPv6", false);
        env.check_version(is_ipv6)?;
        let eni_mtu = env.mtu("AWS_VPC_ENI_MTU", 9001)?;
        let prefix = env.text("AWS_VPC_K8S_CNI_VETHPREFIX", "eni");
        if prefix.len() > 4 || matches!(prefix.as_str(), "eth" | "vlan" | "lo") {
            return Err(ConfigError::Wrong {
                variable: "AWS_VPC_K8S_CNI_VETHPREFIX",
                value: prefix,
                problem: "it has to be at most four characters, and not `eth`, `vlan` or `lo`",
            });
        }
        let targets = env.targets()?;
        Ok(Self {
            targets,
            max_eni: env.number("MAX_ENI", 0).try_into().ok().filter(|max| *max >= 1),
            is_external_snat: env.flag("AWS_VPC_K8S_CNI_EXTERNALSNAT", false),
            exclude_snat_cidrs: env.cidrs("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"),
            external_service_cidrs: env.cidrs("AWS_EXTERNAL_SERVICE_CIDRS"),
            randomize_snat: env.text("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
            limits_bandwidth: env.flag("ENABLE_BANDWIDTH_PLUGIN", false),
            is_ipv6,
            has_v4_egress: env.flag("ENABLE_V4_EGRESS", true),
            eni_mtu,
            pod_mtu: env.mtu("POD_MTU", eni_mtu)?,
            veth_prefix: prefix,
            cooldown: Duration::from_secs(
                env.number("IP_COOLDOWN_PERIOD", 30).try_into().unwrap_or(30),
            ),
            is_provisioning_disabled: env.flag("DISABLE_NETWORK_RESOURCE_PROVISIONING", false),
            manages_when_unschedulable: env.flag("AWS_MANAGE_ENIS_NON_SCHEDULABLE", false),
            manages_untagged: env.flag("MANAGE_UNTAGGED_ENI", true),
            discovers_subnets: env.flag("ENABLE_SUBNET_DISCOVERY", true),
            is_custom_networking: env.flag("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", false),
            eni_config_annotation: env.text("ENI_CONFIG_ANNOTATION_DEF", ENI_CONFIG),
            eni_config_label: env.text("ENI_CONFIG_LABEL_DEF", ENI_CONFIG),
            additional_tags: env.tags("ADDITIONAL_ENI_TAGS"),
            is_metrics_disabled: env.flag("DISABLE_METRICS", false),
            is_introspection_disabled: env.flag("DISABLE_INTROSPECTION", false),
            introspection_address: env.text("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:61679"),
            enforces_policies: env.flag("ENABLE_NETWORK_POLICY", false),
            is_strict: env.text("NETWORK_POLICY_ENFORCING_MODE", "standard") == "strict",
            enables_pod_eni: env.flag("ENABLE_POD_ENI", false),
            pod_eni_mode: env.pod_eni_mode(),
            cluster_name: env.text("CLUSTER_NAME", ""),
            node_name: env.text("MY_NODE_NAME", ""),
            pod_name: env.text("MY_POD_NAME", ""),
        })
    }
}

struct Environment<'a, F>(&'a F);

impl<F: Fn(&str) -> Option<String>> Environment<'_, F> {
    fn get(&self, name: &str) -> Option<String> {
        self.0(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or_else(|| default.to_owned())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        match self.get(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true" | "t" | "1") => true,
            Some("false" | "f" | "0") => false,
            _ => default,
        }
    }

    /// What is no number counts as the default, as upstream does.
    fn number(&self, name: &str, default: i64) -> i64 {
        let Some(text) = self.get(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            warn!(variable = name, value = text, default, "not a number: the default is used");
            default
        })
    }

    /// One version of IP, and what goes together with IPv6.
    fn check_version(&self, is_ipv6: bool) -> Result<(), ConfigError> {
        let is_ipv4 = self.flag("ENABLE_IPv4", !is_ipv6);
        let wrong = |variable, value: bool, problem| {
            Err(ConfigError::Wrong { variable, value: value.to_string(), problem })
        };
        if is_ipv4 == is_ipv6 {
            return wrong(
                "ENABLE_IPv4",
                is_ipv4,
                "exactly one of it and ENABLE_IPv6 has to be true",
            );
        }
        if !is_ipv6 {
            return Ok(());
        }
        if !self.flag("ENABLE_PREFIX_DELEGATION", false) {
            return wrong("ENABLE_PREFIX_DELEGATION", false, "IPv6 takes it");
        }
        for variable in ["AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "ENABLE_POD_ENI"] {
            if self.flag(variable, false) {
                return wrong(variable, true, "it is not supported with IPv6");
            }
        }
        Ok(())
    }

    fn targets(&self) -> Result<Targets, ConfigError> {
        let amount = |name, default| usize::try_from(self.number(name, default)).unwrap_or(0);
        let targets = Targets {
            warm_eni: amount("WARM_ENI_TARGET", 1),
            warm_ip: amount("WARM_IP_TARGET", 0),
            minimum_ip: amount("MINIMUM_IP_TARGET", 0),
            warm_prefix: amount("WARM_PREFIX_TARGET", 1),
            is_prefix_mode: self.flag("ENABLE_PREFIX_DELEGATION", false),
        };
        let has_none = targets.warm_ip == 0 && targets.minimum_ip == 0 && targets.warm_prefix == 0;
        if targets.is_prefix_mode && has_none {
            return Err(ConfigError::NoPrefixTarget);
        }
        Ok(targets)
    }

    /// What is no mode counts as the default, as upstream does.
    fn pod_eni_mode(&self) -> PodEniMode {
        const NAME: &str = "POD_SECURITY_GROUP_ENFORCING_MODE";
        match self.text(NAME, "strict").as_str() {
            "strict" => PodEniMode::Strict,
            "standard" => PodEniMode::Standard,
            other => {
                warn!(variable = NAME, value = other, "no enforcing mode: strict is used");
                PodEniMode::Strict
            }
        }
    }

    fn mtu(&self, name: &'static str, default: u32) -> Result<u32, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let problem = "it has to be a number from 576 to 9001";
        match value.parse().ok().filter(|mtu| (576..=9001).contains(mtu)) {
            Some(mtu) => Ok(mtu),
            None => Err(ConfigError::Wrong { variable: name, value, problem }),
        }
    }

    fn cidrs(&self, name: &str) -> Vec<Ipv4Net> {
        let text = self.get(name).unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .filter_map(|part| match part.parse() {
                Ok(cidr) => Some(cidr),
                Err(_) => {
                    warn!(variable = name, value = part, "not a CIDR: left out");
                    None
                }
            })
            .collect()
    }

    /// Tags beginning with `k8s.amazonaws.com` are reserved and left out.
    fn tags(&self, name: &str) -> BTreeMap<String, String> {
        let text = self.get(name).unwrap_or_else(|| "{}".to_owned());
        let mut tags: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_else(|_| {
            warn!(variable = name, "not a JSON object of strings: left out");
            BTreeMap::new()
        });
        tags.retain(|key, _| !key.contains("k8s.amazonaws.com"));
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_environment(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_has_upstreams_defaults() {
        let config = config(&[]).unwrap();
        assert_eq!((config.targets.warm_eni, config.targets.warm_ip), (1, 0));
        assert_eq!((config.eni_mtu, config.pod_mtu, config.max_eni), (9001, 9001, None));
        assert_eq!(config.cooldown, Duration::from_secs(30));
        assert!(!config.is_external_snat && config.discovers_subnets);
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        let error = config(&[("ENABLE_MULTI_NIC", "true")]).unwrap_err();
        assert_eq!(error.to_string(), "`ENABLE_MULTI_NIC=true` is not supported here");
    }

    #[test]
    fn ipv6_is_instead_of_ipv4_and_takes_prefixes() {
        let prefixes = ("ENABLE_PREFIX_DELEGATION", "true");
        let six = ("ENABLE_IPv6", "true");
        let found = config(&[six, ("ENABLE_IPv4", "false"), prefixes]).unwrap();
        assert!(found.is_ipv6 && found.has_v4_egress);
        assert!(!config(&[("ENABLE_IPv4", "true")]).unwrap().is_ipv6);
        for wrong in [
            vec![six, ("ENABLE_IPv4", "true"), prefixes],
            vec![("ENABLE_IPv4", "false")],
            vec![six],
            vec![six, prefixes, ("ENABLE_POD_ENI", "true")],
            vec![six, prefixes, ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")],
        ] {
            assert!(config(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pods_have_branches_where_it_is_asked_for_and_strictly_unless_it_is_said() {
        let of = |pairs: &[(&str, &str)]| {
            let config = config(pairs).unwrap();
            (config.enables_pod_eni, config.pod_eni_mode)
        };
        let mode = "POD_SECURITY_GROUP_ENFORCING_MODE";
        assert_eq!(of(&[]), (false, PodEniMode::Strict));
        let enabled = ("ENABLE_POD_ENI", "true");
        assert_eq!(of(&[enabled, (mode, "standard")]), (true, PodEniMode::Standard));
        assert_eq!(of(&[enabled, (mode, "lenient")]), (true, PodEniMode::Strict));
    }

    #[test]
    fn prefix_mode_needs_a_target_above_zero() {
        let prefix = ("ENABLE_PREFIX_DELEGATION", "true");
        assert_eq!(
            config(&[prefix, ("WARM_PREFIX_TARGET", "0")]),
            Err(ConfigError::NoPrefixTarget)
        );
        assert!(config(&[prefix, ("WARM_PREFIX_TARGET", "0"), ("WARM_IP_TARGET", "5")]).is_ok());
    }

    #[test]
    fn numbers_lists_and_tags_survive_nonsense() {
        let config = config(&[
            ("WARM_ENI_TARGET", "many"),
            ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/8, nonsense,172.16.0.0/12"),
            ("ADDITIONAL_ENI_TAGS", r#"{"team":"a","node.k8s.amazonaws.com/instance_id":"x"}"#),
            ("MAX_ENI", "-1"),
        ])
        .unwrap();
        assert_eq!(config.targets.warm_eni, 1);
        assert_eq!(config.exclude_snat_cidrs.len(), 2);
        assert_eq!(config.additional_tags.into_keys().collect::<Vec<_>>(), ["team"]);
        assert_eq!(config.max_eni, None);
    }

    #[test]
    fn an_mtu_outside_of_its_range_is_refused() {
        for mtu in ["575", "9002", "x"] {
            assert!(config(&[("AWS_VPC_ENI_MTU", mtu)]).is_err(), "{mtu}");
        }
    }
}
