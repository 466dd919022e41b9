//! From user data to a kubelet's command line: the whole way of an instance in its VPC, from an image of
//! a user's own; and the way in for the owner of its key pair.
//!
//! What is real: the router, security groups, IMDS, the resolver, TLS, the signed EC2 call, nodeadm,
//! init, the user's script. What stands in: EC2's answer, and the kubelet, which only says how it
//! was called. The test program starts itself for every part, so it has a `main` of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    net::Ipv4Addr,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use api_imds::SecurityCredentials;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use clock::Clock;
use futures::FutureExt;
use lifecycle::Scope;
use region_host::{HostSpec, Hosts, Remains, ami};
use region_imds::{
    CredentialsError, Identity, Imds, InstanceMetadata, Interface, Metadata, Options, Profile,
};
use region_vpc::{
    ENDPOINTS, Eni, Location, RESOLVER, RouteTable, Router, Rule, SecurityGroup, Setup, Subnet,
    Target, VpcSpec,
};
use transport::Place;

const NAME: &str = "user_data_becomes_a_kubelets_command_line";
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 12);
const NODE_NAME: &str = "ip-192-168-0-12.ec2.internal";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), BoxError>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = match words[1..] {
        ["run", "host-launch", ..] => {
            runtime.block_on(region_host::launch::command::run(parse(&args[2..])))
        }
        ["run", "init", ..] => runtime.block_on(node_init::command::run(parse(&args[2..]))),
        ["run", "nodeadm", ..] => runtime.block_on(nodeadm::command::run(parse(&args[2..]))),
        ["run", "kubelet", ..] => {
            fs::write("/root/part", args[3..].join("\n")).unwrap();
            fs::rename("/root/part", "/root/kubelet").unwrap();
            std::thread::park();
            Ok(())
        }
        // What cargo-nextest asks for.
        _ if words.contains(&"--list") => {
            if !words.contains(&"--ignored") {
                println!("{NAME}: test");
            }
            Ok(())
        }
        _ if !nix::unistd::geteuid().is_root() => {
            println!("{NAME} ... not run: it needs root");
            Ok(())
        }
        _ => runtime.block_on(test()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", telemetry::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn parse<A: Args>(args: &[String]) -> A {
    let command = A::augment_args(clap::Command::new("test"));
    A::from_arg_matches(&command.get_matches_from(args)).unwrap()
}

struct One(InstanceMetadata);

impl Metadata for One {
    fn instance(&self, _: &str, source: std::net::IpAddr) -> Option<Arc<InstanceMetadata>> {
        self.0.owns(source).then(|| Arc::new(self.0.clone()))
    }

    async fn credentials(
        &self,
        _: &InstanceMetadata,
        _: &str,
    ) -> Result<SecurityCredentials, CredentialsError> {
        let now = Clock::system().now();
        Ok(SecurityCredentials {
            code: "Success".to_owned(),
            last_updated: now,
            kind: "AWS-HMAC".to_owned(),
            access_key_id: "ASIATEST".to_owned(),
            secret_access_key: "secret".to_owned(),
            token: "token".to_owned(),
            expiration: now + Duration::from_secs(3600),
        })
    }
}

fn user_data(ca: &str) -> String {
    let authority = STANDARD.encode(ca);
    format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\n\
         Content-Type: text/x-shellscript; charset=\"us-ascii\"\n\n\
         #!/bin/sh\ngrep -c maxPods /etc/kubernetes/kubelet/config.json > /root/script\n\
         --//\nContent-Type: application/node.eks.aws\n\n\
         apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
         name: stead\n    apiServerEndpoint: https://abc.gr7.us-east-1.eks.amazonaws.com\n    \
         certificateAuthority: {authority}\n    cidr: 10.100.0.0/16\n  kubelet:\n    \
         flags:\n    - --node-labels=a=b\n--//--\n"
    )
}

