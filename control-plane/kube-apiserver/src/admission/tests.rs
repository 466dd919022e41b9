//! What must hold of `admission`.

use serde_json::json;

use super::*;
use crate::authz::testing::Memory;

fn objects() -> Memory {
    let memory = Memory::default();
    memory.put("namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
    memory.put(
        "namespaces",
        json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    memory.put("serviceaccounts", json!({"metadata": {"namespace": "ns", "name": "default"}}));
    memory
}

async fn try_admit(
    memory: Memory,
    user: &UserInfo,
    method: &str,
    path: &str,
    old: Option<&Value>,
    mut new: Value,
) -> Result<Value, Status> {
    let memory = Arc::new(memory);
    let authorizer = Authorizer::new(Handle(memory.clone()));
    let context = Context::new(Handle(memory), authorizer, Place::Here);
    let info = RequestInfo::parse(&method.parse().unwrap(), path, "");
    let operation = match method {
        "POST" => Operation::Create,
        "DELETE" => Operation::Delete,
        _ => Operation::Update,
    };
    let attributes = Attributes { operation, user, info: &info, old };
    run(&context, &attributes, &mut new).await.map(|()| new)
}

/// All plugins but webhooks.
async fn run(
    context: &Context,
    attributes: &Attributes<'_>,
    new: &mut Value,
) -> Result<(), Status> {
    let mut watch = context.measures.watch(Step::Admit, attributes.operation);
    change(context, attributes, new, &mut watch).await?;
    check(context, attributes, new, &mut watch).await?;
    resource_quota::check(&*context.objects, attributes, new, jiff::Timestamp::UNIX_EPOCH)
}

struct Handle(Arc<Memory>);

impl Objects for Handle {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(resource, namespace, name)
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.0.list(resource, namespace)
    }

    fn revision(&self, resource: &str) -> u64 {
        self.0.revision(resource)
    }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})
}

const PODS: &str = "/api/v1/namespaces/ns/pods";

