//! `nodestead run kube-apiserver`: the server alone, with upstream's flags.
//!
//! What is not given is made and kept in the data directory: an authority, a serving certificate,
//! the service-account key, and kubeconfigs: `admin.conf` for whoever runs it, and those of the other
//! components, as kubeadm names them.
//!
//! Upstream: the options of cmd/kube-apiserver.

mod admission_config;
mod oidc_flags;
mod request_header_flags;
mod webhook_config;

use std::{
    error::Error,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use lifecycle::Scope;
use pki::{Ca, Credentials, Identity, Kubeconfig, Profile, ServiceAccountKey, Usage};
use transport::{Place, tls};

use crate::{ApiServer, Config, audit, authn, proxy, validation};

/// Certificates that are made here live this long.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long connections may take to end on shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The kubeconfigs that are made: the file, the user and its group.
const USERS: [(&str, &str, &str); 4] = [
    ("admin.conf", "kubernetes-admin", "system:masters"),
    ("controller-manager.conf", "system:kube-controller-manager", ""),
    ("scheduler.conf", "system:kube-scheduler", ""),
    ("kube-proxy.conf", "system:kube-proxy", ""),
];

/// Flags, named as upstream's.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder for the store and for what is made at the first start
    #[arg(long, default_value = "/var/lib/nodestead/kube-apiserver")]
    pub data_dir: PathBuf,
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Address under which the cluster reaches the server
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    #[arg(long, default_value = "10.100.0.0/16")]
    pub service_cluster_ip_range: IpNet,
    /// Lowest and highest node port
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    #[arg(long, default_value = "https://kubernetes.default.svc")]
    pub service_account_issuer: String,
    /// Where relying parties find the public keys; below the issuer where it is not given
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Members of the etcd cluster to keep the state in; a file in the data directory without
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// What every key in etcd begins with
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Who signs etcd's certificates
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Kubeconfig of the service that reviews bearer tokens
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long the webhook's answers are kept
    #[arg(long, default_value_t = 120)]
    pub authentication_token_webhook_cache_ttl_seconds: u64,
    /// File that who asked for what is written to, by the policy
    #[arg(long, requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// What of which requests is written
    #[arg(long, requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// Megabytes that the file may have before another is begun; 0 is 100
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// How many of the older files are kept; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// With the next, the seats that the priority levels share
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// With the one before, the seats that the priority levels share
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How admission plug-ins are configured: PodSecurity's defaults and exemptions
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    #[command(flatten)]
    pub oidc: oidc_flags::OidcFlags,
    #[command(flatten)]
    pub request_header: request_header_flags::RequestHeaderFlags,
    #[arg(long, requires = "kubelet_client_key")]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "--advertise-address: Invalid value: \"{address}\": {why}; give an address of this machine by which nodes and pods reach it, or leave the flag out: then the Service `kubernetes` has no endpoints"
)]
struct AdvertiseError {
    address: IpAddr,
    why: &'static str,
}

/// Serves until the process is told to end.
pub async fn run(args: Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let scope = Scope::new();
    check_advertised(&args)?;
    let made = Made::ensure(&args)?;
    let store = open_store(&args).await?;
    let config = config(&args, &made, store, &scope)?;
    let trusted = trusted(&config.authn);
    let api = ApiServer::start(config).await?;
    let keeper = api.clone();
    drop(scope.spawn("maintenance", async move { keeper.maintain().await }));
    let identity = made.serving(&args)?;
    let tls = tls::server(&identity, Some(&trusted))?;
    let address = SocketAddr::new(args.bind_address, args.secure_port);
    let listener = Place::Here.listen(address)?;
    tracing::info!(%address, "serving the Kubernetes API");
    drop(scope.spawn(
        "kube-apiserver",
        transport::serve(listener, Some(tls), api.service(), scope.clone()),
    ));
    lifecycle::asked_to_end().await?;
    scope.drain(DRAIN_LIMIT).await;
    Ok(())
}

/// Whose certificates the listener takes: clients' and proxies'.
fn trusted(authn: &authn::Config) -> String {
    let proxies = authn.request_header.iter().map(|it| it.ca_pem.as_str());
    let all: Vec<&str> = authn.client_ca_pem.as_deref().into_iter().chain(proxies).collect();
    all.join("\n")
}

