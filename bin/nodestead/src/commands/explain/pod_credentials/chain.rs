//! The SDKs' chain of credential providers over a container's spec: a pure function.
//!
//! The first provider that is configured is the one: when it fails, the SDK says so and does not try
//! the next. Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".
//!
//! Deviation: profiles in files and what code names itself cannot be seen from outside; the chain is
//! told as it is without them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ServiceAccountTokenProjection};
use serde::Serialize;

use super::facts::{Facts, Instance};

/// Where the Pod Identity agent answers.
const AGENT: [&str; 2] =
    ["http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1/credentials"];
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const AUTHORIZATION_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// The annotation that asks for IRSA.
const ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// What one container gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    pub(crate) container: String,
    /// `environment`, `web-identity`, `container`, `instance-metadata` or `none`.
    pub(crate) source: &'static str,
    /// A role's ARN or name, or an access key.
    pub(crate) principal: Option<String>,
    pub(crate) works: bool,
    pub(crate) why: String,
    pub(crate) chain: Vec<Step>,
    /// The audience of the token that is shown to STS.
    #[serde(skip)]
    pub(crate) audience: Option<String>,
    /// The pod's service account.
    #[serde(skip)]
    pub(crate) account: String,
}

/// One provider of the chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub(crate) provider: &'static str,
    pub(crate) state: State,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    Used,
    /// It is the one, and gives nothing.
    Fails,
    Skipped,
    /// An earlier one is the one.
    NotReached,
}

/// What one provider says.
struct Says {
    state: State,
    detail: String,
    principal: Option<String>,
    audience: Option<String>,
}

impl Says {
    fn new(state: State, detail: impl Into<String>) -> Self {
        Self { state, detail: detail.into(), principal: None, audience: None }
    }

    fn of(self, principal: Option<String>) -> Self {
        Self { principal, ..self }
    }
}

/// What each container of the pod gets, those that begin it first.
pub(crate) fn of_pod(pod: &Pod, facts: &Facts) -> Vec<Found> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.map(|it| of_container(pod, spec, it, facts)).collect()
}

/// The service account, which every pod has.
pub(crate) fn service_account(pod: &Pod) -> &str {
    let named = pod.spec.as_ref().and_then(|it| it.service_account_name.as_deref());
    named.filter(|it| !it.is_empty()).unwrap_or("default")
}

fn of_container(pod: &Pod, spec: &PodSpec, container: &Container, facts: &Facts) -> Found {
    let env = Env::of(container);
    let instance = spec.node_name.as_ref().and_then(|it| facts.instances.get(it));
    let providers: [(&'static str, Says); 4] = [
        ("environment", environment(&env)),
        ("web-identity", web_identity(pod, spec, container, &env, facts)),
        ("container", container_credentials(pod, spec, container, &env, facts)),
        ("instance-metadata", instance_metadata(spec, &env, instance)),
    ];
    let mut found = Found {
        container: container.name.clone(),
        source: "none",
        principal: None,
        works: false,
        why: "no provider is configured".to_owned(),
        chain: Vec::new(),
        audience: None,
        account: service_account(pod).to_owned(),
    };
    let mut is_decided = false;
    for (provider, says) in providers {
        let state = if is_decided { State::NotReached } else { says.state };
        if matches!(state, State::Used | State::Fails) {
            is_decided = true;
            found.source = provider;
            found.works = state == State::Used;
            found.why.clone_from(&says.detail);
            found.principal = says.principal;
            found.audience = says.audience;
        }
        found.chain.push(Step { provider, state, detail: says.detail });
    }
    if !is_decided && let Some(last) = found.chain.last() {
        found.why = format!("nothing is configured, and of the node it gets none: {}", last.detail);
    }
    found
}

/// The variables of a container: their values, or where they come from.
struct Env<'a> {
    values: BTreeMap<&'a str, Value<'a>>,
    /// More may be in there.
    from: Vec<String>,
}

#[derive(Clone, Debug)]
enum Value<'a> {
    Literal(&'a str),
    /// `Secret keys`
    From(String),
}

