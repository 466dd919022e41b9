//! Each step of the chain, broken.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const ROLE: &str = "arn:aws:iam::111122223333:role/node";
const NAME: &str = "ip-192-168-0-9.ec2.internal";

fn now() -> Timestamp {
    "2026-11-29T08:10:00Z".parse().unwrap()
}

fn user_data() -> String {
    format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: stead\n    \
         apiServerEndpoint: https://ABC.gr7.us-east-1.eks.amazonaws.com\n    \
         certificateAuthority: {}\n    cidr: 10.100.0.0/16\n",
        STANDARD.encode(PEM)
    )
}

/// A node that has joined.
fn facts() -> Facts {
    let from = |it: Value| it;
    let node = from(json!({
        "metadata": {"name": NAME},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]},
    }));
    let request = from(json!({
        "metadata": {"name": "csr-1", "creationTimestamp": "2026-11-29T08:00:00Z"},
        "spec": {"request": "", "signerName": "kubernetes.io/kubelet-serving",
                 "username": format!("system:node:{NAME}")},
        "status": {"certificate": "AAAA", "conditions": [{"type": "Approved", "status": "True"}]},
    }));
    let pod = from(json!({
        "metadata": {"namespace": "kube-system", "name": "aws-node-1"},
        "spec": {"containers": []},
        "status": {"containerStatuses": [container(json!({"running": {}}), true)]},
    }));
    let instance = Instance {
        id: "i-1".to_owned(),
        state: "running".to_owned(),
        kind: "m5.large".to_owned(),
        zone: "us-east-1a".to_owned(),
        node_name: NAME.to_owned(),
        has_metadata: true,
        user_data: user_data().into_bytes(),
        profile: Some("arn:aws:iam::111122223333:instance-profile/node".to_owned()),
        role: Some(Role { arn: ROLE.to_owned(), trusts_ec2: true, denied: Vec::new() }),
        has_dns: true,
        console: "INFO the node is configured\n".to_owned(),
        ..Instance::default()
    };
    Facts {
        cluster: Cluster {
            name: "stead".to_owned(),
            host: "abc.gr7.us-east-1.eks.amazonaws.com".to_owned(),
            authority: PEM.to_owned(),
            cidr: "10.100.0.0/16".to_owned(),
            has_entries: true,
            reads_config_map: false,
        },
        instance: Some(instance),
        known: Known {
            mapping: Some(entry("EC2_LINUX")),
            node: Some(serde_json::from_value(node).unwrap()),
            requests: vec![serde_json::from_value(request).unwrap()],
            pods: vec![serde_json::from_value(pod).unwrap()],
            dns: (2, 2),
        },
    }
}

fn container(state: Value, ready: bool) -> Value {
    json!({"name": "aws-node", "image": "cni:1", "imageID": "", "ready": ready,
           "restartCount": 0, "state": state})
}

fn entry(kind: &str) -> Mapping {
    Mapping { entry: Some(kind.to_owned()), username: String::new(), groups: Vec::new() }
}

/// The step at which it breaks, and why; a node that did not join is none.
fn broken_when(change: impl FnOnce(&mut Facts)) -> (&'static str, String) {
    let mut facts = facts();
    change(&mut facts);
    let steps = of(&facts, now());
    let found = broken(&steps).unwrap_or_else(|| panic!("{steps:?}"));
    assert!(found.next.is_some(), "{found:?}");
    (found.step, found.detail.clone())
}

/// The same for an instance that has not become a node.
fn not_joined(change: impl FnOnce(&mut Instance, &mut Facts)) -> (&'static str, String) {
    broken_when(|facts| {
        let mut instance = facts.instance.take().unwrap();
        (facts.known.node, facts.known.requests) = (None, Vec::new());
        change(&mut instance, facts);
        facts.instance = Some(instance);
        let steps = of(facts, now());
        let last = steps.last().unwrap();
        assert_eq!((last.step, last.state), ("Ready", State::NotReached));
    })
}

#[test]
fn a_node_that_has_joined_has_no_broken_step() {
    let steps = of(&facts(), now());
    assert!(steps.iter().all(|it| it.state == State::Good), "{steps:?}");
    let names: Vec<_> = steps.iter().map(|it| it.step).collect();
    assert_eq!(names[..4], ["instance", "user data", "metadata", "role"]);
    assert_eq!(names.last(), Some(&"Ready"));
}

