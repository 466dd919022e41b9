//! Clients that are not ours, on a server that listens: kubectl, and Python's `kubernetes`.
//!
//! The Python client is looked for in `~/.cache/nodestead/venv`, where `make tools` puts it.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Cluster, Upkeep};
use crate::{request::UserInfo, resources::Catalog};

/// A server on a port of this machine, to which everybody is an administrator.
struct Served {
    url: String,
    /// What kubectl remembers and reads.
    folder: TempDir,
    _scope: lifecycle::Scope,
    _cluster: Cluster,
    _upkeep: Upkeep,
}

impl Served {
    async fn start() -> Self {
        let cluster = Cluster::start_with_tokens().await.with_default_account().await;
        let upkeep = cluster.upkeep().await;
        let listener = transport::Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let scope = lifecycle::Scope::new();
        let service = cluster.api.service_as(UserInfo::master("admin"));
        drop(scope.spawn("server", transport::serve(listener, None, service, scope.clone())));
        let folder = tempfile::tempdir().unwrap();
        Self { url, folder, _scope: scope, _cluster: cluster, _upkeep: upkeep }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.arg("--server").arg(&self.url).args(arguments);
        command.env("HOME", self.folder.path()).env_remove("KUBECONFIG");
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command.output().await.unwrap()
    }

    /// What a command that must succeed prints.
    async fn kubectl(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = self.run(&arguments).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {told}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What a command that must fail prints of it.
    async fn refused(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = self.run(&arguments).await;
        assert!(!output.status.success(), "kubectl {line} succeeded");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }

    fn write(&self, name: &str, content: &Value) {
        std::fs::write(self.folder.path().join(name), content.to_string()).unwrap();
    }
}

fn is_there(program: &str) -> bool {
    let is_there = std::process::Command::new(program).arg("--help").output().is_ok();
    if !is_there {
        println!("not run: there is no {program}");
    }
    is_there
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_every_built_in_type_to_its_leaves() {
    if !is_there("kubectl") {
        return;
    }
    let served = Served::start().await;
    let catalog = Catalog::builtin();
    let stored = catalog.all().iter().filter(|it| !it.is_virtual && !it.is_computed);
    let asked = stored.map(|it| {
        let version = it.api_version();
        let line = format!("explain {} --recursive --api-version={version}", it.plural);
        let served = &served;
        async move { (it.kind.clone(), served.kubectl(&line).await) }
    });
    let mut answers = futures::stream::iter(asked).buffer_unordered(4);
    let mut count = 0;
    while let Some((kind, told)) = answers.next().await {
        assert!(told.contains(&format!("KIND:       {kind}\n")), "{kind}: {told}");
        assert!(told.contains("FIELDS:\n"), "{kind}: {told}");
        count += 1;
    }
    assert!(count > 50, "{count}");
    let one = served.kubectl("explain pod.spec.containers.livenessProbe.httpGet.port").await;
    assert!(one.contains("FIELD: port <IntOrString>"), "{one}");
    // Of the older documents kubectl takes protobuf alone.
    let older = "explain --output=plaintext-openapiv2 deployment.spec.replicas";
    let older = served.kubectl(older).await;
    assert!(older.contains("replicas <integer>"), "{older}");
    let none = served.refused("explain pod.spec.conteiners").await;
    assert!(none.contains("field \"conteiners\" does not exist"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_does_what_people_do_with_it() {
    if !is_there("kubectl") {
        return;
    }
    let served = Served::start().await;
    let container = |image: &str| json!({"name": "c", "image": image});
    let deployment = |image: &str| {
        let labels = json!({"app": "a"});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [container(image)]},
            }},
        })
    };
    served.write("d.json", &deployment("x:1"));
    assert_eq!(served.kubectl("apply -f d.json").await, "deployment.apps/d created");
    assert_eq!(served.kubectl("apply -f d.json").await, "deployment.apps/d unchanged");
    let image = "get deployment d -o jsonpath={.spec.template.spec.containers[0].image}";
    served.write("d.json", &deployment("x:2"));
    let difference = served.run(&["diff", "-f", "d.json"]).await;
    assert_eq!(difference.status.code(), Some(1), "{difference:?}");
    let difference = String::from_utf8(difference.stdout).unwrap();
    assert!(difference.contains("+      - image: x:2"), "{difference}");
    assert_eq!(served.kubectl("apply -f d.json").await, "deployment.apps/d configured");
    assert_eq!(served.kubectl(image).await, "x:2");
    served.write("d.json", &deployment("x:4"));
    let conflict = served.refused("apply --server-side --field-manager=other -f d.json").await;
    assert!(conflict.contains("conflict with \"kubectl-client-side-apply\""), "{conflict}");
    let applied = served.kubectl("apply --server-side --force-conflicts -f d.json").await;
    assert_eq!(applied, "deployment.apps/d serverside-applied");
    assert_eq!(served.kubectl(image).await, "x:4");