#[tokio::test]
async fn a_pod_gets_its_account_its_token_its_priority_and_its_tolerations() {
    let bob = UserInfo::new("bob", &[]);
    let made = try_admit(objects(), &bob, "POST", PODS, None, pod()).await.unwrap();
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == "kube-api-access-12345".len());
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = json!({
        "name": name, "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    });
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
}

#[tokio::test]
async fn a_pod_that_wants_no_token_gets_none() {
    let mut pod = pod();
    pod["spec"]["automountServiceAccountToken"] = false.into();
    let bob = UserInfo::new("bob", &[]);
    let made = try_admit(objects(), &bob, "POST", PODS, None, pod).await.unwrap();
    assert!(made["spec"].get("volumes").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_an_unknown_account_is_refused_in_upstreams_words() {
    let mut pod = pod();
    pod["spec"]["serviceAccountName"] = "nobody".into();
    let bob = UserInfo::new("bob", &[]);
    let refused = try_admit(objects(), &bob, "POST", PODS, None, pod).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: error looking up service account ns/nobody: serviceaccount \
         \"nobody\" not found"
    );
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_missing_or_going() {
    let bob = UserInfo::new("bob", &[]);
    let thing = || json!({"metadata": {"name": "x"}});
    let path = "/api/v1/namespaces/none/configmaps";
    let missing = try_admit(objects(), &bob, "POST", path, None, thing()).await.unwrap_err();
    assert_eq!((missing.code.as_u16(), &*missing.message), (404, "namespaces \"none\" not found"));
    let path = "/api/v1/namespaces/going/configmaps";
    let going = try_admit(objects(), &bob, "POST", path, None, thing()).await.unwrap_err();
    assert_eq!(
        going.message,
        "configmaps \"x\" is forbidden: unable to create new content in namespace going because \
         it is being terminated"
    );
    assert_eq!(going.details["causes"][0]["reason"], "NamespaceTerminating");
    let update = try_admit(objects(), &bob, "PUT", &format!("{path}/x"), None, thing()).await;
    assert!(update.is_ok());
}

#[tokio::test]
async fn the_system_namespaces_stay() {
    let admin = UserInfo::master("admin");
    for name in ["default", "kube-system", "kube-public"] {
        let path = format!("/api/v1/namespaces/{name}");
        let object = json!({"metadata": {"name": name}});
        let refused = try_admit(objects(), &admin, "DELETE", &path, None, object).await;
        assert!(refused.unwrap_err().message.ends_with("this namespace may not be deleted"));
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let memory = objects();
    let grant = |memory: &Memory, name: &str, rules: Value| {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        memory.put("clusterroles.rbac.authorization.k8s.io", role);
    };
    grant(&memory, "root", json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
    grant(
        &memory,
        "limited",
        json!([{"verbs": ["create", "update"], "apiGroups": ["rbac.authorization.k8s.io"],
                "resources": ["clusterroles", "clusterrolebindings"]},
               {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
    );
    memory.put(
        "clusterrolebindings.rbac.authorization.k8s.io",
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "limited"},
               "subjects": [{"kind": "User", "name": "bob"}]}),
    );
    let memory = Arc::new(memory);
    let authorizer = Authorizer::new(Handle(memory.clone()));
    let context = Context::new(Handle(memory), authorizer, Place::Here);
    let bob = UserInfo::new("bob", &[]);
    let create = async |resource: &str, mut object: Value| {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{resource}");
        let info = RequestInfo::parse(&http::Method::POST, &path, "");
        let (operation, user) = (Operation::Create, &bob);
        let attributes = Attributes { operation, user, info: &info, old: None };
        run(&context, &attributes, &mut object).await
    };
    let rule =
        |resource: &str| json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
    let role = |rules: Value| json!({"metadata": {"name": "r"}, "rules": rules});
    assert!(create("clusterroles", role(rule("pods"))).await.is_ok());
    let refused = create("clusterroles", role(rule("secrets"))).await.unwrap_err();
    assert_eq!(
        refused.message,
        "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"bob\" \
         (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
         held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    let binding = |role: &str| {
        json!({"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "User", "name": "bob"}]})
    };
    assert_eq!(create("clusterrolebindings", binding("root")).await.unwrap_err().code, 403);
    assert!(create("clusterrolebindings", binding("limited")).await.is_ok());
    let aggregate = json!({"metadata": {"name": "r"}, "aggregationRule": {
        "clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    assert_eq!(create("clusterroles", aggregate).await.unwrap_err().code, 403);
}

#[tokio::test]
async fn a_signing_request_is_of_whoever_sent_it() {
    let object = json!({"metadata": {"name": "c"}, "spec": {
        "signerName": "example.com/x", "username": "system:node:other", "groups": ["system:masters"],
        "extra": {"a": ["b"]}, "uid": "1",
    }});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let bob = UserInfo::new("bob", &[]);
    let made = try_admit(objects(), &bob, "POST", path, None, object).await.unwrap();
    let spec = json!({
        "signerName": "example.com/x", "username": "bob", "groups": ["system:authenticated"],
    });
    assert_eq!(made["spec"], spec);
}

#[tokio::test]
async fn a_signing_request_is_approved_only_by_those_who_may_for_its_signer() {
    let stored = json!({"metadata": {"name": "c"}, "spec": {"signerName": "example.com/x"}});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval";
    let bob = UserInfo::new("bob", &[]);
    let tried = try_admit(objects(), &bob, "PUT", path, Some(&stored), stored.clone()).await;
    assert_eq!(
        tried.unwrap_err().message,
        "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to \
         approve requests with signerName \"example.com/x\""
    );
}

#[tokio::test]
async fn a_trust_bundle_of_a_signer_is_written_only_by_those_who_attest_for_it() {
    let path = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
    let bob = UserInfo::new("bob", &[]);
    let bundle = |signer: &str, content: &str| json!({"metadata": {"name": "b"}, "spec": {"signerName": signer, "trustBundle": content}});
    let of = bundle("example.com/x", "a");
    let refused = try_admit(objects(), &bob, "POST", path, None, of.clone()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "clustertrustbundles.certificates.k8s.io \"b\" is forbidden: user not permitted to attest \
         for signerName \"example.com/x\""
    );
    // One of no signer is anybody's.
    assert!(try_admit(objects(), &bob, "POST", path, None, bundle("", "a")).await.is_ok());
    let granted = || {
        let memory = objects();
        let rules = json!([{"verbs": ["attest"], "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"], "resourceNames": ["example.com/*"]}]);
        let role = json!({"metadata": {"name": "attester"}, "rules": rules});
        memory.put("clusterroles.rbac.authorization.k8s.io", role);
        memory.put(
            "clusterrolebindings.rbac.authorization.k8s.io",
            json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "bob"}],
                   "roleRef": {"kind": "ClusterRole", "name": "attester"}}),
        );
        memory
    };
    assert!(try_admit(granted(), &bob, "POST", path, None, of.clone()).await.is_ok());
    let path = format!("{path}/b");
    let changed = bundle("example.com/x", "b");
    let refused = try_admit(objects(), &bob, "PUT", &path, Some(&of), changed).await;
    assert!(refused.unwrap_err().message.contains("user not permitted to attest"));
    let mut kept = of.clone();
    kept["metadata"]["finalizers"] = json!(["example.com/f"]);
    assert!(try_admit(objects(), &bob, "PUT", &path, Some(&of), kept).await.is_ok());
}

fn limited(resources: Value) -> Value {
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

#[tokio::test]
async fn a_limit_range_fills_in_and_bounds() {
    let memory = || {
        let memory = objects();
        let limits = json!([{
            "type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
            "max": {"cpu": "1"}, "min": {"cpu": "50m"},
        }]);
        let metadata = json!({"namespace": "ns", "name": "l"});
        memory.put("limitranges", json!({"metadata": metadata, "spec": {"limits": limits}}));
        memory
    };
    let bob = UserInfo::new("bob", &[]);
    let made = try_admit(memory(), &bob, "POST", PODS, None, pod()).await.unwrap();
    let filled = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], filled);
    let name = made["spec"]["containers"][0]["name"].as_str().unwrap();
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        format!(
            "LimitRanger plugin set: cpu request for container {name}; cpu limit for container \
             {name}"
        )
    );
    let greedy = limited(json!({"limits": {"cpu": "2"}, "requests": {"cpu": "10m"}}));
    let refused = try_admit(memory(), &bob, "POST", PODS, None, greedy).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, \
         maximum cpu usage per Container is 1, but limit is 2]"
    );
}

#[tokio::test]
async fn a_quota_is_full_at_its_limit_and_not_before() {
    let memory = |used: &str| {
        let memory = objects();
        let metadata = json!({"namespace": "ns", "name": "q"});
        let hard = json!({"pods": "2", "requests.cpu": "1"});
        memory.put("resourcequotas", json!({"metadata": metadata, "spec": {"hard": hard}}));
        let mut other = limited(json!({"requests": {"cpu": used}}));
        other["metadata"] = json!({"namespace": "ns", "name": "other"});
        memory.put("pods", other);
        memory
    };
    let bob = UserInfo::new("bob", &[]);
    let half = || limited(json!({"requests": {"cpu": "500m"}}));
    assert!(try_admit(memory("500m"), &bob, "POST", PODS, None, half()).await.is_ok());
    let refused = try_admit(memory("501m"), &bob, "POST", PODS, None, half()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: \
         requests.cpu=501m, limited: requests.cpu=1"
    );
    let open = try_admit(memory("1m"), &bob, "POST", PODS, None, pod()).await.unwrap_err();
    assert_eq!(
        open.message,
        "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
}

#[tokio::test]
async fn a_quota_with_scopes_is_about_pods_that_are_in_them() {
    let memory = || {
        let memory = objects();
        let spec = json!({"hard": {"pods": "0", "services": "0"}, "scopes": ["BestEffort"]});
        let metadata = json!({"namespace": "ns", "name": "q"});
        memory.put("resourcequotas", json!({"metadata": metadata, "spec": spec}));
        memory
    };
    let bob = UserInfo::new("bob", &[]);
    let sized = limited(json!({"requests": {"cpu": "500m"}}));
    assert!(try_admit(memory(), &bob, "POST", PODS, None, sized).await.is_ok());
    let refused = try_admit(memory(), &bob, "POST", PODS, None, pod()).await.unwrap_err();
    assert!(refused.message.contains("exceeded quota: q"), "{}", refused.message);
}

#[tokio::test]
async fn a_pod_is_what_its_runtime_class_says_or_refused() {
    let with_class = || {
        let memory = objects();
        memory.put(
            "runtimeclasses.node.k8s.io",
            json!({
                "metadata": {"name": "small"}, "handler": "runc",
                "overhead": {"podFixed": {"cpu": "10m"}},
                "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]},
            }),
        );
        memory
    };
    let bob = UserInfo::new("bob", &[]);
    let admitted = async |spec: Value| {
        let mut pod = pod();
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        let result = try_admit(with_class(), &bob, "POST", PODS, None, pod).await;
        result.map_err(|it| (it.code.as_u16(), it.message))
    };
    let made = admitted(json!({"runtimeClassName": "small"})).await.unwrap();
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "10m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"a": "b"}));
    assert!(made["spec"]["tolerations"].as_array().unwrap().contains(&json!({"key": "k"})));
    for (spec, why) in [
        (json!({"runtimeClassName": "x"}), "RuntimeClass \"x\" not found"),
        (json!({"overhead": {"cpu": "1"}}), "without corresponding RuntimeClass"),
        (json!({"runtimeClassName": "small", "overhead": {"cpu": "1"}}), "doesn't match"),
        (
            json!({"runtimeClassName": "small", "nodeSelector": {"a": "c"}}),
            "conflict: runtimeClass",
        ),
    ] {
        let (code, message) = admitted(spec).await.unwrap_err();
        assert!(code == 403 && message.contains(why), "{code} {message}");
    }
}

#[tokio::test]
async fn claims_and_volumes_are_protected_and_claims_get_the_youngest_default_class() {
    let claim = || json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {}});
    let user = UserInfo::new("eve", &[]);
    let path = "/api/v1/namespaces/ns/persistentvolumeclaims";
    let made = try_admit(objects(), &user, "POST", path, None, claim()).await.unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert!(made["spec"].get("storageClassName").is_none(), "there is no class");
    let with_classes = || {
        let memory = objects();
        for (name, made, is_default) in [("a", 1, "true"), ("b", 2, "true"), ("c", 3, "false")] {
            memory.put(
                "storageclasses.storage.k8s.io",
                json!({"metadata": {
                    "name": name, "creationTimestamp": format!("2026-01-0{made}T00:00:00Z"),
                    "annotations": {"storageclass.kubernetes.io/is-default-class": is_default},
                }}),
            );
        }
        memory
    };
    let made = try_admit(with_classes(), &user, "POST", path, None, claim()).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "b");
    let mut without = claim();
    without["spec"]["storageClassName"] = "".into();
    let made = try_admit(with_classes(), &user, "POST", path, None, without).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "");
    let volume = json!({"metadata": {"name": "v"}, "spec": {}});
    let path = "/api/v1/persistentvolumes";
    let made = try_admit(objects(), &user, "POST", path, None, volume).await.unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
}