#[test]
fn an_instance_must_run() {
    let (step, why) = not_joined(|it, _| {
        it.state = "terminated".to_owned();
        it.state_reason = "Server.SpotInstanceTermination".to_owned();
    });
    assert_eq!(
        (step, why.as_str()),
        ("instance", "it is terminated (Server.SpotInstanceTermination)")
    );
    assert_eq!(not_joined(|it, _| it.state = "stopped".to_owned()).0, "instance");
}

#[test]
fn the_endpoint_that_this_machine_is_told_is_put_right_by_nodeadm() {
    let text = user_data().replace("ABC.gr7.us-east-1.eks.amazonaws.com", "127.0.0.1:6443");
    assert_ne!(not_joined(|it, _| it.user_data = text.into_bytes()).0, "user data");
}

#[test]
fn user_data_must_be_a_node_config_of_the_cluster() {
    let with = |text: String| not_joined(|it, _| it.user_data = text.into_bytes());
    for (text, words) in [
        (String::new(), "it has none"),
        ("#!/bin/sh\ntrue\n".to_owned(), "no NodeConfig"),
        ("#!/bin/sh\n/etc/eks/bootstrap.sh stead\n".to_owned(), "bootstrap.sh of Amazon Linux 2"),
        (user_data().replace("  cidr", "  cird"), "spec.cluster"),
        (user_data().replace("stead", "other"), "spec.cluster.name is other"),
        (user_data().replace("ABC.", "XYZ."), "spec.cluster.apiServerEndpoint is XYZ."),
        (user_data().replace("10.100.", "172.20."), "spec.cluster.cidr is 172.20.0.0/16"),
        (
            user_data()
                .replace(&STANDARD.encode(PEM), &STANDARD.encode(PEM.replace("MIIB", "MIIC"))),
            "spec.cluster.certificateAuthority",
        ),
    ] {
        let (step, why) = with(text);
        assert_eq!(step, "user data");
        assert!(why.contains(words) || words == "spec.cluster", "{why}");
    }
}

#[test]
fn an_instance_needs_metadata_and_a_role_that_it_gets_and_that_may_join() {
    assert_eq!(not_joined(|it, _| it.has_metadata = false).0, "metadata");
    let (step, why) = not_joined(|it, _| (it.profile, it.role) = (None, None));
    assert_eq!((step, why.contains("no instance profile")), ("role", true));
    assert_eq!(not_joined(|it, _| it.role = None).0, "role");
    let (step, why) = not_joined(|it, _| it.role.as_mut().unwrap().trusts_ec2 = false);
    assert_eq!((step, why.contains("does not trust ec2.amazonaws.com")), ("role", true));
    let (step, why) = not_joined(|it, _| {
        it.role.as_mut().unwrap().denied = vec!["ec2:DescribeInstances".to_owned()];
    });
    assert_eq!((step, why.contains("may not ec2:DescribeInstances")), ("rights", true));
    assert_eq!(not_joined(|it, _| it.has_dns = false).0, "VPC DNS");
}

const CONFIGURED: &str = "2026-11-29T08:00:00.1Z  INFO node_init::boot: the node is configured\n";
const FAILED: &str = "\u{1b}[31merror: step `node name`: failed\u{1b}[0m\n  because: EC2 says no\n\
    2026-11-29T08:00:00.2Z ERROR node_init::boot: failed to configure the node \
    failure=\"nodeadm: exit status: 1\"\n";
const BOOTING: &str = "2026-11-29T08:00:00.0Z  INFO node_init::command: booting\n";

fn boot_of(console: &str, is_node: bool) -> Step {
    let mut facts = facts();
    if let Some(instance) = &mut facts.instance {
        console.clone_into(&mut instance.console);
    }
    if !is_node {
        facts.known.node = None;
    }
    of(&facts, now()).into_iter().find(|it| it.step == "boot").unwrap()
}

#[test]
fn the_consoles_last_word_on_configuring_counts() {
    let boot = boot_of(&format!("{CONFIGURED}{FAILED}"), false);
    assert_eq!(boot.state, State::Fails);
    assert_eq!(boot.detail, "step `node name`: failed: EC2 says no", "with its cause");
    assert_eq!(boot_of(&format!("{FAILED}{CONFIGURED}"), false).state, State::Good);
}