fn metadata(ca: &str, key: &str) -> InstanceMetadata {
    let interface = Interface {
        id: "eni-1".to_owned(),
        mac: "0a:00:00:00:00:01".to_owned(),
        device_number: 0,
        primary: NODE,
        secondary: Vec::new(),
        prefixes: Vec::new(),
        public_ipv4: None,
        subnet_id: "subnet-1".to_owned(),
        ipv6_addresses: Vec::new(),
        ipv6_prefixes: Vec::new(),
        subnet_ipv6_cidrs: Vec::new(),
        vpc_ipv6_cidrs: Vec::new(),
        subnet_cidr: "192.168.0.0/19".parse().unwrap(),
        vpc_id: "vpc-1".to_owned(),
        vpc_cidrs: Vec::new(),
        security_groups: Vec::new(),
        owner: String::new(),
        hostname: NODE_NAME.to_owned(),
    };
    InstanceMetadata {
        identity: Identity {
            account: "111122223333".to_owned(),
            region: "us-east-1".to_owned(),
            zone: "us-east-1a".to_owned(),
            instance_id: "i-0abc".to_owned(),
            instance_type: "m5.large".to_owned(),
            architecture: "x86_64".to_owned(),
            ..Identity::default()
        },
        hostname: NODE_NAME.to_owned(),
        key_name: Some("mine".to_owned()),
        public_key: Some(key.to_owned()),
        user_data: Some(user_data(ca).into_bytes()),
        interfaces: vec![interface],
        instance_profile: Some(Profile { role: Some("node".to_owned()), ..Profile::default() }),
        options: Options::default(),
        ..InstanceMetadata::default()
    }
}

fn vpc(router: &str, guest: &str) -> VpcSpec {
    let eni = Eni {
        id: "eni-00000000000000001".to_owned(),
        mac: "0a:00:00:00:00:01".parse().unwrap(),
        subnet: "a".to_owned(),
        primary: NODE,
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: ["sg-1".to_owned()].into(),
        source_dest_check: true,
        is_asleep: false,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: linux_netns::path(guest),
            device: "eth0".to_owned(),
            setup: Setup::Primary,
        },
    };
    let address = Some([203, 0, 113, 9].into());
    let gateway = Target::NatGateway { id: "nat-0".to_owned(), address };
    let private = RouteTable::default().with(ipnet::Ipv4Net::default(), gateway);
    let subnet = Subnet {
        cidr: "192.168.0.0/19".parse().unwrap(),
        route_table: "rtb-private".to_owned(),
        network_acl: "acl-none".to_owned(),
    };
    let mut group = SecurityGroup::new("sg-1");
    group.egress.push(Rule::everything_to_anywhere());
    VpcSpec {
        id: "vpc-1".to_owned(),
        netns: router.to_owned(),
        cidrs: vec!["192.168.0.0/16".parse().unwrap()],
        subnets: BTreeMap::from([("a".to_owned(), subnet)]),
        enis: vec![eni],
        route_tables: BTreeMap::from([("rtb-private".to_owned(), private)]),
        security_groups: BTreeMap::from([("sg-1".to_owned(), group)]),
        ..VpcSpec::default()
    }
}

/// Stands for EC2: knows one instance, and notes what it was asked.
async fn ec2(
    asked: Arc<Mutex<Vec<String>>>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<transport::Body>, Infallible> {
    let host = request.headers()["host"].to_str().unwrap().to_owned();
    let signed = request.headers().contains_key("authorization");
    let body = transport::collect(request.into_body(), 1 << 16).await.unwrap().unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    asked.lock().unwrap().push(format!("{host} {signed} {body}"));
    let answer = format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>r</requestId><reservationSet><item><instancesSet><item>\
         <instanceId>i-0abc</instanceId><privateDnsName>{NODE_NAME}</privateDnsName>\
         </item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    );
    Ok(http::Response::new(transport::full(answer)))
}

fn remains(id: &str) -> Remains {
    Remains {
        instance_id: id.to_owned(),
        netns: format!("nst-t-{id}"),
        cgroup: format!("nst-t-joins/{id}"),
    }
}

