//! The region's operations against AWS's own description of them, and the documentation's list.
//!
//! AWS's description is botocore's, of the PyPI package that `make images` or a user has put into
//! `~/.cache/nodestead/venv`; where it is not, the tests that need it say that they were not run.
//! What is asked of every operation, by boto3 itself, is in `test/contract`.

mod world;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_wire::{
    Http,
    service::{self, Protocol},
};
use clock::Clock;
use lifecycle::Scope;
use pki::ServiceAccountKey;
use serde_json::Value;

use super::*;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/aws.md");

/// What agents of instances call: AWS describes it nowhere.
const UNDESCRIBED: [(&str, &str); 3] = [
    ("ssm", "UpdateInstanceInformation"),
    ("ssmmessages", "CreateControlChannel"),
    ("ssmmessages", "CreateDataChannel"),
];

/// Method and path of each operation, by service and name.
type Operations = BTreeMap<&'static str, BTreeMap<&'static str, Http>>;

fn region(folder: &Path, scope: &Scope) -> Region {
    let layout = Layout::new(folder).unwrap();
    let settings = Settings {
        name: "stead".to_owned(),
        nodes: 0,
        instance_type: "m5.large".to_owned(),
        aws_port: 0,
        api_port: 0,
        egress: false,
        proxy_unowned: None,
        latency: latency::Profile::default(),
        spot_seed: None,
        etcd: None,
        without: Vec::new(),
    };
    Region::open(&layout, &settings, Clock::system(), scope).unwrap()
}

fn operations() -> Operations {
    let folder = tempfile::tempdir().unwrap();
    operations_of(&region(folder.path(), &Scope::new()))
}

fn operations_of(region: &Region) -> Operations {
    let mut found = Operations::new();
    for (service, action, http) in region.gateway.operations() {
        if UNDESCRIBED.contains(&(service, action)) {
            continue;
        }
        found.entry(service).or_default().insert(action, http);
    }
    found
}

/// botocore's name of a service, where it is not the one that requests are signed for.
fn model_name(service: &str) -> &str {
    if service == "elasticloadbalancing" { "elb" } else { service }
}

fn venv() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(Path::new(&home).join(".cache/nodestead/venv"))
}

fn models() -> Option<PathBuf> {
    let pythons = fs::read_dir(venv()?.join("lib")).ok()?.flatten();
    let found = pythons.map(|it| it.path().join("site-packages/botocore/data"));
    found.into_iter().find(|it| it.is_dir())
}

/// The model of the version that the service speaks.
fn model(models: &Path, service: &str) -> Value {
    let version = service::find(service).map(|it| it.version).unwrap_or_default();
    let folder = models.join(model_name(service));
    let dated = folder.join(version);
    let newest = || fs::read_dir(&folder).unwrap().flatten().map(|it| it.path()).max().unwrap();
    let folder = if version.is_empty() || !dated.is_dir() { newest() } else { dated };
    let mut text = String::new();
    match fs::File::open(folder.join("service-2.json.gz")) {
        Ok(file) => drop(flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap()),
        Err(_) => text = fs::read_to_string(folder.join("service-2.json")).unwrap(),
    }
    serde_json::from_str(&text).unwrap()
}

/// Labels may have other names, and nothing else may differ.
fn without_labels(path: &str) -> Vec<&str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').map(|it| if it.starts_with('{') { "{}" } else { it }).collect()
}

