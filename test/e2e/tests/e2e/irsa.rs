//! IAM Roles for Service Accounts: an unmodified boto3 in a pod acts as the role that its service
//! account names, and what is not that account's token is refused.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    NotRun, Test,
    missing_rights::Group,
    region::{Region, eventually, images, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("boto3_in_a_pod_acts_as_the_role_of_its_service_account", boto3_acts_as_the_role),
    ("a_pod_without_a_role_has_no_credentials", a_pod_without_a_role_has_none),
    ("tokens_that_are_not_the_trusted_accounts_are_refused", other_tokens_are_refused),
    ("the_issuers_pages_are_public_and_hold_the_key_of_a_pods_token", the_issuers_pages),
    ("a_role_that_came_after_the_pod_is_told_as_an_event", a_late_role_is_told),
    ("an_addon_with_a_role_of_its_own_acts_as_it", an_addon_with_a_role),
];

const ACCOUNT: &str = "111122223333";
const NAMESPACE: &str = "irsa";
const ROLE: &str = "irsa-app";
const IMAGE: &str = "nodestead/boto3:v1";

/// `arn:aws:iam::…:role/NAME`
fn arn(role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role}")
}

/// The cluster's issuer, as `DescribeCluster` shows it.
fn issuer(region: &Region) -> anyhow::Result<String> {
    let query = "cluster.identity.oidc.issuer";
    let found = region.aws(&["eks", "describe-cluster", "--name", "stead", "--query", query])?;
    let issuer = found.as_str().context("a cluster has an issuer")?.to_owned();
    ensure!(issuer.starts_with("https://oidc.eks.us-east-1.amazonaws.com/id/"), "{issuer}");
    Ok(issuer)
}

/// Registers the issuer, unless an earlier test has.
fn provider(region: &Region) -> anyhow::Result<String> {
    let issuer = issuer(region)?;
    let bare = issuer.trim_start_matches("https://");
    let arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{bare}");
    let get = ["iam", "get-open-id-connect-provider", "--open-id-connect-provider-arn", &arn];
    if !outcome(&mut region.client("aws", &get))?.0 {
        let create = ["iam", "create-open-id-connect-provider", "--url", &issuer];
        region.aws(&[&create[..], &["--client-id-list", "sts.amazonaws.com"]].concat())?;
    }
    Ok(arn)
}

/// A role that a service account may assume, with one inline policy.
fn role(region: &Region, name: &str, subject: &str, action: &str) -> anyhow::Result<()> {
    let provider = provider(region)?;
    let issuer = issuer(region)?;
    let bare = issuer.trim_start_matches("https://");
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": provider},
        "Condition": {
            "StringLike": {format!("{bare}:sub"): format!("system:serviceaccount:{subject}")},
            "StringEquals": {format!("{bare}:aud"): "sts.amazonaws.com"},
        },
    }]});
    let create = ["iam", "create-role", "--role-name", name, "--assume-role-policy-document"];
    region.aws(&[&create[..], &[&trust.to_string()]].concat())?;
    let policy = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]});
    let put = ["iam", "put-role-policy", "--role-name", name, "--policy-name", "what-it-may"];
    region.aws(&[&put[..], &["--policy-document", &policy.to_string()]].concat())?;
    Ok(())
}

fn account(name: &str, role: Option<&str>) -> String {
    let mut account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE}});
    if let Some(role) = role {
        account["metadata"]["annotations"] = json!({"eks.amazonaws.com/role-arn": role});
    }
    format!("{account}\n")
}

/// A pod that waits to be told what to run.
fn pod(name: &str, account: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}]},
    });
    format!("{pod}\n")
}

/// The namespace with the account `app`, which has a role, and `plain`, which has none; a pod of each
/// that runs. Made by whichever test comes first.
fn bed(region: &Region) -> anyhow::Result<()> {
    let has_image = std::fs::read_dir(images())?
        .flatten()
        .any(|it| it.file_name().to_string_lossy().starts_with("boto3-"));
    if !has_image {
        return Err(NotRun("there is no image of boto3: run `make tools images`".into()).into());
    }
    if outcome(&mut region.client("kubectl", &["get", "namespace", NAMESPACE]))?.0 {
        return Ok(());
    }
    role(region, ROLE, "irsa:app", "ec2:DescribeInstances")?;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let accounts = [account("app", Some(&arn(ROLE))), account("plain", None)].concat();
    region.apply(&format!("{namespace}\n{accounts}"))?;
    region.apply(&[pod("app", "app"), pod("plain", "plain")].concat())?;
    let wait = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/app", "pod/plain"];
    region.kubectl(&[&wait[..], &["--timeout=120s"]].concat())?;
    Ok(())
}

