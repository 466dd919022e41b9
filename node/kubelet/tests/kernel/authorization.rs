//! Who may ask the kubelet's server for what: tokens and accesses that our API server reviews, and how
//! long its answers hold.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use kubelet::Settings;
use serde_json::{Value, json};
use transport::{HttpClient, Place};

use crate::support::{Bed, LIMIT};

const SECOND: Duration = Duration::from_secs(1);

/// All that the server has, by the subresource of the node that guards it.
const GUARDED: [(&str, &[&str]); 9] = [
    ("stats", &["/stats/summary"]),
    (
        "metrics",
        &["/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes", "/metrics/slis"],
    ),
    ("log", &["/logs/"]),
    ("pods", &["/pods", "/runningpods/"]),
    ("healthz", &["/healthz", "/healthz/ping", "/healthz/syncloop"]),
    ("configz", &["/configz"]),
    ("statusz", &["/statusz"]),
    ("flagz", &["/flagz"]),
    ("proxy", &[]),
];
/// Those that `nodes/proxy` opens, beside what has no word of its own.
const OF_PROXY: [&str; 5] = ["pods", "healthz", "configz", "statusz", "flagz"];

/// As upstream's defaults are: everybody has to say who they are, and the API server decides.
fn webhook(settings: &mut Settings) {
    settings.config.authentication.anonymous.enabled = false;
    settings.config.authentication.webhook.enabled = true;
    settings.config.authorization.mode = "Webhook".to_owned();
}

impl Bed {
    /// What the kubelet's server answers to somebody with this token.
    async fn ask_as(&self, token: Option<&str>, path: &str) -> (u16, String) {
        let tls = transport::tls::client_unverified(None).unwrap();
        let client = HttpClient::new(Place::Here, Some(tls), LIMIT);
        let mut request = http::Request::get(format!("https://127.0.0.1:{}{path}", self.port));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = client.fetch(request.body(transport::empty()).unwrap(), 1 << 22).await.unwrap();
        let status = reply.status().as_u16();
        (status, String::from_utf8(reply.into_body().to_vec()).unwrap())
    }

    async fn account(&self, name: &str) -> String {
        let api = Api::<ServiceAccount>::namespaced(self.client(), self.namespace());
        let account = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        api.create(&PostParams::default(), &account).await.unwrap();
        let spec = Some(TokenRequestSpec::default());
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = api.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        made.status.unwrap().token.unwrap()
    }