#[tokio::test]
async fn a_class_of_volume_attributes_is_protected_from_its_first_moment_on() {
    let class = json!({"metadata": {"name": "gold"}, "driverName": "d"});
    let path = "/apis/storage.k8s.io/v1/volumeattributesclasses";
    let user = UserInfo::new("eve", &[]);
    let made = try_admit(objects(), &user, "POST", path, None, class).await.unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
}

#[tokio::test]
async fn a_claim_grows_only_when_it_is_bound_and_its_class_allows_it() {
    let claim = |size: &str, class: &str, phase: &str| {
        json!({
            "metadata": {"name": "c", "namespace": "ns"}, "status": {"phase": phase},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
        })
    };
    let path = "/api/v1/namespaces/ns/persistentvolumeclaims/c";
    let grown = async |class: &str, phase: &str, size: &str| {
        let memory = objects();
        for (name, allows) in [("grows", true), ("fixed", false)] {
            let class = json!({"metadata": {"name": name}, "allowVolumeExpansion": allows});
            memory.put("storageclasses.storage.k8s.io", class);
        }
        let (old, new) = (claim("1Gi", class, phase), claim(size, class, phase));
        let user = UserInfo::new("eve", &[]);
        let result = try_admit(memory, &user, "PUT", path, Some(&old), new).await;
        result.map(drop).map_err(|status| status.message)
    };
    assert_eq!(grown("grows", "Bound", "2Gi").await, Ok(()));
    assert_eq!(grown("fixed", "Bound", "1024Mi").await, Ok(()), "the same size");
    let why = grown("grows", "Pending", "2Gi").await.unwrap_err();
    assert!(why.ends_with("Only bound persistent volume claims can be expanded"), "{why}");
    for class in ["fixed", "", "unknown"] {
        let why = grown(class, "Bound", "2Gi").await.unwrap_err();
        assert!(why.contains("only dynamically provisioned pvc can be resized"), "{why}");
    }
}