#[test]
fn an_earlier_boots_words_say_nothing_of_this_one() {
    for earlier in [CONFIGURED, FAILED] {
        let boot = boot_of(&format!("{BOOTING}{earlier}{BOOTING}"), false);
        assert_eq!(boot.state, State::Unknown, "{boot:?}");
    }
    const BARE: &str =
        "ERROR node_init::boot: failed to configure the node failure=\"no memory\"\n";
    let boot = boot_of(&format!("{FAILED}{BARE}"), false);
    assert_eq!(boot.detail, "failed to configure the node: no memory", "its own reason");
}

#[test]
fn an_instance_that_was_asked_for_no_node_has_not_configured_one() {
    const ALONE: &str =
        "WARN node_init::command: user data asked for no node: nothing but init runs here\n";
    let boot = boot_of(&format!("{BOOTING}{CONFIGURED}{ALONE}"), false);
    assert_eq!(boot.state, State::Good);
    assert!(boot.detail.contains("no kubelet"), "{boot:?}");
}

#[test]
fn a_node_has_booted_whatever_the_console_has_forgotten() {
    assert_eq!(boot_of("", true).state, State::Good);
    assert_eq!(boot_of("", false).state, State::Unknown);
}

#[test]
fn a_kubelet_that_reaches_nobody_or_is_known_to_nobody_says_so() {
    let (step, why) = not_joined(|it, _| {
        it.kubelet_log = "2026-11-29T08:00:01Z  INFO kubelet: start\n2026-11-29T08:00:02Z  WARN \
                          kubelet::node::register: the node was not registered node=\"ip-1\" \
                          error=tcp connect: connection refused\n"
            .to_owned();
    });
    let said = "the node was not registered: tcp connect: connection refused";
    assert_eq!((step, why.as_str()), ("endpoint", said));
    let (step, why) = not_joined(|it, facts| {
        facts.known.mapping = None;
        it.kubelet_log =
            "WARN connection refused\nWARN failed to register: Unauthorized\n".to_owned();
    });
    assert_eq!(step, "mapping", "whoever refuses was reached");
    assert!(why.contains("no access entry") && why.ends_with("refuses its kubelet"), "{why}");
    let (step, why) = not_joined(|_, _| {});
    assert_eq!((step, why.as_str()), ("registration", "there is no Node for it"));
}

#[test]
fn what_the_kubelet_says_is_said_once() {
    let mut facts = facts();
    facts.known.node = None;
    if let Some(instance) = &mut facts.instance {
        instance.kubelet_log = "WARN kubelet: connection refused by \"them\"\n".to_owned();
    }
    let steps = of(&facts, now());
    let saying = steps.iter().filter(|it| it.detail.contains("refused"));
    assert_eq!(saying.map(|it| it.step).collect::<Vec<_>>(), ["endpoint"]);
}

#[test]
fn a_role_must_be_mapped_as_a_node() {
    let (step, why) = not_joined(|_, it| it.known.mapping = Some(entry("STANDARD")));
    assert_eq!((step, why.contains("is of type STANDARD")), ("mapping", true));
    let of_map = |username: &str, groups: &[&str]| Mapping {
        entry: None,
        username: username.to_owned(),
        groups: groups.iter().map(|&it| it.to_owned()).collect(),
    };
    let (step, why) = not_joined(|_, it| it.known.mapping = Some(of_map("me", &["system:nodes"])));
    assert_eq!((step, why.contains("which is no node's name")), ("mapping", true));
    let alone = of_map("system:node:{{EC2PrivateDNSName}}", &["system:bootstrappers"]);
    let (step, why) = not_joined(|_, it| it.known.mapping = Some(alone));
    assert_eq!((step, why.contains("without the group system:nodes")), ("mapping", true));
    let (_, why) = not_joined(|_, it| {
        (it.known.mapping, it.cluster.has_entries) = (None, false);
    });
    assert!(why.contains("not mapped in aws-auth"), "{why}");
}