/// What a program in a pod of the namespace prints.
fn python(region: &Region, pod: &str, program: &str) -> anyhow::Result<String> {
    let exec = ["exec", "-n", NAMESPACE, pod, "--", "python3", "-c", program];
    Ok(region.kubectl(&exec)?.trim().to_owned())
}

fn boto3_acts_as_the_role(region: &Region) -> anyhow::Result<()> {
    bed(region)?;
    let who = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    let who = python(region, "app", who)?;
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/botocore-session-");
    ensure!(who.starts_with(&session), "{who}");
    let may = "import boto3; print(len(boto3.client('ec2').describe_instances()['Reservations']))";
    let count: usize = python(region, "app", may)?.parse()?;
    ensure!(count >= 1, "{count} reservations");
    let may_not = "
import boto3, botocore.exceptions
try:
    boto3.client('ec2').describe_vpcs()
    print('allowed')
except botocore.exceptions.ClientError as error:
    print(error.response['Error']['Code'], error.response['Error']['Message'])
";
    let refused = python(region, "app", may_not)?;
    ensure!(refused.starts_with("UnauthorizedOperation"), "{refused}");
    ensure!(refused.contains(&format!("assumed-role/{ROLE}/")), "{refused}");
    Ok(())
}

/// In the node's own network, where its metadata is one hop away.
fn host_network_pod(name: &str, node: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "plain", "nodeName": node, "hostNetwork": true,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}]},
    });
    format!("{pod}\n")
}

/// On a node whose metadata service is out of pods' reach: nothing else gives them anything. Those in
/// the node's own network reach it, and without the tokens all do.
fn a_pod_without_a_role_has_none(region: &Region) -> anyhow::Result<()> {
    bed(region)?;
    let pod = region.kubectl_json(&["get", "pod", "-n", NAMESPACE, "plain"])?;
    let name = pod["spec"]["nodeName"].as_str().context("a node")?.to_owned();
    region.apply(&host_network_pod("host", &name))?;
    let wait = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/host", "--timeout=120s"];
    region.kubectl(&wait)?;
    let node = region.kubectl_json(&["get", "node", &name])?;
    let instance = node["spec"]["providerID"].as_str().context("a provider id")?;
    let instance = instance.rsplit('/').next().context("an instance")?.to_owned();
    let options = |tokens: &str, limit: &str| {
        let change = ["ec2", "modify-instance-metadata-options", "--instance-id", &instance];
        let limits = ["--http-tokens", tokens, "--http-put-response-hop-limit", limit];
        region.aws(&[&change[..], &limits].concat())
    };
    let whose = "
import boto3
found = boto3.Session().get_credentials()
print('none' if found is None else found.method)
";
    // What it could do as long as it gets there.
    let said = python(region, "plain", whose)?;
    ensure!(said == "iam-role", "{said}");
    let becomes = |pod: &str, expected: &str| {
        eventually(&format!("{pod} has credentials of: {expected}"), seconds(60), || {
            let said = python(region, pod, whose)?;
            Ok((said == expected).then_some(()))
        })
    };
    options("required", "1")?;
    let out_of_reach = becomes("plain", "none").and_then(|()| becomes("host", "iam-role"));
    // Version 1 asks for no token, and its answers come as far as others.
    let without_tokens = options("optional", "1").and_then(|_| becomes("plain", "iam-role"));
    options("required", "2")?;
    region.kubectl(&["delete", "pod", "-n", NAMESPACE, "host", "--now"])?;
    out_of_reach.and(without_tokens)
}

/// Calls STS with a token, as anybody could who has stolen it; says what it answered.
fn assume(region: &Region, token: &str) -> anyhow::Result<(bool, String)> {
    let call = ["sts", "assume-role-with-web-identity", "--role-session-name", "thief"];
    let role = arn(ROLE);
    let with = ["--role-arn", &role, "--web-identity-token", token];
    outcome(&mut region.client("aws", &[&call[..], &with].concat()))
}