    served.kubectl("set image deployment/d c=x:3").await;
    assert_eq!(served.kubectl(image).await, "x:3");
    for (kind, patch) in [
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#),
        ("merge", r#"{"spec":{"replicas":3}}"#),
        ("strategic", r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","tty":true}]}}}}"#),
    ] {
        let told = served.kubectl(&format!("patch deployment d --type={kind} -p {patch}")).await;
        assert_eq!(told, "deployment.apps/d patched");
    }
    assert_eq!(served.kubectl(image).await, "x:3", "the container was merged");
    assert_eq!(served.kubectl("scale deployment d --replicas=4").await, "deployment.apps/d scaled");
    let table = served.kubectl("get deployments").await;
    assert!(
        table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nd      0/4"),
        "{table}"
    );
    let wide = served.kubectl("get deployments -o wide --show-labels").await;
    assert!(wide.contains("x:3") && wide.contains("SELECTOR"), "{wide}");
    served.kubectl("label deployment d a=b").await;
    assert_eq!(served.kubectl("get deployments -l a=b -o name").await, "deployment.apps/d");
    served.kubectl("wait --for=jsonpath={.spec.replicas}=4 deployment/d --timeout=10s").await;

    let dry =
        served.kubectl("create configmap m --from-literal=k=v --dry-run=server -o yaml").await;
    assert!(dry.contains("uid: "), "{dry}");
    let missing = served.refused("get configmap m").await;
    assert_eq!(missing, "Error from server (NotFound): configmaps \"m\" not found");
    served.kubectl("create configmap m --from-literal=k=v").await;
    served.write(
        "m.json",
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "daata": {"k": "w"},
        }),
    );
    let strict = served.refused("replace -f m.json").await;
    assert!(strict.contains("strict decoding error: unknown field \"daata\""), "{strict}");
    let kinds = served.kubectl("api-resources --verbs=list --namespaced -o name").await;
    assert!(kinds.lines().any(|it| it == "pods") && kinds.lines().count() > 25, "{kinds}");
    assert_eq!(served.kubectl("auth can-i create pods").await, "yes");
    let token = served.kubectl("create token default").await;
    assert_eq!(token.split('.').count(), 3, "{token}");
    let raw = served.kubectl("get --raw /livez?verbose").await;
    assert!(raw.ends_with("livez check passed"), "{raw}");
    let described = served.kubectl("describe deployment d").await;
    assert!(described.contains("4 desired"), "{described}");
    let gone = served.kubectl("delete deployment/d configmap/m").await;
    assert!(gone.starts_with("deployment.apps \"d\" deleted"), "{gone}");
}

fn python() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let python = Path::new(&home).join(".cache/nodestead/venv/bin/python");
    let mut check = std::process::Command::new(&python);
    let is_there = check.args(["-c", "import kubernetes"]).output().ok()?.status.success();
    is_there.then_some(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_client_does_what_programs_do_with_it() {
    let Some(python) = python() else {
        println!("not run: there is no `kubernetes` in ~/.cache/nodestead/venv");
        return;
    };
    let served = Served::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/clients/main.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&served.url).env_remove("KUBECONFIG").kill_on_drop(true);
    let output = command.output().await.unwrap();
    let (told, wrong) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(told),
        String::from_utf8_lossy(wrong)
    );
}