/// What the cluster is told to reach the server by becomes an endpoint of `default/kubernetes`: one that
/// can be none is refused before anything is made.
fn check_advertised(args: &Args) -> Result<(), AdvertiseError> {
    let Some(address) = args.advertise_address else { return Ok(()) };
    match validation::endpoint_address(address) {
        Some(why) => Err(AdvertiseError { address, why }),
        None => Ok(()),
    }
}

/// A file of its own, or etcd.
async fn open_store(args: &Args) -> Result<mvcc::Store, Box<dyn Error + Send + Sync>> {
    if args.etcd_servers.is_empty() {
        let file = args.data_dir.join("store.redb");
        return Ok(tokio::task::spawn_blocking(move || mvcc::Store::open(&file)).await??);
    }
    let identity = match (&args.etcd_certfile, &args.etcd_keyfile) {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate_pem: read(certificate)?, key_pem: read(key)? })
        }
        _ => None,
    };
    let ca_pem = args.etcd_cafile.as_deref().map(read).transpose()?;
    let config = mvcc::EtcdConfig {
        endpoints: args.etcd_servers.clone(),
        tls: ca_pem.map(|ca_pem| mvcc::Tls { ca_pem, identity }),
        prefix: format!("{}/", args.etcd_prefix.trim_end_matches('/')),
    };
    Ok(mvcc::Store::etcd(config).await?)
}

fn config(
    args: &Args,
    made: &Made,
    store: mvcc::Store,
    scope: &Scope,
) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let mut config = Config::new(store, clock::Clock::system());
    config.service_cidr = args.service_cluster_ip_range;
    let (low, high) = args
        .service_node_port_range
        .split_once('-')
        .ok_or("--service-node-port-range must be LOW-HIGH")?;
    config.node_ports = low.parse()?..=high.parse()?;
    config.endpoints.extend(args.advertise_address);
    config.endpoint_port = args.secure_port;
    config.max_requests_inflight = args.max_requests_inflight + args.max_mutating_requests_inflight;
    config.audit = audit_log(args)?;
    if let Some(path) = &args.admission_control_config_file {
        config.pod_security = admission_config::read(path)?;
    }
    let issuer = args.service_account_issuer.clone();
    let audiences = if args.api_audiences.is_empty() {
        vec![issuer.clone()]
    } else {
        args.api_audiences.clone()
    };
    let keys = authn::SigningKeys::new(vec![made.account_key.clone()]);
    let jwks_uri = args.service_account_jwks_uri.clone();
    let jwks_uri = jwks_uri.unwrap_or_else(|| format!("{issuer}/openid/v1/jwks"));
    let memory = Duration::from_secs(args.authentication_token_webhook_cache_ttl_seconds);
    let (request_header, proxy_client) =
        args.request_header.fronts(made, || authority(args, "front-proxy-ca", "front-proxy-ca"))?;
    config.proxy_client = proxy_client;
    config.authn = authn::Config {
        client_ca_pem: Some(match &args.client_ca_file {
            Some(path) => read(path)?,
            None => made.ca.certificate_pem().to_owned(),
        }),
        request_header,
        service_accounts: Some(authn::ServiceAccounts {
            issuer,
            audiences,
            jwks_uri,
            keys,
            // The controllers are given the same key.
            legacy_keys: authn::SigningKeys::default(),
        }),
        oidc: args.oidc.oidc()?,
        token_webhook: match &args.authentication_token_webhook_config_file {
            Some(path) => Some(webhook_config::hook(&read(path)?)?),
            None => None,
        },
        token_webhook_memory: memory,
    };
    config.proxy = proxy::Config {
        kubelet_tls: kubelet_tls(args, made)?,
        scope: scope.clone(),
        ..proxy::Config::default()
    };
    Ok(config)
}