fn token(region: &Region, account: &str, more: &[&str]) -> anyhow::Result<String> {
    let create = ["create", "token", account, "-n", NAMESPACE];
    Ok(region.kubectl(&[&create[..], more].concat())?.trim().to_owned())
}

fn other_tokens_are_refused(region: &Region) -> anyhow::Result<()> {
    bed(region)?;
    let for_sts = ["--audience", "sts.amazonaws.com"];
    let good = token(region, "app", &for_sts)?;
    let (is_given, said) = assume(region, &good)?;
    ensure!(is_given && said.contains("SessionToken"), "{said}");
    let parts: Vec<&str> = good.split('.').collect();
    let other = token(region, "plain", &for_sts)?;
    let claims = other.split('.').nth(1).context("claims")?;
    let tampered = format!("{}.{claims}.{}", parts[0], parts[2]);
    let not_authorized = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    for (token, code, message) in [
        (token(region, "app", &["--audience", "vault"])?, "InvalidIdentityToken", "audience"),
        // What is in the pod's default volume: for the API server.
        (token(region, "app", &[])?, "InvalidIdentityToken", "Incorrect token audience"),
        (other, "AccessDenied", not_authorized),
        (tampered, "InvalidIdentityToken", "Couldn't retrieve verification key"),
        ("not.a.token".to_owned(), "InvalidIdentityToken", "is not a valid JWT"),
    ] {
        let (is_given, said) = assume(region, &token)?;
        ensure!(!is_given && said.contains(code) && said.contains(message), "{code}: {said}");
    }
    // Without its provider the account trusts nobody's tokens.
    let arn = provider(region)?;
    let delete = ["iam", "delete-open-id-connect-provider", "--open-id-connect-provider-arn", &arn];
    region.aws(&delete)?;
    let (is_given, said) = assume(region, &good)?;
    provider(region)?;
    ensure!(!is_given && said.contains("No OpenIDConnect provider found"), "{said}");
    Ok(())
}

fn the_issuers_pages(region: &Region) -> anyhow::Result<()> {
    bed(region)?;
    // From inside of the VPC, by name and over TLS.
    let program = "
import base64, json, os, ssl, urllib.request
def part(index):
    text = open(os.environ['AWS_WEB_IDENTITY_TOKEN_FILE']).read().split('.')[index]
    return json.loads(base64.urlsafe_b64decode(text + '=' * (-len(text) % 4)))
trust = ssl.create_default_context(cafile=os.environ['AWS_CA_BUNDLE'])
def get(url):
    answer = urllib.request.urlopen(url, context=trust, timeout=10)
    return json.load(answer), answer.headers['Cache-Control']
issuer = part(1)['iss']
document, _ = get(issuer + '/.well-known/openid-configuration')
keys, cache = get(document['jwks_uri'])
print(json.dumps({'claims': part(1), 'kid': part(0)['kid'], 'document': document, 'cache': cache,
    'kids': [key['kid'] for key in keys['keys']]}))
";
    let said: Value = serde_json::from_str(&python(region, "app", program)?)?;
    let issuer = issuer(region)?;
    ensure!(said["document"]["issuer"] == issuer && said["claims"]["iss"] == issuer, "{said}");
    ensure!(said["claims"]["aud"] == json!(["sts.amazonaws.com"]), "{said}");
    ensure!(said["claims"]["sub"] == "system:serviceaccount:irsa:app", "{said}");
    ensure!(said["claims"]["kubernetes.io"]["pod"]["name"] == "app", "{said}");
    let kids = said["kids"].as_array().context("keys")?;
    ensure!(kids.contains(&said["kid"]), "{said}");
    ensure!(said["cache"].as_str().is_some_and(|it| it.contains("max-age=")), "{said}");
    // From this machine, by the host's name at the region's port.
    let (_, path) = issuer.split_once("amazonaws.com").context("a path")?;
    let url = format!("{}{path}/keys", region.export("AWS_ENDPOINT_URL"));
    let host = ["-sS", "-f", "-H", "Host: oidc.eks.us-east-1.amazonaws.com", &url];
    let keys: Value = serde_json::from_str(&run(&mut region.client("curl", &host))?)?;
    ensure!(keys["keys"][0]["kty"] == "RSA", "{keys}");
    ensure!(keys["keys"][0].get("d").is_none(), "a private key is public");
    Ok(())
}

