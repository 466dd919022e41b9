//! Which controllers run: `--controllers`.
//!
//! Upstream: `cmd/kube-controller-manager/names`, `IsControllerEnabled`. Deviation: `*` means the token
//! cleaner too, which upstream leaves out.

/// A controller's name, and its name of before.
type Names = (&'static str, &'static str);

/// Those that are here.
const HERE: &[Names] = &[
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation"),
    ("cronjob-controller", "cronjob"),
    ("daemonset-controller", "daemonset"),
    ("deployment-controller", "deployment"),
    ("device-taint-eviction-controller", "device-taint-eviction-controller"),
    ("disruption-controller", "disruption"),
    ("endpoints-controller", "endpoint"),
    ("endpointslice-controller", "endpointslice"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("garbage-collector-controller", "garbagecollector"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("job-controller", "job"),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    ),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("namespace-controller", "namespace"),
    ("node-lifecycle-controller", "nodelifecycle"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("persistentvolume-protection-controller", "pv-protection"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection"),
    ("pod-garbage-collector-controller", "podgc"),
    ("replicaset-controller", "replicaset"),
    ("replicationcontroller-controller", "replicationcontroller"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("resourcequota-controller", "resourcequota"),
    ("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"),
    ("service-cidr-controller", "service-cidr-controller"),
    ("serviceaccount-controller", "serviceaccount"),
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("statefulset-controller", "statefulset"),
    ("taint-eviction-controller", "taint-eviction-controller"),
    ("token-cleaner-controller", "tokencleaner"),
    ("ttl-after-finished-controller", "ttl-after-finished"),
    ("ttl-controller", "ttl"),
    ("volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller"),
];

/// Those that only upstream has: what they do is done elsewhere, or not at all.
const ELSEWHERE: &[Names] = &[
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("cloud-node-lifecycle-controller", "cloud-node-lifecycle"),
    ("node-ipam-controller", "nodeipam"),
    ("node-route-controller", "route"),
    ("podcertificaterequest-cleaner-controller", "podcertificaterequest-cleaner-controller"),
    ("selinux-warning-controller", "selinux-warning-controller"),
    ("service-lb-controller", "service"),
    ("storage-version-migrator-controller", "storage-version-migrator-controller"),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller"),
];

/// See the module. The default: all of them run.
#[derive(Clone, Debug)]
pub struct Switches {
    words: Vec<String>,
}

impl Default for Switches {
    fn default() -> Self {
        Self { words: vec!["*".to_owned()] }
    }
}

impl Switches {
    /// `*`, names, and names with a `-` before them; the first word that names a controller counts.
    pub fn new(words: &[String]) -> Result<Self, String> {
        let read = |word: &String| -> Result<String, String> {
            let (sign, name) = match word.strip_prefix('-') {
                Some(name) => ("-", name),
                None => ("", word.as_str()),
            };
            if word == "*" {
                return Ok(word.clone());
            }
            let mut known = HERE.iter().chain(ELSEWHERE);
            let found = known.find(|(new, old)| *new == name || *old == name);
            let found = found
                .ok_or_else(|| format!("\"{name}\" is not in the list of known controllers"))?;
            Ok(format!("{sign}{}", found.0))
        };
        Ok(Self { words: words.iter().map(read).collect::<Result<_, _>>()? })
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        for word in &self.words {
            if word == name {
                return true;
            }
            if word.strip_prefix('-') == Some(name) {
                return false;
            }
        }
        self.words.iter().any(|it| it == "*")
    }

    /// What was asked for by name and is not here.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        let names = self.words.iter().map(String::as_str);
        names.filter(|name| ELSEWHERE.iter().any(|it| it.0 == *name))
    }

    /// For `--help`.
    pub fn names() -> String {
        HERE.iter().map(|it| it.0).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(words: &str, name: &str) -> bool {
        let words: Vec<_> = words.split(',').map(str::to_owned).collect();
        Switches::new(&words).unwrap().is_on(name)
    }

    #[test]
    fn a_controller_runs_when_it_is_named_or_all_are_and_it_is_not_taken_out() {
        for (words, job, cron_job) in [
            ("*", true, true),
            ("*,-job-controller", false, true),
            ("*,-job", false, true),
            ("-job,*", false, true),
            ("job", true, false),
            ("job,-job", true, false),
            ("-job", false, false),
        ] {
            assert_eq!(on(words, "job-controller"), job, "{words}");
            assert_eq!(on(words, "cronjob-controller"), cron_job, "{words}");
        }
    }

    #[test]
    fn what_upstream_does_not_know_is_refused_and_what_is_not_here_is_told() {
        let error = Switches::new(&["-jobs".to_owned()]).unwrap_err();
        assert_eq!(error, "\"jobs\" is not in the list of known controllers");
        let kubeadm = ["*", "bootstrapsigner", "tokencleaner"].map(str::to_owned);
        let switches = Switches::new(&kubeadm).unwrap();
        assert_eq!(switches.absent().collect::<Vec<_>>(), ["bootstrap-signer-controller"]);
    }
}