#[tokio::test]
async fn every_operation_is_one_of_awss_with_its_method_and_path() {
    let Some(models) = models() else {
        println!("not run: there is no botocore in ~/.cache/nodestead/venv");
        return;
    };
    let mut wrong = Vec::new();
    for (service, actions) in operations() {
        let model = model(&models, service);
        let is_rest = service::find(service).is_some_and(|it| it.protocol == Protocol::RestJson);
        for (action, http) in actions {
            let Some(described) = model["operations"].get(action) else {
                wrong.push(format!("{service}:{action} is no operation of AWS"));
                continue;
            };
            let (method, path) = (&described["http"]["method"], &described["http"]["requestUri"]);
            let path = path.as_str().unwrap_or_default();
            let is_same =
                method == http.method && without_labels(path) == without_labels(http.path);
            if is_rest && !is_same {
                wrong.push(format!(
                    "{service}:{action} is {} {}, on AWS {method} {path}",
                    http.method, http.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a parameter is called on the wire; `None` for a part of the path.
fn wire_name<'a>(protocol: Protocol, name: &'a str, member: &'a Value) -> Option<Cow<'a, str>> {
    if member["location"] == "uri" {
        return None;
    }
    let named = member["locationName"].as_str();
    if protocol != Protocol::Ec2 {
        return Some(named.unwrap_or(name).into());
    }
    if let Some(name) = member["queryName"].as_str() {
        return Some(name.into());
    }
    let name = named.unwrap_or(name);
    let (first, rest) = name.split_at_checked(1)?;
    Some(format!("{}{rest}", first.to_ascii_uppercase()).into())
}

/// The parameters of an operation in AWS's model that the region does not read.
fn unread(region: &Region, model: &Value, service: &str, action: &str) -> BTreeSet<String> {
    let shape = model["operations"][action]["input"]["shape"].as_str().unwrap_or_default();
    let members = model["shapes"][shape]["members"].as_object();
    let protocol = service::find(service).unwrap().protocol;
    let read = region.gateway.parameters(service, action);
    members
        .into_iter()
        .flatten()
        .filter_map(|(name, member)| wire_name(protocol, name, member))
        // The gateway's own matter.
        .filter(|it| !read.contains(&&**it) && (protocol, &**it) != (Protocol::Ec2, "DryRun"))
        .map(Cow::into_owned)
        .collect()
}

/// `NODESTEAD_WRITE_DOCS=1` writes them anew; the documentation and EC2's `UnknownParameter` are by
/// that list.
#[tokio::test]
async fn parameters_of_aws_that_are_not_read_are_listed() {
    let Some(models) = models() else {
        println!("not run: there is no botocore in ~/.cache/nodestead/venv");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let region = region(folder.path(), &Scope::new());
    let mut text = String::new();
    for (service, actions) in operations_of(&region) {
        let model = model(&models, service);
        for action in actions.keys() {
            let unread = unread(&region, &model, service, action);
            if !unread.is_empty() {
                let names: Vec<_> = unread.into_iter().collect();
                writeln!(text, "{service}:{action} {}", names.join(" ")).unwrap();
            }
        }
    }
    if std::env::var_os("NODESTEAD_WRITE_DOCS").is_some() {
        fs::write(UNREAD_FILE, &text).unwrap();
    }
    let written = fs::read_to_string(UNREAD_FILE).unwrap_or_default();
    assert_eq!(written, text, "unread.txt is old: run the test with NODESTEAD_WRITE_DOCS=1");
}

const UNREAD_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../region/gateway/src/unread.txt");

/// `NODESTEAD_WRITE_DOCS=1` writes it anew.
#[tokio::test]
async fn the_documentation_lists_the_operations_that_are_served() {
    let mut text = "# AWS operations\n\nWhat the region's endpoints serve, by service. Everything \
                    else is refused with the code that AWS has for an unknown operation. This list \
                    is made from the region's own routes; each is an operation of botocore's model \
                    (`NODESTEAD_WRITE_DOCS=1 cargo test -p nodestead contract` writes it anew). \
                    boto3 asks for each of them in a test, and the answers, good ones and \
                    refusals, are checked against that model. What is in brackets are parameters of \
                    the model that are taken and change nothing; EC2 refuses all others with \
                    `UnknownParameter`.\n"
        .to_owned();
    let refused = refused();
    if !refused.is_empty() {
        text.push_str("\nOf operations with a star only refusals are checked.\n");
    }
    let unread: BTreeMap<&str, &str> =
        region_gateway::UNREAD.lines().filter_map(|it| it.split_once(' ')).collect();
    for (service, actions) in operations() {
        let names: Vec<&str> = actions.keys().copied().collect();
        write!(text, "\n## {service} ({})\n\n", names.len()).unwrap();
        for name in names {
            let full = format!("{service}:{name}");
            let star = if refused.contains(&full) { " *" } else { "" };
            let unread = unread.get(&*full).map(|it| it.replace(' ', ", "));
            let unread = unread.map(|it| format!(" ({it})")).unwrap_or_default();
            writeln!(text, "- {name}{star}{unread}").unwrap();
        }
    }
    if std::env::var_os("NODESTEAD_WRITE_DOCS").is_some() {
        fs::write(DOCUMENT, &text).unwrap();
    }
    let written = fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(written == text, "docs/aws.md is old: run the test with NODESTEAD_WRITE_DOCS=1");
}

#[tokio::test]
async fn every_action_that_is_decided_on_is_in_the_table_of_actions() {
    let served: BTreeSet<String> = operations()
        .iter()
        .flat_map(|(service, actions)| actions.keys().map(move |it| format!("{service}:{it}")))
        // SQS decides on a batch as on each of its entries.
        .filter(|it| !(it.starts_with("sqs:") && it.ends_with("Batch")))
        .collect();
    let known: BTreeSet<String> =
        iam_policy::actions::all().map(|it| it.action.to_owned()).collect();
    let missing: Vec<_> = served.difference(&known).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// What the test below cannot check, a line each. AssumeRole… need a token of a pod, which those of
/// whole clusters have (`irsa`, `pod_identity`).
const UNCHECKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/contract/unchecked.txt");

/// Operations of which only refusals are checked, as `SERVICE:OPERATION`.
fn refused() -> BTreeSet<String> {
    let text = fs::read_to_string(UNCHECKED).unwrap_or_default();
    text.lines().filter_map(|it| it.strip_prefix("no success: ")).map(str::to_owned).collect()
}

/// What `test/contract/main.py` says.
#[derive(serde::Deserialize)]
struct Report {
    /// How each operation was answered: `success`, `error`.
    seen: BTreeMap<String, BTreeSet<String>>,
    wrong: Vec<String>,
    /// Paginators for which the story has no parameters.
    unpaged: BTreeSet<String>,
    counts: BTreeMap<String, usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_gets_the_answers_of_its_models_from_every_operation() {
    let python = venv().map(|it| it.join("bin/python")).filter(|it| it.exists());
    let Some((python, _)) = python.zip(models()) else {
        println!("not run: there is no botocore in ~/.cache/nodestead/venv");
        return;
    };
    let (folder, scope) = (tempfile::tempdir().unwrap(), Scope::new());
    let region = region(folder.path(), &scope);
    let key = Arc::new(ServiceAccountKey::generate().unwrap());
    let endpoint = world::start(&region, &key, &scope);
    let report = asked(&python, &endpoint, &key, &operations_of(&region)).await;
    scope.drain(Duration::from_secs(5)).await;

    assert!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
    let served: BTreeSet<String> = operations_of(&region)
        .into_iter()
        .flat_map(|(service, it)| it.into_keys().map(move |it| format!("{service}:{it}")))
        .collect();
    let silent: Vec<_> = served.iter().filter(|it| !report.seen.contains_key(*it)).collect();
    assert!(silent.is_empty(), "never answered: {silent:?}");
    let is_refused = |it: &&String| !report.seen[*it].contains("success");
    let refused = served.iter().filter(is_refused).map(|it| format!("no success: {it}\n"));
    let unpaged = report.unpaged.iter().map(|it| format!("no pages: {it}\n"));
    let unchecked: String = refused.chain(unpaged).collect();
    if std::env::var_os("NODESTEAD_WRITE_DOCS").is_some() {
        fs::write(UNCHECKED, &unchecked).unwrap();
    }
    let written = fs::read_to_string(UNCHECKED).unwrap_or_default();
    assert_eq!(
        written, unchecked,
        "unchecked.txt is old: run the test with NODESTEAD_WRITE_DOCS=1"
    );
    for what in ["dry runs", "paginators", "waiters"] {
        assert!(report.counts.get(what).is_some_and(|it| *it > 20), "{what}: {:?}", report.counts);
    }
}

/// Many times what the script takes: one that waits for ever fails.
const SCRIPT_LIMIT: Duration = Duration::from_secs(20 * 60);

async fn asked(
    python: &Path,
    endpoint: &str,
    key: &ServiceAccountKey,
    operations: &Operations,
) -> Report {
    use tokio::io::AsyncWriteExt;

    // A PEM's content is base64.
    let pem = key.private_pem().lines().filter(|it| !it.starts_with('-'));
    let private = pem.collect::<String>();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/contract/main.py");
    let mut child = tokio::process::Command::new(python)
        .arg("-B")
        .arg(script)
        .env("CONTRACT_KEY", private)
        .env("CONTRACT_KEY_ID", key.key_id())
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let names: BTreeMap<_, Vec<_>> =
        operations.iter().map(|(service, it)| (*service, it.keys().copied().collect())).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(serde_json::to_string(&names).unwrap().as_bytes()).await.unwrap();
    drop(stdin);
    let said = tokio::time::timeout(SCRIPT_LIMIT, child.wait_with_output()).await;
    let said = said.expect("the script ends").unwrap();
    serde_json::from_slice(&said.stdout).expect("the script reports in JSON")
}