impl<'a> Env<'a> {
    fn of(container: &'a Container) -> Self {
        let values = container.env.iter().flatten().filter_map(|it| {
            if let Some(value) = it.value.as_deref().filter(|it| !it.is_empty()) {
                return Some((it.name.as_str(), Value::Literal(value)));
            }
            let from = it.value_from.as_ref()?;
            let secret = from.secret_key_ref.as_ref().map(|it| format!("Secret {}", it.name));
            let map = from.config_map_key_ref.as_ref().map(|it| format!("ConfigMap {}", it.name));
            Some((it.name.as_str(), Value::From(secret.or(map)?)))
        });
        let from = container.env_from.iter().flatten().filter_map(|it| {
            let secret = it.secret_ref.as_ref().map(|it| format!("Secret {}", it.name));
            secret.or_else(|| it.config_map_ref.as_ref().map(|it| format!("ConfigMap {}", it.name)))
        });
        Self { values: values.collect(), from: from.collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn literal(&self, name: &str) -> Option<&'a str> {
        match self.values.get(name)? {
            Value::Literal(text) => Some(text),
            Value::From(_) => None,
        }
    }

    /// The value, or where it comes from.
    fn shown(&self, name: &str) -> Option<String> {
        Some(match self.values.get(name)? {
            Value::Literal(text) => (*text).to_owned(),
            Value::From(source) => format!("(in {source})"),
        })
    }
}

fn environment(env: &Env<'_>) -> Says {
    let (key, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    match (env.has(key), env.has(secret)) {
        (true, true) => {
            let shown = env.shown(key).unwrap_or_default();
            Says::new(State::Used, format!("{key} and {secret} are set")).of(Some(shown))
        }
        (true, false) => Says::new(State::Fails, format!("{key} is set without {secret}")),
        (false, _) if !env.from.is_empty() => Says::new(
            State::Skipped,
            format!("{key} is not set, unless it is in {}", env.from.join(", ")),
        ),
        (false, _) => Says::new(State::Skipped, format!("{key} is not set")),
    }
}

fn web_identity(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    env: &Env<'_>,
    facts: &Facts,
) -> Says {
    let account = service_account(pod);
    if !env.has(TOKEN_FILE) || !env.has(ROLE_ARN) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let asked = facts.annotated.get(&(namespace.to_owned(), account.to_owned()));
        let detail = match asked {
            Some(role) => format!(
                "service account {account} has {ANNOTATION} {role}, but the pod was not given \
                 {TOKEN_FILE}: it was made before that, or the webhook did not see it; make it \
                 again"
            ),
            None => format!("{TOKEN_FILE} and {ROLE_ARN} are not both set"),
        };
        return Says::new(State::Skipped, detail);
    }
    let role = env.shown(ROLE_ARN);
    match env.literal(TOKEN_FILE).map(|path| token_at(spec, container, path)) {
        Some(None) => Says::new(State::Fails, format!("no volume puts a token at {TOKEN_FILE}")),
        Some(Some(token)) => {
            let audience = token.audience.clone();
            Says {
                audience: audience.clone(),
                ..Says::new(
                    State::Used,
                    format!(
                        "IRSA: the token of {account} for {} is exchanged at STS",
                        audience.as_deref().unwrap_or("the API server")
                    ),
                )
            }
        }
        None => Says::new(State::Used, format!("{TOKEN_FILE} is set")),
    }
    .of(role)
}

fn container_credentials(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    env: &Env<'_>,
    facts: &Facts,
) -> Says {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = service_account(pod);
    let association = facts.associations.get(&(namespace.to_owned(), account.to_owned()));
    if env.has(RELATIVE_URI) {
        let detail = format!("{RELATIVE_URI} is of ECS; nobody answers there on this node");
        return Says::new(State::Fails, detail);
    }
    let Some(uri) = env.shown(FULL_URI) else {
        let detail = match association {
            Some(it) => format!(
                "association {} gives {account} a role, but the pod was made before it; make it \
                 again",
                it.id
            ),
            None => format!("{FULL_URI} is not set"),
        };
        return Says::new(State::Skipped, detail);
    };
    if !AGENT.contains(&uri.as_str()) {
        return Says::new(State::Used, format!("{FULL_URI} is {uri}, whoever answers there"));
    }
    let role = association.map(|it| it.role.clone().unwrap_or_else(|| it.id.clone()));
    let fails = |detail: String| Says::new(State::Fails, detail).of(role.clone());
    let has_agent = spec.node_name.as_ref().is_some_and(|it| facts.agents.contains(it));
    if !has_agent {
        return fails("no eks-pod-identity-agent runs on the node".to_owned());
    }
    let file = env.literal(AUTHORIZATION_FILE);
    if file.is_none_or(|path| token_at(spec, container, path).is_none()) {
        return fails(format!("no volume puts a token at {AUTHORIZATION_FILE}"));
    }
    match association {
        None => fails(format!(
            "Pod Identity was set up for the pod, but {namespace}/{account} has no association any \
             more"
        )),
        Some(it) => {
            let mut detail =
                format!("Pod Identity: association {} of {namespace}/{account}", it.id);
            if let Some(target) = &it.target {
                detail += &format!(", which goes on to {target}");
            }
            Says::new(State::Used, detail).of(role)
        }
    }
}

fn instance_metadata(spec: &PodSpec, env: &Env<'_>, instance: Option<&Instance>) -> Says {
    let skipped = |detail: &str| Says::new(State::Skipped, detail);
    let is_off = env.literal("AWS_EC2_METADATA_DISABLED");
    if is_off.is_some_and(|it| it.eq_ignore_ascii_case("true")) {
        return skipped("AWS_EC2_METADATA_DISABLED is set");
    }
    let Some(it) = instance else {
        return skipped("the pod is on no EC2 instance");
    };
    if !it.has_endpoint {
        return skipped("the instance's metadata service is off");
    }
    let Some(role) = &it.role else {
        return skipped("the instance has no profile with a role");
    };
    let is_on_host = spec.host_network.unwrap_or(false);
    let why = match (is_on_host, it.hop_limit >= 2, it.requires_tokens) {
        (true, ..) => "the pod uses the node's network, as the node itself".to_owned(),
        (_, true, _) => format!("the hop limit is {}, far enough for pods", it.hop_limit),
        (_, _, false) => "the hop limit is 1, but IMDSv1 is allowed and needs no token".to_owned(),
        (_, _, true) => {
            return skipped(
                "the hop limit is 1 and tokens are required: the answer to a pod's token request \
                 dies at its veth",
            );
        }
    };
    Says::new(State::Used, format!("the node's own role: {why}")).of(Some(role.clone()))
}

/// The projected token that a volume puts at this path, if one does.
fn token_at<'a>(
    spec: &'a PodSpec,
    container: &Container,
    path: &str,
) -> Option<&'a ServiceAccountTokenProjection> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts.into_iter().find_map(|mount| {
        let rest = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
        let file = rest.strip_prefix('/')?;
        let volume = spec.volumes.iter().flatten().find(|it| it.name == mount.name)?;
        let sources = volume.projected.as_ref()?.sources.iter().flatten();
        sources.filter_map(|it| it.service_account_token.as_ref()).find(|it| it.path == file)
    })
}

#[cfg(test)]
mod tests;