async fn test() -> Outcome {
    let base = PathBuf::from(format!("/var/tmp/nst-t-joins-{}", std::process::id()));
    let id = format!("i-{:017x}", std::process::id());
    let hosts = Hosts::new(&base.join("instances"))?;
    let router = Router::new(&format!("nst-t-{id}-r"));
    let scope = Scope::new();
    let joining = AssertUnwindSafe(join(&hosts, &router, &base, &id, &scope));
    // A failed assertion, too, must leave the machine as it was.
    let outcome =
        joining.catch_unwind().await.unwrap_or_else(|_| Err("an assertion failed".into()));
    if outcome.is_err() {
        eprintln!("console:\n{}", hosts.console(&id, 16 << 10)?);
    }
    scope.drain(Duration::from_secs(1)).await;
    hosts.terminate(&remains(&id)).await?;
    router.remove().await?;
    linux_mount::remove_tree(&base)?;
    outcome?;
    println!("test {NAME} ... ok");
    Ok(())
}

async fn join(hosts: &Hosts, router: &Router, base: &Path, id: &str, scope: &Scope) -> Outcome {
    let ca = pki::Ca::new("region")?;
    let image = base.join("ami");
    ami::build(&image, &ami::Ami { region_ca_pem: ca.certificate_pem(), files: Vec::new() })?;
    let spec = HostSpec {
        instance_id: id.to_owned(),
        hostname: NODE_NAME.to_owned(),
        vcpus: 2,
        threads_per_core: 2,
        memory_bytes: 8 << 30,
        folder: hosts.folder_of(id),
        ami: image,
        image: Some(own_image(base)?),
        binary: std::env::current_exe()?,
        netns: remains(id).netns,
        cgroup: remains(id).cgroup,
        resolver: [192, 168, 0, 2].into(),
        search_domain: "ec2.internal".to_owned(),
        init: HostSpec::default_init(),
        boot: 1,
    };
    hosts.prepare(&spec).await?;
    let vpc = vpc(&format!("nst-t-{id}-r"), &spec.netns);
    router.apply(&vpc).await?;
    let (key, public_key) = key_pair(base)?;
    let asked = services(&vpc, metadata(ca.certificate_pem(), &public_key), &ca, scope)?;

    hosts.ensure(&spec).await?;
    let kubelet = spec.upper().join("root/kubelet");
    let wait = async {
        while !kubelet.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await?;

    check(&asked.lock().unwrap(), &fs::read_to_string(&kubelet)?);
    let script = fs::read_to_string(spec.upper().join("root/script"))?;
    assert_eq!(script, "1\n", "the script ran after the files were written");
    // Written by init a moment after the kubelet has started.
    let file = spec.upper().join("var/lib/nodestead/init.json");
    let wait = async {
        loop {
            let status: node_init::Status = serde_json::from_slice(&fs::read(&file)?)?;
            if status.phase == node_init::Phase::Running && status.services.len() >= 2 {
                return Ok::<_, BoxError>(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await??;
    assert_eq!(output(hosts, id, &["cat", "/etc/motd"]).await?.1, "of our own\n");
    log_in(hosts, id, &key).await
}

/// A layer of one file.
fn own_image(base: &Path) -> Result<PathBuf, BoxError> {
    let (source, image) = (base.join("source"), base.join("image"));
    fs::create_dir_all(source.join("etc"))?;
    fs::write(source.join("etc/motd"), "of our own\n")?;
    region_host::image::import(&source, &image)?;
    Ok(image)
}

/// The private half and the public one.
fn key_pair(base: &Path) -> Result<(String, String), BoxError> {
    let file = base.join("key");
    let keygen = ["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f"];
    let made = std::process::Command::new("ssh-keygen").args(keygen).arg(&file).status();
    if !made.is_ok_and(|it| it.success()) {
        // The instance has no way to make host keys either: it says so.
        return Ok((String::new(), "ssh-ed25519 AAAA mine".to_owned()));
    }
    Ok((fs::read_to_string(&file)?, fs::read_to_string(file.with_extension("pub"))?))
}

/// Where there is an sshd, the owner of the key gets in, and nobody else; where there is none, the console
/// says so.
async fn log_in(hosts: &Hosts, id: &str, key: &str) -> Outcome {
    if !Path::new("/usr/sbin/sshd").exists() || key.is_empty() {
        println!("logging in ... not run: this machine lacks openssh");
        let told = async {
            while !hosts.console(id, 16 << 10)?.contains("openssh") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, BoxError>(())
        };
        return tokio::time::timeout(Duration::from_secs(10), told).await?;
    }
    let script = "umask 077; printf '%s' \"$1\" >/root/key; \
                  exec ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no \
                  -o UserKnownHostsFile=/root/hosts -o LogLevel=ERROR \"$2@127.0.0.1\" \"$3\"";
    let ssh = async |user: &str, command: &str| {
        output(hosts, id, &["sh", "-c", script, "sh", key, user, command]).await
    };
    let wait = async {
        loop {
            let (is_in, said) = ssh("ec2-user", "id -un; pwd; ls -ld . | cut -d' ' -f3").await?;
            if is_in {
                return Ok::<_, BoxError>(said);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(20), wait).await??;
    assert_eq!(said, "ec2-user\n/home/ec2-user\nec2-user\n");
    if Path::new("/usr/bin/sudo").exists() {
        assert_eq!(ssh("ec2-user", "sudo -n id -un").await?.1, "root\n");
    }
    assert!(!ssh("root", "true").await?.0, "root does not log in");
    let console = hosts.console(id, 64 << 10)?;
    assert!(console.contains("BEGIN SSH HOST KEY FINGERPRINTS"), "{console}");
    Ok(())
}

/// Whether it succeeded, and what it said.
async fn output(hosts: &Hosts, id: &str, argv: &[&str]) -> Result<(bool, String), BoxError> {
    use std::process::Stdio;

    let argv: Vec<String> = argv.iter().map(|&it| it.to_owned()).collect();
    let child = hosts.exec(id, &argv, [Stdio::null(), Stdio::piped(), Stdio::inherit()])?;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
    Ok((output.status.success(), String::from_utf8(output.stdout)?))
}

/// What EC2 was asked, and how the kubelet was called.
fn check(asked: &[String], args: &str) {
    let call = "ec2.us-east-1.amazonaws.com true Action=DescribeInstances";
    assert!(asked.iter().any(|it| it.starts_with(call)), "{asked:?}");
    for wanted in [
        "--hostname-override=ip-192-168-0-12.ec2.internal",
        "--node-ip=192.168.0.12",
        "--node-labels=a=b",
        "--config=/etc/kubernetes/kubelet/config.json",
    ] {
        assert!(args.lines().any(|it| it == wanted), "`{wanted}` is not in:\n{args}");
    }
}

fn services(
    vpc: &VpcSpec,
    metadata: InstanceMetadata,
    ca: &pki::Ca,
    scope: &Scope,
) -> Result<Arc<Mutex<Vec<String>>>, BoxError> {
    let place = Place::named(&vpc.netns);
    let imds = Imds::new(&vpc.id, Arc::new(One(metadata)), Clock::system());
    let metadata = region_imds::serve(place.clone(), region_vpc::IMDS, imds, scope.clone());
    drop(scope.spawn("imds", metadata));
    let zone = region_dns::Zone {
        cidrs: vpc.cidrs.clone(),
        private_domain: "ec2.internal".to_owned(),
        endpoints: ENDPOINTS,
        endpoints_v6: region_vpc::ENDPOINTS_V6,
        names: Arc::new(|_| None),
        outside: Arc::new(Vec::new),
    };
    region_dns::serve(&place, &[RESOLVER.into(), [192, 168, 0, 2].into()], zone, scope)?;
    let identity = ca.issue(&pki::Profile {
        cn: "endpoints".to_owned(),
        organizations: Vec::new(),
        sans: vec!["*.us-east-1.amazonaws.com".to_owned()],
        usages: vec![pki::Usage::Server],
        not_after: Clock::system().now() + Duration::from_secs(3600),
    })?;
    let tls = transport::tls::server(&identity, None)?;
    let listener = place.listen((ENDPOINTS, 443).into())?;
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = asked.clone();
    let service = tower::service_fn(move |request| ec2(noted.clone(), request));
    let serving = transport::serve(listener, Some(tls), service, scope.clone());
    drop(scope.spawn("endpoints", serving));
    Ok(asked)
}