#[test]
fn a_serving_certificate_is_asked_for_approved_and_signed() {
    let request = |status: Value, created: &str| {
        serde_json::from_value::<CertificateSigningRequest>(json!({
            "metadata": {"name": "csr-2", "creationTimestamp": created},
            "spec": {"request": "", "signerName": "kubernetes.io/kubelet-serving",
                     "username": format!("system:node:{NAME}")},
            "status": status,
        }))
        .unwrap()
    };
    let old = "2026-11-29T08:08:00Z";
    let denied =
        json!({"conditions": [{"type": "Denied", "status": "True", "message": "not its name"}]});
    let (step, why) = broken_when(|it| it.known.requests = vec![request(denied, old)]);
    assert_eq!((step, why.as_str()), ("certificate", "request csr-2 is Denied: not its name"));
    let (step, why) = broken_when(|it| it.known.requests = vec![request(json!({}), old)]);
    assert_eq!((step, why.as_str()), ("certificate", "request csr-2 is not approved"));
    let mut fresh = facts();
    fresh.known.requests = vec![request(json!({}), "2026-11-29T08:09:50Z")];
    assert_eq!(broken(&of(&fresh, now())), None);
}

fn pod(name: &str, state: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"namespace": "kube-system", "name": name},
        "spec": {"containers": []},
        "status": {"containerStatuses": [container(state, false)]},
    }))
    .unwrap()
}

fn unready(facts: &mut Facts, message: &str) {
    let conditions = json!([{"type": "Ready", "status": "False", "reason": "KubeletNotReady",
                             "message": message}]);
    let node = json!({"metadata": {"name": NAME}, "status": {"conditions": conditions}});
    facts.known.node = Some(serde_json::from_value(node).unwrap());
}

#[test]
fn images_the_network_and_names_are_what_a_node_needs_last() {
    let back_off = json!({"waiting": {"reason": "ImagePullBackOff", "message": "403 Forbidden"}});
    let (step, why) = broken_when(|it| it.known.pods = vec![pod("kube-proxy-1", back_off)]);
    assert_eq!(step, "registry");
    assert!(why.contains("kube-system/kube-proxy-1 waits for image cni:1"), "{why}");

    const NO_CNI: &str = "container runtime network not ready: NetworkReady=false: cni plugin not \
                          initialized";
    let (step, why) = broken_when(|it| {
        unready(it, NO_CNI);
        it.known.pods.clear();
    });
    assert_eq!(step, "CNI");
    assert!(why.contains("no pod of aws-node is on the node"), "{why}");
    let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let (step, why) = broken_when(|it| {
        unready(it, NO_CNI);
        it.known.pods = vec![pod("aws-node-7", crash)];
    });
    assert_eq!((step, why.contains("CrashLoopBackOff")), ("CNI", true));

    assert_eq!(broken_when(|it| it.known.dns = (2, 0)).0, "cluster DNS");
    assert_eq!(broken_when(|it| it.known.dns = (0, 0)).0, "cluster DNS");
    let (step, why) = broken_when(|it| unready(it, "PLEG is not healthy"));
    assert_eq!((step, why.as_str()), ("Ready", "KubeletNotReady: PLEG is not healthy"));
}

#[test]
fn a_node_that_was_deleted_is_told_from_one_that_never_registered() {
    const REGISTERED: &str =
        "2026-11-29T08:00:01Z  INFO kubelet::node::register: registered node=\"ip-1\"\n";
    const ADOPTED: &str =
        "INFO \u{1b}[2mkubelet\u{1b}[0m: the node was registered before node=\"ip-1\"\n";
    const REFUSED: &str =
        "WARN kubelet: the node was not registered node=\"ip-1\" error=nodes is forbidden\n";
    let with = |log: String| not_joined(|it, _| it.kubelet_log = log);
    for log in [format!("{REFUSED}{REGISTERED}WARN x: y\n"), ADOPTED.to_owned()] {
        let (step, why) = with(log);
        assert!(step == "registration" && why.contains("somebody has deleted the Node"), "{why}");
    }
    let (_, why) = with(format!("{REGISTERED}{REFUSED}"));
    assert!(!why.contains("deleted") && why.contains("forbidden"), "{why}");
}

#[test]
fn a_node_on_no_instance_is_told_from_its_cluster_alone() {
    let mut elsewhere = facts();
    elsewhere.instance = None;
    let steps = of(&elsewhere, now());
    assert_eq!(steps[0].step, "registration");
    assert_eq!(broken(&steps), None);
}
