//! The flags that stand for fields of the configuration file, and those that upstream still has but
//! that say nothing to this kubelet.
//!
//! A table says which field a flag sets and how its text is read; what was given becomes a JSON object
//! that is merged over the files.
//!
//! Upstream: `AddKubeletConfigFlags` in `cmd/kubelet/app/options/options.go`.

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error as UsageError, FromArgMatches, error::ErrorKind,
    parser::ValueSource,
};
use serde_json::{Map, Value, json};

use super::deprecated;

/// How the text of a flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    Number,
    /// `a,b,c`
    List,
    /// `a=b,c=d`
    Pairs,
    /// `a<b,c<d`
    Thresholds,
    /// `a=true,b=false`
    Gates,
    /// `key=value:Effect,…`
    Taints,
    /// `0:memory=1Gi,hugepages-1M=2Gi`
    Memory,
    /// `name:value,…`
    Headers,
}

use Kind::{Bool, Gates, Headers, List, Memory, Number, Pairs, Taints, Text, Thresholds};

const FIELDS: &[(&str, &str, Kind)] = &[
    ("enable-server", "enableServer", Bool),
    ("fail-swap-on", "failSwapOn", Bool),
    ("fail-cgroupv1", "failCgroupV1", Bool),
    ("pod-manifest-path", "staticPodPath", Text),
    ("sync-frequency", "syncFrequency", Text),
    ("file-check-frequency", "fileCheckFrequency", Text),
    ("http-check-frequency", "httpCheckFrequency", Text),
    ("manifest-url", "staticPodURL", Text),
    ("manifest-url-header", "staticPodURLHeader", Headers),
    ("address", "address", Text),
    ("port", "port", Number),
    ("read-only-port", "readOnlyPort", Number),
    ("container-runtime-endpoint", "containerRuntimeEndpoint", Text),
    ("image-service-endpoint", "imageServiceEndpoint", Text),
    ("anonymous-auth", "authentication.anonymous.enabled", Bool),
    ("authentication-token-webhook", "authentication.webhook.enabled", Bool),
    ("authentication-token-webhook-cache-ttl", "authentication.webhook.cacheTTL", Text),
    ("client-ca-file", "authentication.x509.clientCAFile", Text),
    ("authorization-mode", "authorization.mode", Text),
    (
        "authorization-webhook-cache-authorized-ttl",
        "authorization.webhook.cacheAuthorizedTTL",
        Text,
    ),
    (
        "authorization-webhook-cache-unauthorized-ttl",
        "authorization.webhook.cacheUnauthorizedTTL",
        Text,
    ),
    ("tls-cert-file", "tlsCertFile", Text),
    ("tls-private-key-file", "tlsPrivateKeyFile", Text),
    ("rotate-server-certificates", "serverTLSBootstrap", Bool),
    ("tls-cipher-suites", "tlsCipherSuites", List),
    ("tls-min-version", "tlsMinVersion", Text),
    ("rotate-certificates", "rotateCertificates", Bool),
    ("registry-qps", "registryPullQPS", Number),
    ("registry-burst", "registryBurst", Number),
    ("event-qps", "eventRecordQPS", Number),
    ("event-burst", "eventBurst", Number),
    ("enable-debugging-handlers", "enableDebuggingHandlers", Bool),
    ("contention-profiling", "enableContentionProfiling", Bool),
    ("healthz-port", "healthzPort", Number),
    ("healthz-bind-address", "healthzBindAddress", Text),
    ("oom-score-adj", "oomScoreAdj", Number),
    ("cluster-domain", "clusterDomain", Text),
    ("volume-plugin-dir", "volumePluginDir", Text),
    ("cluster-dns", "clusterDNS", List),
    ("streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", Text),
    ("node-status-update-frequency", "nodeStatusUpdateFrequency", Text),
    ("minimum-image-ttl-duration", "imageMinimumGCAge", Text),
    ("image-gc-high-threshold", "imageGCHighThresholdPercent", Number),
    ("image-gc-low-threshold", "imageGCLowThresholdPercent", Number),
    ("volume-stats-agg-period", "volumeStatsAggPeriod", Text),
    ("feature-gates", "featureGates", Gates),
    ("kubelet-cgroups", "kubeletCgroups", Text),
    ("system-cgroups", "systemCgroups", Text),
    ("provider-id", "providerID", Text),
    ("cgroups-per-qos", "cgroupsPerQOS", Bool),
    ("cgroup-driver", "cgroupDriver", Text),
    ("cgroup-root", "cgroupRoot", Text),
    ("cpu-manager-policy", "cpuManagerPolicy", Text),
    ("cpu-manager-policy-options", "cpuManagerPolicyOptions", Pairs),
    ("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", Text),
    ("qos-reserved", "qosReserved", Pairs),
    ("topology-manager-policy", "topologyManagerPolicy", Text),
    ("topology-manager-policy-options", "topologyManagerPolicyOptions", Pairs),
    ("topology-manager-scope", "topologyManagerScope", Text),
    ("runtime-request-timeout", "runtimeRequestTimeout", Text),
    ("hairpin-mode", "hairpinMode", Text),
    ("max-pods", "maxPods", Number),
    ("pod-cidr", "podCIDR", Text),
    ("pod-max-pids", "podPidsLimit", Number),
    ("resolv-conf", "resolvConf", Text),
    ("runonce", "runOnce", Bool),
    ("cpu-cfs-quota", "cpuCFSQuota", Bool),
    ("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", Text),
    ("enable-controller-attach-detach", "enableControllerAttachDetach", Bool),
    ("make-iptables-util-chains", "makeIPTablesUtilChains", Bool),
    ("container-log-max-size", "containerLogMaxSize", Text),
    ("container-log-max-files", "containerLogMaxFiles", Number),
    ("allowed-unsafe-sysctls", "allowedUnsafeSysctls", List),
    ("node-status-max-images", "nodeStatusMaxImages", Number),
    ("kernel-memcg-notification", "kernelMemcgNotification", Bool),
    ("local-storage-capacity-isolation", "localStorageCapacityIsolation", Bool),
    ("max-open-files", "maxOpenFiles", Number),
    ("kube-api-content-type", "contentType", Text),
    ("kube-api-qps", "kubeAPIQPS", Number),
    ("kube-api-burst", "kubeAPIBurst", Number),
    ("serialize-image-pulls", "serializeImagePulls", Bool),
    ("eviction-hard", "evictionHard", Thresholds),
    ("eviction-soft", "evictionSoft", Thresholds),
    ("eviction-soft-grace-period", "evictionSoftGracePeriod", Pairs),
    ("eviction-pressure-transition-period", "evictionPressureTransitionPeriod", Text),
    ("eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", Number),
    ("eviction-minimum-reclaim", "evictionMinimumReclaim", Pairs),
    ("pods-per-core", "podsPerCore", Number),
    ("protect-kernel-defaults", "protectKernelDefaults", Bool),
    ("reserved-cpus", "reservedSystemCPUs", Text),
    ("system-reserved", "systemReserved", Pairs),
    ("kube-reserved", "kubeReserved", Pairs),
    ("enforce-node-allocatable", "enforceNodeAllocatable", List),
    ("system-reserved-cgroup", "systemReservedCgroup", Text),
    ("kube-reserved-cgroup", "kubeReservedCgroup", Text),
    ("memory-manager-policy", "memoryManagerPolicy", Text),
    ("reserved-memory", "reservedMemory", Memory),
    ("register-node", "registerNode", Bool),
    ("register-with-taints", "registerWithTaints", Taints),
    ("seccomp-default", "seccompDefault", Bool),
    ("logging-format", "logging.format", Text),
    ("log-flush-frequency", "logging.flushFrequency", Text),
    ("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", Text),
];

