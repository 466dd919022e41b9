//! What must hold of admission.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, PodOS, PodSecurityContext, PodSpec, ResourceRequirements, Sysctl,
        Toleration,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::*;

fn pod(requests: &[(&str, &str)], host_port: Option<i32>) -> Pod {
    let requests =
        requests.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect();
    let port = ContainerPort { container_port: 80, host_port, ..ContainerPort::default() };
    let container = Container {
        resources: Some(ResourceRequirements { requests: Some(requests), ..Default::default() }),
        ports: Some(vec![port]),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
    Pod { spec: Some(spec), ..Pod::default() }
}

fn spec(pod: &mut Pod) -> &mut PodSpec {
    pod.spec.as_mut().unwrap()
}

struct Node {
    config: KubeletConfiguration,
    machine: Machine,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    extended: BTreeMap<String, i64>,
    has_groups_policy: bool,
}

impl Node {
    fn new() -> Self {
        let mut config = KubeletConfiguration { max_pods: 2, ..KubeletConfiguration::default() };
        config.kube_reserved = [("cpu".to_owned(), "500m".to_owned())].into();
        Self {
            config,
            machine: Machine::of(2, 4 << 30),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            extended: BTreeMap::new(),
            has_groups_policy: false,
        }
    }

    fn check(&self, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), Refusal> {
        check(
            pod,
            others,
            &Ground {
                config: &self.config,
                machine: &self.machine,
                labels: &self.labels,
                taints: &self.taints,
                extended: &self.extended,
                has_apparmor: false,
                has_groups_policy: self.has_groups_policy,
            },
        )
    }

    fn ask(&self, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), (String, String)> {
        self.check(pod, others).map_err(|it| {
            let verdict = match it {
                Refusal::Final(verdict) => verdict,
                Refusal::Lacks(lacks) => lacks[0].verdict(),
            };
            (verdict.reason.clone(), verdict.event().to_owned())
        })
    }
}

fn reason(result: Result<(), (String, String)>) -> String {
    result.unwrap_err().0
}

#[test]
fn a_pod_that_does_not_fit_is_refused_with_upstreams_reason_and_message() {
    let node = Node::new();
    assert_eq!(node.ask(&pod(&[("cpu", "1500m")], None), &[]), Ok(()));
    let (reason, message) = node.ask(&pod(&[("cpu", "1501m")], None), &[]).unwrap_err();
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(
        message,
        "Node didn't have enough resource: cpu, requested: 1501, used: 0, capacity: 1500"
    );
    let other = Arc::new(pod(&[("cpu", "1")], None));
    let ask = |wanted: &Pod, others: &[Arc<Pod>]| node.ask(wanted, others).unwrap_err().0;
    assert_eq!(ask(&pod(&[("cpu", "600m")], None), std::slice::from_ref(&other)), "OutOfcpu");
    assert_eq!(ask(&pod(&[], None), &[other.clone(), other]), "OutOfpods");
    assert_eq!(ask(&pod(&[("ephemeral-storage", "4Ti")], None), &[]), "OutOfephemeral-storage");
    assert_eq!(counted("OutOfephemeral-storage"), "OutOfephemeral-storage");
    assert_eq!(counted("OutOfexample.com/a"), "OutOfExtendedResources");
    assert_eq!(ask(&pod(&[("hugepages-2Mi", "2Mi")], None), &[]), "OutOfhugepages-2Mi");
}

#[test]
fn an_extended_resource_counts_where_the_node_has_it_and_nowhere_else() {
    let mut node = Node::new();
    let wanted = pod(&[("example.com/card", "2")], None);
    assert_eq!(node.ask(&wanted, &[]), Ok(()));
    node.extended.insert("example.com/card".to_owned(), 3);
    assert_eq!(node.ask(&wanted, &[]), Ok(()));
    let other = Arc::new(wanted.clone());
    assert_eq!(reason(node.ask(&wanted, &[other])), "OutOfexample.com/card");
}

#[test]
fn a_host_port_is_taken_by_its_address_and_protocol() {
    let with = |ip: &str, protocol: &str| {
        let mut pod = pod(&[], Some(54323));
        let port = &mut spec(&mut pod).containers[0].ports.as_mut().unwrap()[0];
        port.host_ip = Some(ip.to_owned());
        port.protocol = Some(protocol.to_owned());
        pod
    };
    let taken = [Arc::new(with("127.0.0.1", "TCP"))];
    let fits = |ip: &str, protocol: &str| has_free_ports(&with(ip, protocol), &taken);
    assert!(fits("10.0.0.1", "TCP") && fits("127.0.0.1", "UDP"));
    assert!(!fits("127.0.0.1", "TCP") && !fits("0.0.0.0", "TCP") && !fits("", "TCP"));
}

#[test]
fn a_taken_host_port_a_wrong_selector_and_a_taint_are_refused() {
    let mut node = Node::new();
    let other = Arc::new(pod(&[], Some(8080)));
    let taken = node.ask(&pod(&[], Some(8080)), std::slice::from_ref(&other)).unwrap_err();
    assert_eq!(taken.0, "NodePorts");
    assert_eq!(
        taken.1,
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    );
    assert_eq!(node.ask(&pod(&[], Some(8081)), &[other]), Ok(()));
    let mut picky = pod(&[], None);
    spec(&mut picky).node_selector = Some([("a".into(), "b".into())].into());
    assert_eq!(reason(node.ask(&picky, &[])), "NodeAffinity");
    node.labels.insert("a".to_owned(), "b".to_owned());
    assert_eq!(node.ask(&picky, &[]), Ok(()));
    node.taints.push(Taint {
        key: "k".to_owned(),
        effect: "NoExecute".to_owned(),
        ..Taint::default()
    });
    assert_eq!(reason(node.ask(&picky, &[])), "TaintToleration");
    let tolerant = Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() };
    spec(&mut picky).tolerations = Some(vec![tolerant]);
    assert_eq!(node.ask(&picky, &[]), Ok(()));
}