fn audit_log(args: &Args) -> Result<Option<audit::Log>, Box<dyn Error + Send + Sync>> {
    let (Some(path), Some(policy)) = (&args.audit_log_path, &args.audit_policy_file) else {
        return Ok(None);
    };
    let policy = audit::Policy::parse(&read(policy)?)?;
    let bytes = match args.audit_log_maxsize {
        0 => 100 << 20,
        megabytes => megabytes.saturating_mul(1 << 20),
    };
    let rotation = audit::Rotation { bytes, backups: args.audit_log_maxbackup };
    let log = audit::Log::open(path, policy, rotation);
    let log = log.map_err(|error| format!("failed to open `{}`: {error}", path.display()))?;
    Ok(Some(log))
}

/// How kubelets are spoken to: with the given certificate, or with one of our own authority.
fn kubelet_tls(
    args: &Args,
    made: &Made,
) -> Result<Option<std::sync::Arc<rustls::ClientConfig>>, Box<dyn Error + Send + Sync>> {
    let identity = match (&args.kubelet_client_certificate, &args.kubelet_client_key) {
        (Some(certificate), Some(key)) => {
            Identity { certificate_pem: read(certificate)?, key_pem: read(key)? }
        }
        _ => made.issue("kube-apiserver-kubelet-client", "system:masters", &[], Usage::Client)?,
    };
    let config = match &args.kubelet_certificate_authority {
        Some(path) => proxy::client(&read(path)?, Some(&identity))?,
        // Upstream's default too: without an authority, kubelets are not verified.
        None => tls::client_unverified(Some(&identity))?,
    };
    Ok(Some(config))
}

/// What the first start makes.
struct Made {
    ca: Ca,
    account_key: ServiceAccountKey,
    not_after: jiff::Timestamp,
}

impl Made {
    fn ensure(args: &Args) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let ca = authority(args, "ca", "kubernetes")?;
        let folder = args.data_dir.join("pki");
        let account_file = match &args.service_account_signing_key_file {
            Some(path) => path.clone(),
            None => folder.join("sa.key"),
        };
        let account_key = if account_file.exists() {
            ServiceAccountKey::from_pem(&read(&account_file)?)?
        } else {
            let key = ServiceAccountKey::generate()?;
            write(&account_file, key.private_pem())?;
            key
        };
        let not_after = clock::Clock::system().now() + CERTIFICATE_LIFE;
        let made = Self { ca, account_key, not_after };
        for (file, user, group) in USERS {
            made.write_kubeconfig(args, file, user, group)?;
        }
        Ok(made)
    }

    fn issue(
        &self,
        name: &str,
        group: &str,
        sans: &[String],
        usage: Usage,
    ) -> Result<Identity, pki::PkiError> {
        self.issue_by(&self.ca, name, group, sans, usage)
    }

    fn issue_by(
        &self,
        ca: &Ca,
        name: &str,
        group: &str,
        sans: &[String],
        usage: Usage,
    ) -> Result<Identity, pki::PkiError> {
        let organizations = if group.is_empty() { Vec::new() } else { vec![group.to_owned()] };
        let profile = Profile {
            cn: name.into(),
            organizations,
            sans: sans.to_vec(),
            usages: vec![usage],
            not_after: self.not_after,
        };
        ca.issue(&profile)
    }

    fn serving(&self, args: &Args) -> Result<Identity, Box<dyn Error + Send + Sync>> {
        if let (Some(certificate), Some(key)) = (&args.tls_cert_file, &args.tls_private_key_file) {
            return Ok(Identity { certificate_pem: read(certificate)?, key_pem: read(key)? });
        }
        let first = crate::config::first_address(args.service_cluster_ip_range);
        let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .into_iter()
            .chain(["kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1"])
            .map(str::to_owned)
            .collect();
        names.push(first.to_string());
        names.extend(args.advertise_address.map(|it| it.to_string()));
        if !args.bind_address.is_unspecified() {
            names.push(args.bind_address.to_string());
        }
        Ok(self.issue("kube-apiserver", "", &names, Usage::Server)?)
    }

    fn write_kubeconfig(
        &self,
        args: &Args,
        file: &str,
        user: &str,
        group: &str,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let path = args.data_dir.join(file);
        if path.exists() {
            return Ok(());
        }
        let host = if args.bind_address.is_unspecified() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            args.bind_address
        };
        let identity = self.issue(user, group, &[], Usage::Client)?;
        let config = Kubeconfig {
            name: "nodestead".into(),
            server: format!("https://{}", SocketAddr::new(host, args.secure_port)),
            ca_pem: self.ca.certificate_pem().into(),
            tls_server_name: None,
            credentials: Credentials::Certificate(identity),
        };
        write(&path, &config.render()?)?;
        Ok(())
    }
}