/// Known to upstream, of no meaning here; each takes a value.
const IGNORED: &[&str] = &[
    "vmodule",
    "log-text-split-stream",
    "log-text-info-buffer-size",
    "log-json-split-stream",
    "log-json-info-buffer-size",
    "log-cadvisor-usage",
    "runtime-cgroups",
    "experimental-mounter-path",
    "housekeeping-interval",
    "global-housekeeping-interval",
    "application-metrics-count-limit",
    "boot-id-file",
    "machine-id-file",
    "container-hints",
    "containerd",
    "containerd-namespace",
    "enable-load-reader",
    "event-storage-age-limit",
    "event-storage-event-limit",
    "storage-driver-buffer-duration",
    "storage-driver-db",
    "storage-driver-host",
    "storage-driver-password",
    "storage-driver-secure",
    "storage-driver-table",
    "storage-driver-user",
];

/// What allocatable is computed without it: the configuration file has no such field.
const IGNORES_EVICTION: &str = "experimental-allocatable-ignore-eviction";

/// Deprecated flags of [`super::Args`], by their names there.
const OF_COMMAND: [(&str, &str); 3] = [
    ("minimum_container_ttl_duration", "minimum-container-ttl-duration"),
    ("maximum_dead_containers_per_container", "maximum-dead-containers-per-container"),
    ("maximum_dead_containers", "maximum-dead-containers"),
];