#[test]
fn what_the_node_cannot_do_is_refused() {
    let mut node = Node::new();
    let mut windows = pod(&[], None);
    spec(&mut windows).os = Some(PodOS { name: "windows".to_owned() });
    assert_eq!(reason(node.ask(&windows, &[])), "PodOSNotSupported");
    let mut strict = pod(&[], None);
    spec(&mut strict).security_context = Some(PodSecurityContext {
        supplemental_groups_policy: Some("Strict".to_owned()),
        ..Default::default()
    });
    assert_eq!(reason(node.ask(&strict, &[])), "SupplementalGroupsPolicyNotSupported");
    node.has_groups_policy = true;
    assert_eq!(node.ask(&strict, &[]), Ok(()));
    let mut armored = pod(&[], None);
    spec(&mut armored).security_context = Some(PodSecurityContext {
        app_armor_profile: Some(k8s_openapi::api::core::v1::AppArmorProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..Default::default()
    });
    assert_eq!(reason(node.ask(&armored, &[])), "AppArmor");
}

#[test]
fn only_safe_and_allowed_sysctls_are_set() {
    let mut node = Node::new();
    let with = |name: &str| {
        let mut pod = pod(&[], None);
        let sysctl = Sysctl { name: name.to_owned(), value: "1".to_owned() };
        spec(&mut pod).security_context =
            Some(PodSecurityContext { sysctls: Some(vec![sysctl]), ..Default::default() });
        pod
    };
    assert_eq!(node.ask(&with("net.ipv4.tcp_syncookies"), &[]), Ok(()));
    assert_eq!(node.ask(&with("net/ipv4/tcp_syncookies"), &[]), Ok(()));
    let (reason, message) = node.ask(&with("kernel.msgmax"), &[]).unwrap_err();
    assert_eq!(reason, "SysctlForbidden");
    assert_eq!(message, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    node.config.allowed_unsafe_sysctls = vec!["kernel.msg*".to_owned()];
    assert_eq!(node.ask(&with("kernel.msgmax"), &[]), Ok(()));
    let mut shared = with("kernel.msgmax");
    spec(&mut shared).host_ipc = Some(true);
    assert_eq!(
        node.ask(&shared, &[]).unwrap_err().1,
        "forbidden sysctl: \"kernel.msgmax\" not allowed with host IPC enabled"
    );
}

#[test]
fn the_least_valuable_pods_make_room_and_none_go_in_vain() {
    let node = Node::new();
    let named = |name: &str, requests: &[(&str, &str)]| {
        let mut pod = pod(requests, None);
        pod.metadata.name = Some(name.to_owned());
        Arc::new(pod)
    };
    let mut critical = pod(&[("cpu", "800m")], None);
    spec(&mut critical).priority = Some(2_000_001_000);
    let others = [
        named("small", &[("cpu", "100m")]),
        named("large", &[("cpu", "700m")]),
        named("right", &[("cpu", "500m")]),
    ];
    let mut config = node.config.clone();
    config.max_pods = 9;
    let node = Node { config, ..node };
    let Err(Refusal::Lacks(lacks)) = node.check(&critical, &others) else { panic!("it fits") };
    // 1300m of 1500m are used: 600m are missing.
    let names = |list: Vec<Arc<Pod>>| -> Vec<String> {
        list.iter().map(|it| it.name().to_owned()).collect()
    };
    assert_eq!(names(preemption::victims(&critical, &others, &lacks).unwrap()), ["large"]);
    let mut huge = critical.clone();
    spec(&mut huge).containers[0].resources =
        pod(&[("cpu", "1600m")], None).spec.unwrap().containers[0].resources.clone();
    let Err(Refusal::Lacks(lacks)) = node.check(&huge, &others) else { panic!("it fits") };
    assert!(preemption::victims(&huge, &others, &lacks).is_err());
    let ordinary = pod(&[("cpu", "800m")], None);
    let Err(Refusal::Lacks(lacks)) = node.check(&ordinary, &others) else { panic!("it fits") };
    assert!(preemption::victims(&ordinary, &others, &lacks).is_err(), "it is not critical");
}