    /// A role with one subresource of nodes, bound to a service account.
    async fn grant(&self, account: &str, subresource: &str) {
        let name = format!("{account}-{subresource}");
        let metadata = json!({ "name": name });
        let resource = format!("nodes/{subresource}");
        let rule = json!({ "apiGroups": [""], "resources": [resource], "verbs": ["get"] });
        let role: Value = json!({ "metadata": metadata, "rules": [rule] });
        let subject = json!({
            "kind": "ServiceAccount", "name": account, "namespace": self.namespace(),
        });
        let reference = json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
        });
        let binding = json!({ "metadata": metadata, "subjects": [subject], "roleRef": reference });
        let (role, binding) =
            (serde_json::from_value(role).unwrap(), serde_json::from_value(binding).unwrap());
        let params = PostParams::default();
        Api::<ClusterRole>::all(self.client()).create(&params, &role).await.unwrap();
        Api::<ClusterRoleBinding>::all(self.client()).create(&params, &binding).await.unwrap();
    }

    async fn revoke(&self, account: &str, subresource: &str) {
        let api = Api::<ClusterRoleBinding>::all(self.client());
        let name = format!("{account}-{subresource}");
        drop(api.delete(&name, &DeleteParams::default()).await.unwrap());
    }

    async fn until_serving(&self) {
        let tls = transport::tls::client_unverified(None).unwrap();
        self.eventually(async || {
            let client = HttpClient::new(Place::Here, Some(tls.clone()), LIMIT);
            let uri = format!("https://127.0.0.1:{}/healthz", self.port);
            let request = http::Request::get(uri).body(transport::empty()).unwrap();
            client.fetch(request, 1 << 16).await.ok().map(drop)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_of_the_server_is_open_to_who_may_have_it_and_to_nobody_else() {
    let Some(bed) = Bed::own("guard").await else { return };
    let kubelet = bed.start_kubelet_configured(webhook).await;
    bed.until_serving().await;
    let (status, text) = bed.ask_as(None, "/healthz").await;
    assert_eq!((status, text.as_str()), (401, "Unauthorized"));
    let (status, text) = bed.ask_as(Some("invented"), "/healthz").await;
    assert_eq!((status, text.as_str()), (401, "Unauthorized"));

    let nobody = bed.account("nobody").await;
    let user = format!("system:serviceaccount:{}:nobody", bed.namespace());
    for (path, subresources) in [
        ("/pods", "pods proxy"),
        ("/metrics", "metrics"),
        ("/logs/", "log"),
        ("/exec/ns/p/c", "proxy"),
    ] {
        let (status, text) = bed.ask_as(Some(&nobody), path).await;
        let expected = format!(
            "Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[{subresources}])\n"
        );
        assert_eq!((status, text), (403, expected), "{path}");
    }
    for (subresource, _) in GUARDED {
        let name = format!("of-{subresource}");
        let token = bed.account(&name).await;
        bed.grant(&name, subresource).await;
        for (guard, paths) in GUARDED {
            let is_open =
                guard == subresource || (subresource == "proxy" && OF_PROXY.contains(&guard));
            for path in paths {
                let (status, text) = bed.ask_as(Some(&token), path).await;
                let expected = if is_open { 200 } else { 403 };
                assert_eq!(status, expected, "{subresource} {path}: {text}");
            }
        }
        // What changes something needs more than `get`.
        let (status, _) = bed.ask_as(Some(&token), "/exec/ns/p/c?command=x&output=1").await;
        assert_eq!(status == 403, subresource != "proxy", "{subresource}: {status}");
    }
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_anonymous_where_that_is_allowed_and_may_no_more_than_others() {
    let Some(bed) = Bed::own("anonymous").await else { return };
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            webhook(settings);
            settings.config.authentication.anonymous.enabled = true;
        })
        .await;
    bed.until_serving().await;
    let (status, text) = bed.ask_as(None, "/healthz").await;
    let expected = "Forbidden (user=system:anonymous, verb=get, resource=nodes, subresource(s)=[healthz proxy])\n";
    assert_eq!((status, text.as_str()), (403, expected));
    // Who says who they are and is not believed is nobody, not a stranger.
    assert_eq!(bed.ask_as(Some("invented"), "/healthz").await.0, 401);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_server_said_holds_for_as_long_as_is_configured() {
    let Some(bed) = Bed::own("memory").await else { return };
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            webhook(settings);
            let webhook = &mut settings.config.authorization.webhook;
            webhook.cache_authorized_ttl = kubelet::GoDuration(3 * SECOND);
            webhook.cache_unauthorized_ttl = kubelet::GoDuration(SECOND);
            settings.config.authentication.webhook.cache_ttl = kubelet::GoDuration(3 * SECOND);
        })
        .await;
    bed.until_serving().await;
    let token = bed.account("reader").await;
    let status = async || bed.ask_as(Some(&token), "/pods").await.0;
    assert_eq!(status().await, 403);
    bed.grant("reader", "pods").await;
    assert_eq!(status().await, 403, "a no is remembered");
    tokio::time::sleep(SECOND + SECOND / 5).await;
    assert_eq!(status().await, 200);
    bed.revoke("reader", "pods").await;
    assert_eq!(status().await, 200, "a yes is remembered");
    tokio::time::sleep(3 * SECOND + SECOND / 5).await;
    assert_eq!(status().await, 403);
    // So is who a token belongs to.
    let accounts = Api::<ServiceAccount>::namespaced(bed.client(), bed.namespace());
    drop(accounts.delete("reader", &DeleteParams::default()).await.unwrap());
    tokio::time::sleep(3 * SECOND + SECOND / 5).await;
    assert_eq!(status().await, 401);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_logs_are_asked_for_by_service_file_and_pattern_where_that_is_enabled() {
    let Some(bed) = Bed::own("logquery").await else { return };
    let logs = bed.path("system-logs");
    std::fs::create_dir_all(logs.join("two")).unwrap();
    std::fs::write(logs.join("one.log"), "first\nsecond a\nthird a\n").unwrap();
    std::fs::write(logs.join("two/two.log"), "of two\n").unwrap();
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            settings.config.enable_system_log_query = true;
            settings.system_logs.clone_from(&logs);
        })
        .await;
    bed.until_serving().await;
    let ask = async |query: &str| bed.ask("GET", &format!("/logs/{query}")).await;
    let is = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(ask("?query=one").await, is(200, "first\nsecond a\nthird a\n"));
    assert_eq!(ask("?query=one&query=two").await, is(200, "first\nsecond a\nthird a\nof two\n"));
    assert_eq!(ask("?query=one&pattern=a&tailLines=1").await, is(200, "third a\n"));
    assert_eq!(ask("?query=/two/two.log").await, is(200, "of two\n"));
    assert_eq!(ask("?query=nst-unknown").await, is(200, "\nlog not found for nst-unknown\n"));
    let refused = "query: Invalid value: [\"/one.log\"]: cannot specify file with options\n";
    assert_eq!(ask("?query=/one.log&tailLines=1").await, is(406, refused));
    assert_eq!(ask("one.log?query=one").await, is(406, "path not allowed in query mode\n"));
    let refused = "tailLines: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax\n";
    assert_eq!(ask("?query=one&tailLines=x").await, is(400, refused));
    for outside in ["?query=/../../etc/passwd", "?query=..%2f..%2fetc%2fpasswd"] {
        let (status, text) = ask(outside).await;
        assert!(status >= 400 && !text.contains("root:"), "{outside}: {status}");
    }
    let file = logs.join("none").display().to_string();
    let missing =
        format!("query: Invalid value: [\"/none\"]: stat {file}: no such file or directory\n");
    assert_eq!(ask("?query=/none").await, is(406, &missing));
    let boot = "\noptions present and query resolved to log files for [one two]\ntry without specifying options\n";
    assert_eq!(ask("?query=one&query=two&boot=-1").await, is(200, boot));
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosts_journal_is_asked_for_what_it_has_through_the_api_server_too() {
    use std::os::unix::fs::PermissionsExt;
    let Some(bed) = Bed::own("journal").await else { return };
    let (logs, journalctl) = (bed.path("system-logs"), bed.path("journalctl"));
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("plain.log"), "of a file\n").unwrap();
    // It knows one unit, tells what it was asked, and complains of a boot that was not.
    let script = "#!/bin/sh\n[ \"$*\" = '--field _SYSTEMD_UNIT' ] && echo kubelet.service && exit\n\
                  for it; do echo \"$it\"; done\n\
                  case \"$*\" in *--boot*) echo 'no such boot' >&2; exit 1;; esac\n";
    std::fs::write(&journalctl, script).unwrap();
    std::fs::set_permissions(&journalctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    bed.sign_requests().await;
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            settings.config.enable_system_log_query = true;
            settings.config.server_tls_bootstrap = true;
            settings.system_logs.clone_from(&logs);
            settings.journalctl.clone_from(&journalctl);
        })
        .await;
    let path = format!("/api/v1/nodes/{}/proxy/logs/", bed.node_name());
    let ask = async |query: &str| {
        let request = http::Request::get(format!("{path}{query}")).body(Vec::new()).unwrap();
        bed.client().request_text(request).await
    };
    // The node registers, and gets the certificate that the API server believes.
    bed.eventually(async || ask("?query=kubelet").await.ok()).await;
    let fixed = "--utc\n--no-pager\n--output=short-precise\n";
    assert_eq!(ask("?query=kubelet").await.unwrap(), format!("{fixed}--unit=kubelet\n"));
    let all = "?query=kubelet&tailLines=5&sinceTime=2026-01-02T03:04:05Z&\
               untilTime=2026-01-02T04:00:00Z&pattern=a%20%7C%20b&boot=-7";
    assert_eq!(
        ask(all).await.unwrap(),
        format!(
            "{fixed}--since=2026-1-2 03:4:5\n--until=2026-1-2 04:0:0\n--pager-end\n--lines=5\n--unit=kubelet\n--grep=a | b\n--boot\n-7\nno such boot\n"
        )
    );
    // The others have a file, or nothing.
    assert_eq!(
        ask("?query=plain&query=none&query=kubelet").await.unwrap(),
        format!("{fixed}--unit=kubelet\nof a file\n\nlog not found for none\n")
    );
    let refused = ask("?query=kubelet&pattern=a(").await.unwrap_err().to_string();
    let why = "pattern: Invalid value: \"a(\": error parsing regexp: missing closing ): `a(`";
    assert!(refused.contains(why), "{refused}");
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_gets_a_token_of_the_pods_account_if_its_node_may_ask_for_the_audience() {
    use std::os::unix::fs::PermissionsExt;
    let Some(bed) = Bed::own("audience").await else { return };
    let plugin = bed.path("provider");
    let script = "#!/bin/sh\nq=$(cat)\nprintf '%s\\n' \"$q\" >> \"$0.log\"\nexit 1\n";
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "provider", "matchImages": ["nst.invalid"], "defaultCacheDuration": "1h",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "tokenAttributes": {
                "serviceAccountTokenAudience": "nst-registry", "cacheType": "ServiceAccount",
                "requireServiceAccount": true,
            },
        }],
    });
    let file = bed.path("providers.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let folder = bed.folder().to_owned();
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            settings.credential_provider_config = Some(file);
            settings.credential_provider_bin_dir = Some(folder);
        })
        .await;
    bed.install_cni();
    bed.until_node("True", "").await;
    let create = async |name: &str| {
        let container = json!({ "name": "main", "image": "nst.invalid/x:1" });
        let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
        bed.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        bed.until(name, |it| crate::support::waiting(it).is_some_and(|it| it.contains("Pull")))
            .await;
    };
    create("refused").await;
    let log = bed.path("provider.log");
    assert!(!log.exists(), "its node may not ask for a token for a registry");
    let rule = json!({
        "apiGroups": [""], "resources": ["nst-registry"],
        "verbs": ["request-serviceaccounts-token-audience"],
    });
    let metadata = json!({ "name": "nst-registry" });
    let role = json!({ "metadata": metadata, "rules": [rule] });
    let group = json!({
        "kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io",
    });
    let reference = json!({
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nst-registry",
    });
    let binding = json!({ "metadata": metadata, "subjects": [group], "roleRef": reference });
    bed.create(&Api::<ClusterRole>::all(bed.client()), role).await;
    bed.create(&Api::<ClusterRoleBinding>::all(bed.client()), binding).await;
    create("allowed").await;
    let asked = bed.eventually(async || std::fs::read_to_string(&log).ok()).await;
    let question: Value = serde_json::from_str(asked.lines().next().unwrap()).unwrap();
    let token = question["serviceAccountToken"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(["nst-registry"]));
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:default", bed.namespace()));
    for name in ["refused", "allowed"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    kubelet.kill().await;
}