/// What was given, as it goes over the configuration files.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationFlags {
    pub overlay: Value,
    /// Hard eviction thresholds are not kept back from what is allocatable.
    pub allocatable_ignores_eviction: bool,
    /// What is to be said of those that were given.
    pub warnings: Vec<String>,
}

impl clap::Args for ConfigurationFlags {
    fn augment_args(command: Command) -> Command {
        let fields = FIELDS.iter().map(|(name, _, kind)| argument(name, *kind));
        let ignored = IGNORED.iter().map(|name| {
            // Some are switches, and may stand alone.
            argument(name, Bool).hide(true)
        });
        let removed = deprecated::REMOVED.iter().map(|name| argument(name, Bool).hide(true));
        let own = argument(IGNORES_EVICTION, Bool).hide(true);
        command.args(fields).args(ignored).args(removed).arg(own)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(name: &'static str, kind: Kind) -> Arg {
    let arg = Arg::new(name).long(name).action(ArgAction::Append).hide_short_help(true);
    let arg = arg.allow_hyphen_values(true).help_heading("Fields of the configuration file");
    match kind {
        // As in Go: `--flag`, or `--flag=false`, never `--flag false`.
        Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg.num_args(1),
    }
}

impl FromArgMatches for ConfigurationFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, UsageError> {
        let given = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
        if let Some(name) = deprecated::REMOVED.iter().find(|it| given(it).next().is_some()) {
            let message = deprecated::removed(name);
            return Err(UsageError::raw(ErrorKind::UnknownArgument, message));
        }
        let value = |name: &str, kind, text: &str| {
            read(kind, text).map_err(|why| {
                let message = format!("invalid argument {text:?} for \"--{name}\" flag: {why}\n");
                UsageError::raw(ErrorKind::ValueValidation, message)
            })
        };
        let mut overlay = Value::Object(Map::new());
        for (name, path, kind) in FIELDS {
            for text in given(name) {
                put(&mut overlay, path, value(name, *kind, text)?);
            }
        }
        let ignores = given(IGNORES_EVICTION).next_back();
        let ignores = ignores.map(|it| value(IGNORES_EVICTION, Bool, it)).transpose()?;
        let names = FIELDS.iter().map(|(name, ..)| *name).chain(IGNORED.iter().copied());
        let names = names.chain([IGNORES_EVICTION]).filter(|it| given(it).next().is_some());
        let own = OF_COMMAND.iter().filter(|(id, _)| is_given(matches, id)).map(|(_, name)| *name);
        Ok(Self {
            overlay,
            allocatable_ignores_eviction: ignores == Some(Value::Bool(true)),
            warnings: names.chain(own).filter_map(deprecated::warning).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), UsageError> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether a flag with a default was given; a command may not have it at all.
fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.ids().any(|it| it == id) && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// A flag that is given again adds to a list or an object, and replaces everything else.
fn put(overlay: &mut Value, path: &str, value: Value) {
    let mut at = overlay;
    for part in path.split('.') {
        at = &mut at[part];
    }
    match (&mut *at, value) {
        (Value::Array(known), Value::Array(more)) => known.extend(more),
        (Value::Object(known), Value::Object(more)) => known.extend(more),
        (known, value) => *known = value,
    }
}

fn read(kind: Kind, text: &str) -> Result<Value, String> {
    let parts = || text.split(',').map(str::trim).filter(|it| !it.is_empty());
    match kind {
        Text => Ok(json!(text)),
        Bool => match text {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(json!(true)),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(json!(false)),
            _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
        },
        Number => text
            .parse::<i64>()
            .map(|it| json!(it))
            .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
        List => Ok(json!(parts().collect::<Vec<_>>())),
        Pairs => object(parts(), '=', |it| Ok(json!(it))),
        Thresholds => object(parts(), '<', |it| Ok(json!(it))),
        Gates => object(parts(), '=', |it| read(Bool, it)),
        Taints => parts().map(taint).collect::<Result<Vec<_>, _>>().map(Value::Array),
        Memory => {
            let (node, limits) =
                text.split_once(':').ok_or("the format is `NODE:memory=AMOUNT,…`")?;
            let node = read(Number, node)?;
            let limits = read(Pairs, limits)?;
            Ok(json!([{ "numaNode": node, "limits": limits }]))
        }
        Headers => object(parts(), ':', |it| Ok(json!([it]))),
    }
}

fn object<'a>(
    parts: impl Iterator<Item = &'a str>,
    separator: char,
    value: impl Fn(&str) -> Result<Value, String>,
) -> Result<Value, String> {
    let mut map = Map::new();
    for part in parts {
        let (key, text) = part
            .split_once(separator)
            .ok_or_else(|| format!("malformed pair, expect string{separator}string"))?;
        map.insert(key.trim().to_owned(), value(text.trim())?);
    }
    Ok(Value::Object(map))
}

fn taint(text: &str) -> Result<Value, String> {
    let (front, effect) = text.rsplit_once(':').ok_or("a taint is written `key=value:Effect`")?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = front.split_once('=').unwrap_or((front, ""));
    let mut taint = json!({ "key": key, "effect": effect });
    if !value.is_empty() {
        taint["value"] = json!(value);
    }
    Ok(taint)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::KubeletConfiguration;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ConfigurationFlags,
    }

    fn flags(args: &[&str]) -> Result<ConfigurationFlags, String> {
        let all = ["kubelet"].iter().chain(args);
        Cli::try_parse_from(all).map(|it| it.flags).map_err(|it| it.to_string())
    }

    fn overlay(args: &[&str]) -> Result<Value, String> {
        flags(args).map(|it| it.overlay)
    }

    #[test]
    fn deprecated_flags_are_told_of_and_removed_ones_are_not_known() {
        let given = [
            "--provider-id=a",
            "--fail-cgroupv1=false",
            "--vmodule=a=1",
            "--containerd=x",
            "--max-pods=3",
        ];
        let warnings = flags(&given).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(
            warnings[0],
            "Flag --max-pods has been deprecated, This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information."
        );
        assert!(
            warnings[1].starts_with("Flag --containerd has been deprecated, This is a cadvisor")
        );
        let error = flags(&["--pod-infra-container-image=pause"]).unwrap_err();
        let wanted = "failed to parse kubelet flag: unknown flag: --pod-infra-container-image";
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn what_eviction_keeps_is_allocatable_if_a_flag_says_so() {
        let flag = "--experimental-allocatable-ignore-eviction";
        assert!(!flags(&[]).unwrap().allocatable_ignores_eviction);
        let given = flags(&[flag]).unwrap();
        assert!(given.allocatable_ignores_eviction && given.overlay == json!({}));
        assert!(given.warnings[0].ends_with(", will be removed in 1.25 or later."));
        let refused = flags(&["--experimental-allocatable-ignore-eviction=maybe"]);
        assert!(refused.unwrap_err().contains("strconv.ParseBool"));
    }

    #[test]
    fn flags_become_fields() {
        let given = overlay(&[
            "--max-pods=29",
            "--eviction-hard=memory.available<1Gi,nodefs.available<5%",
            "--kube-reserved=cpu=100m",
            "--kube-reserved=memory=1Gi",
            "--anonymous-auth=false",
            "--rotate-certificates",
            "--feature-gates=A=true,B=false",
            "--register-with-taints=dedicated=x:NoSchedule,y:NoExecute",
            "--reserved-memory=0:memory=1Gi,hugepages-1M=2Gi",
            "--cluster-dns=10.0.0.1,10.0.0.2",
            "--oom-score-adj=-998",
            "--log-text-split-stream",
            "--vmodule=a=1",
        ])
        .unwrap();
        let expected = json!({
            "maxPods": 29,
            "evictionHard": { "memory.available": "1Gi", "nodefs.available": "5%" },
            "kubeReserved": { "cpu": "100m", "memory": "1Gi" },
            "authentication": { "anonymous": { "enabled": false } },
            "rotateCertificates": true,
            "featureGates": { "A": true, "B": false },
            "registerWithTaints": [
                { "key": "dedicated", "value": "x", "effect": "NoSchedule" },
                { "key": "y", "effect": "NoExecute" },
            ],
            "reservedMemory": [{ "numaNode": 0, "limits": { "memory": "1Gi", "hugepages-1M": "2Gi" } }],
            "clusterDNS": ["10.0.0.1", "10.0.0.2"],
            "oomScoreAdj": -998,
        });
        assert_eq!(given, expected);
    }

    #[test]
    fn every_flag_stands_for_a_field() {
        let known = serde_json::to_value(KubeletConfiguration::default()).unwrap();
        for (flag, path, _) in FIELDS {
            let mut at = &known;
            for part in path.split('.') {
                at = at.get(part).unwrap_or_else(|| panic!("--{flag}: no field {path}"));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_wrong_usage() {
        for args in [
            &["--no-such-flag"][..],
            &["--max-pods=many"],
            &["--register-with-taints=a:Sometimes"],
            &["--anonymous-auth=perhaps"],
            &["--eviction-hard=memory.available=1Gi"],
        ] {
            assert!(overlay(args).is_err(), "{args:?}");
        }
    }
}