fn a_late_role_is_told(region: &Region) -> anyhow::Result<()> {
    bed(region)?;
    let hooks = region.kubectl(&["get", "mutatingwebhookconfigurations"])?;
    ensure!(hooks.contains("pod-identity-webhook"), "{hooks}");
    region.apply(&[account("late", None), pod("late", "late")].concat())?;
    let annotation = format!("eks.amazonaws.com/role-arn={}", arn(ROLE));
    region.kubectl(&["annotate", "serviceaccount", "-n", NAMESPACE, "late", &annotation])?;
    eventually("an event tells that the pod has no credentials", seconds(30), || {
        let about = "involvedObject.name=late";
        let events =
            region.kubectl(&["get", "events", "-n", NAMESPACE, "--field-selector", about])?;
        Ok(events.contains("CredentialsNotInjected").then_some(()))
    })?;
    // A role that is none is told to whoever creates the pod.
    region.apply(&account("typo", Some("irsa-app")))?;
    let mut create = region.client("kubectl", &["run", "typo", "-n", NAMESPACE, "--image", IMAGE]);
    let overrides = json!({"spec": {"serviceAccountName": "typo"}}).to_string();
    let (is_made, said) = outcome(create.args(["--overrides", &overrides]))?;
    ensure!(is_made && said.contains("is not the ARN of an IAM role"), "{said}");
    region.kubectl(&["delete", "pod", "-n", NAMESPACE, "late", "typo", "--now"])?;
    Ok(())
}

/// Its node role has no `AmazonEKS_CNI_Policy`; the CNI's own has.
fn a_node_without_the_policy_is_ready(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &["AmazonEKS_CNI_Policy"], "cni-with-its-role")?;
    let node = group.node()?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=120s", "node", &node];
    region.kubectl(&ready)?;
    group.delete()
}

/// The CNI with a role of its own: its calls are that role's, and the node's rights are not needed.
fn an_addon_with_a_role(region: &Region) -> anyhow::Result<()> {
    provider(region)?;
    role(region, "irsa-cni", "kube-system:aws-node", "ec2:DescribeTags")?;
    let attach = ["iam", "attach-role-policy", "--role-name", "irsa-cni", "--policy-arn"];
    let policy = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy";
    run(&mut region.client("aws", &[&attach[..], &[policy]].concat()))?;
    let update = ["eks", "update-addon", "--cluster-name", "stead", "--addon-name", "vpc-cni"];
    let its = arn("irsa-cni");
    region.aws(&[&update[..], &["--service-account-role-arn", &its]].concat())?;
    let result = eventually("the CNI acts as its role", seconds(180), || {
        let log = run(&mut crate::region::nodestead(&region.data_dir, &["logs", "aws"]))?;
        let is_its = |line: &&str| line.contains("assumed-role/irsa-cni/");
        Ok(log.lines().any(|line| is_its(&line)).then_some(()))
    });
    let without = result.and_then(|()| a_node_without_the_policy_is_ready(region));
    let wait = ["rollout", "status", "-n", "kube-system", "ds/aws-node", "--timeout=180s"];
    let rolled = region.kubectl(&wait);
    // An update that names no role takes it away.
    let settled = eventually("the add-on is active", seconds(120), || {
        let query = "addon.status";
        let describe = ["eks", "describe-addon", "--cluster-name", "stead", "--addon-name"];
        let found = region.aws(&[&describe[..], &["vpc-cni", "--query", query]].concat())?;
        Ok((found == "ACTIVE").then_some(()))
    });
    region.aws(&update)?;
    let forgotten = eventually("the account has no role any more", seconds(60), || {
        let account = region.kubectl_json(&["get", "sa", "-n", "kube-system", "aws-node"])?;
        let role = &account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"];
        Ok(role.is_null().then_some(()))
    });
    region.kubectl(&wait)?;
    without.and(rolled.map(drop)).and(settled).and(forgotten)
}