#[tokio::test]
async fn a_claim_outside_of_the_bounds_of_its_namespace_is_refused() {
    let claim = |size: &str| {
        json!({"metadata": {"name": "c", "namespace": "ns"},
            "spec": {"resources": {"requests": {"storage": size}}}})
    };
    let asked = async |size: &str| {
        let memory = objects();
        let limits = json!([{"type": "PersistentVolumeClaim",
            "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
        let metadata = json!({"namespace": "ns", "name": "l"});
        memory.put("limitranges", json!({"metadata": metadata, "spec": {"limits": limits}}));
        let path = "/api/v1/namespaces/ns/persistentvolumeclaims";
        let user = UserInfo::new("eve", &[]);
        let made = try_admit(memory, &user, "POST", path, None, claim(size)).await;
        made.map(drop).map_err(|status| status.message)
    };
    assert_eq!(asked("1Gi").await, Ok(()));
    let why = asked("3Gi").await.unwrap_err();
    assert!(
        why.ends_with("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        "{why}"
    );
    assert!(asked("1Mi").await.unwrap_err().contains("minimum storage usage"));
}

#[tokio::test]
async fn a_ratio_that_is_too_large_or_cannot_be_had_is_told() {
    let ratio = async |resources: Value| {
        let memory = objects();
        let limits = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
        let metadata = json!({"name": "r", "namespace": "ns"});
        memory.put("limitranges", json!({"metadata": metadata, "spec": {"limits": limits}}));
        let bob = UserInfo::new("bob", &[]);
        let refused = try_admit(memory, &bob, "POST", PODS, None, limited(resources)).await;
        let status = refused.unwrap_err();
        status.message.split_once("but ").map(|(_, it)| it.to_owned())
    };
    let told = ratio(json!({"limits": {"cpu": "2"}, "requests": {"cpu": "10m"}})).await;
    assert_eq!(told.as_deref(), Some("provided ratio is 200.000000"));
    let told = ratio(json!({"limits": {"cpu": "2"}})).await;
    assert_eq!(told.as_deref(), Some("no request is specified or request is 0"));
}