/// An authority of the data directory, made at the first start.
fn authority(args: &Args, name: &str, cn: &str) -> Result<Ca, Box<dyn Error + Send + Sync>> {
    let folder = args.data_dir.join("pki");
    fs::create_dir_all(&folder)?;
    let certificate = folder.join(format!("{name}.crt"));
    let key = folder.join(format!("{name}.key"));
    if key.exists() {
        return Ok(Ca::from_pem(&read(&certificate)?, &read(&key)?)?);
    }
    let ca = Ca::new(cn)?;
    write(&certificate, ca.certificate_pem())?;
    write(&key, ca.key_pem())?;
    Ok(ca)
}

fn read(path: &Path) -> io::Result<String> {
    let named = |error| io::Error::other(format!("failed to read `{}`: {error}", path.display()));
    fs::read_to_string(path).map_err(named)
}

/// Writes a file that only its owner may read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::{
        io::Write,
        os::unix::fs::{OpenOptionsExt, PermissionsExt},
    };
    let open = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = open?;
    // A file that was there has the mode that it had.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[tokio::test]
    async fn an_address_that_nobody_else_can_reach_is_not_advertised() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let line = |address: &str| {
            let data = data.display().to_string();
            let words = ["x", "--data-dir", &data, "--advertise-address", address];
            Line::parse_from(words).args
        };
        for (address, why) in [
            ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ] {
            let error = run(line(address)).await.unwrap_err().to_string();
            let expected = format!("--advertise-address: Invalid value: \"{address}\": {why}");
            assert!(error.starts_with(&expected), "{error}");
            assert!(!data.exists(), "something was made");
        }
        assert!(check_advertised(&line("192.0.2.1")).is_ok());
    }

    #[test]
    fn each_component_is_given_a_kubeconfig_of_its_own_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let args = Line::parse_from(["x", "--data-dir", folder.path().to_str().unwrap()]).args;
        drop(Made::ensure(&args).unwrap());
        let texts =
            || USERS.map(|(file, ..)| fs::read_to_string(folder.path().join(file)).unwrap());
        let first = texts();
        for ((_, user, _), text) in USERS.iter().zip(&first) {
            let read: serde_json::Value = serde_saphyr::from_str(text).unwrap();
            let pem = &read["users"][0]["user"]["client-certificate-data"];
            use base64::{Engine, prelude::BASE64_STANDARD};
            let pem = BASE64_STANDARD.decode(pem.as_str().unwrap()).unwrap();
            let subject = pki::subject_of_pem(&String::from_utf8(pem).unwrap()).unwrap();
            assert_eq!(subject.common_name, *user);
        }
        drop(Made::ensure(&args).unwrap());
        assert_eq!(texts(), first);
    }

    #[test]
    fn the_authority_of_proxies_is_made_once_unless_one_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let fronts = |more: &[&str]| {
            let words = ["x", "--data-dir", &data].into_iter().chain(more.iter().copied());
            let args = Line::parse_from(words).args;
            let made = Made::ensure(&args).unwrap();
            let own = || authority(&args, "front-proxy-ca", "front-proxy-ca");
            args.request_header.fronts(&made, own).unwrap()
        };
        let (header, identity) = fronts(&[]);
        let header = header.unwrap();
        assert_eq!(header.allowed_names, ["front-proxy-client"]);
        assert!(identity.is_some());
        assert_eq!(fronts(&[]).0.unwrap().ca_pem, header.ca_pem);
        let given = folder.path().join("given.crt");
        fs::write(&given, "pem").unwrap();
        let flag = format!("--requestheader-client-ca-file={}", given.display());
        let (header, identity) = fronts(&[&flag, "--requestheader-allowed-names=a,b"]);
        let header = header.unwrap();
        assert_eq!((header.ca_pem.as_str(), header.allowed_names.len()), ("pem", 2));
        assert!(identity.is_none(), "nobody knows this server by a certificate that nobody gave");
    }
}
