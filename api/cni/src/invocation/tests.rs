//! Requests of runtimes, whole and damaged.

use proptest::prelude::*;

use super::*;

const CONFIG: &str = r#"{"cniVersion":"0.4.0","name":"aws-cni","type":"aws-cni","vethPrefix":"eni",
    "runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}}"#;

fn variables() -> Variables {
    Variables {
        command: "ADD".into(),
        container_id: "0a1b".into(),
        netns: "/var/run/netns/cni-1".into(),
        ifname: "eth0".into(),
        args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u".into(),
        path: "/opt/cni/bin".into(),
    }
}

#[test]
fn a_runtimes_request_is_read_whole() {
    let invocation = Invocation::parse(&variables(), CONFIG.as_bytes()).unwrap();
    assert_eq!(invocation.command, Command::Add);
    let (namespace, name) = ("default".to_owned(), "web-0".to_owned());
    assert_eq!(invocation.pod, PodArgs { namespace, name, uid: "u".into() });
    assert_eq!(invocation.config.text("vethPrefix", "x"), "eni");
    assert_eq!(invocation.config.text("mtu", "9001"), "9001");
    let ports = invocation.config.runtime_config.unwrap().port_mappings;
    assert_eq!((ports[0].host_port, ports[0].container_port), (8080, 80));
}

#[test]
fn containerds_spelling_of_ports_and_bandwidth_is_read_too() {
    let config = r#"{"cniVersion":"0.4.0","name":"aws-cni","type":"aws-cni","runtimeConfig":{
        "portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"udp","HostIP":"10.0.0.1"}],
        "bandwidth":{"IngressRate":1,"IngressBurst":2,"EgressRate":3,"EgressBurst":4}}}"#;
    let invocation = Invocation::parse(&variables(), config.as_bytes()).unwrap();
    let given = invocation.config.runtime_config.unwrap();
    let port = &given.port_mappings[0];
    assert_eq!((port.host_port, port.container_port, &*port.protocol), (8080, 80, "udp"));
    assert_eq!(port.host_address(), "10.0.0.1".parse().ok());
    let limits = given.bandwidth.unwrap();
    assert_eq!((limits.ingress_rate, limits.ingress_burst), (1, 2));
    assert_eq!((limits.egress_rate, limits.egress_burst), (3, 4));
}

#[test]
fn del_needs_no_namespace_and_the_others_do() {
    for (command, is_fine) in [("ADD", false), ("CHECK", false), ("DEL", true)] {
        let variables = Variables { command: command.into(), netns: String::new(), ..variables() };
        let parsed = Invocation::parse(&variables, CONFIG.as_bytes());
        assert_eq!(parsed.is_ok(), is_fine, "{command}");
    }
}

#[test]
fn what_could_name_another_file_or_link_is_refused() {
    let wrong = [
        Variables { container_id: "../../etc".into(), ..variables() },
        Variables { container_id: String::new(), ..variables() },
        Variables { ifname: "../eth0".into(), ..variables() },
        Variables { ifname: "a-name-of-16-chr".into(), ..variables() },
        Variables { ifname: "..".into(), ..variables() },
        Variables { command: "RM".into(), ..variables() },
        Variables { args: "K8S_POD_NAME".into(), ..variables() },
    ];
    for variables in wrong {
        let error = Invocation::parse(&variables, CONFIG.as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidEnvironment.number(), "{variables:?}");
    }
}

#[test]
fn configurations_fail_with_the_specifications_codes() {
    for (config, code) in [
        ("", ErrorCode::Decode),
        ("{", ErrorCode::Decode),
        ("[]", ErrorCode::Decode),
        (r#"{"cniVersion":"9.0.0","name":"a"}"#, ErrorCode::IncompatibleVersion),
        (r#"{"cniVersion":"0.4.0"}"#, ErrorCode::InvalidNetworkConfig),
        (r#"{"cniVersion":"0.4.0","name":"a/b"}"#, ErrorCode::InvalidNetworkConfig),
    ] {
        let error = Invocation::parse(&variables(), config.as_bytes()).unwrap_err();
        assert_eq!(error.code, code.number(), "{config}");
    }
}

#[test]
fn a_previous_result_of_another_shape_does_not_make_a_delete_fail() {
    let config = |previous: &str| {
        format!(r#"{{"cniVersion":"0.4.0","name":"aws-cni","prevResult":{previous}}}"#)
    };
    let variables = Variables { command: "DEL".into(), ..variables() };
    let parse = |text: &str| Invocation::parse(&variables, config(text).as_bytes()).unwrap();
    for odd in ["null", "7", r#"{"ips":"none"}"#, r#"{"ips":[{"address":"x"}]}"#] {
        assert!(parse(odd).config.previous().is_none(), "{odd}");
    }
    let good = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.9/32"}],"dns":{}}"#;
    assert_eq!(parse(good).config.previous().unwrap().ips.len(), 1);
}

#[test]
fn version_asks_for_nothing_else() {
    let variables = Variables { command: "VERSION".into(), ..Variables::default() };
    for stdin in ["", r#"{"cniVersion":"0.4.0"}"#] {
        assert!(Invocation::parse(&variables, stdin.as_bytes()).is_ok(), "{stdin}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(
        stdin in proptest::collection::vec(any::<u8>(), 0..300),
        args in ".{0,40}",
    ) {
        drop(Invocation::parse(&Variables { args, ..variables() }, &stdin));
    }

    #[test]
    fn a_damaged_configuration_is_answered_without_a_panic(at in 0..CONFIG.len(), with in any::<u8>()) {
        let mut stdin = CONFIG.as_bytes().to_vec();
        stdin[at] = with;
        drop(Invocation::parse(&variables(), &stdin));
    }
}
