//! Bad input gets the code and the shape that AWS or Kubernetes gives.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, outcome, run},
};

pub(crate) const TESTS: &[Test] = &[
    ("malformed_bodies_are_bad_requests", malformed_bodies_are_bad_requests),
    ("unknown_fields_are_refused_or_warned_of", unknown_fields_are_refused_or_warned_of),
    ("a_bad_signature_is_refused", a_bad_signature_is_refused),
    (
        "test_and_test_is_root_for_root_of_this_machine_alone",
        test_and_test_is_root_for_root_of_this_machine_alone,
    ),
    ("an_unknown_action_or_filter_is_refused", an_unknown_action_or_filter_is_refused),
    ("an_oversized_body_is_refused", an_oversized_body_is_refused),
    ("an_expired_token_is_unauthorized", an_expired_token_is_unauthorized),
    ("a_forged_token_is_unauthorized", a_forged_token_is_unauthorized),
];

/// An HTTP call with the administrator's certificate: status code and body.
fn kube(region: &Region, arguments: &[&str], path: &str) -> anyhow::Result<(String, String)> {
    let config = region.kubectl_json(&["config", "view", "--raw"])?;
    let text = |pointer: &str| {
        config.pointer(pointer).and_then(|it| it.as_str()).map(str::to_owned).context("kubeconfig")
    };
    let folder = tempfile::tempdir()?;
    for (name, pointer) in [
        ("ca", "/clusters/0/cluster/certificate-authority-data"),
        ("cert", "/users/0/user/client-certificate-data"),
        ("key", "/users/0/user/client-key-data"),
    ] {
        let script = format!("echo {} | base64 -d", text(pointer)?);
        let pem = run(Command::new("sh").args(["-c", &script]))?;
        std::fs::write(folder.path().join(name), pem)?;
    }
    let url = format!("{}{path}", text("/clusters/0/cluster/server")?);
    let mut curl = Command::new("curl");
    curl.current_dir(folder.path());
    curl.args(["-s", "-w", "\n%{http_code}", "--cacert", "ca", "--cert", "cert", "--key", "key"]);
    let said = run(curl.args(arguments).arg(url))?;
    let (body, code) = said.rsplit_once('\n').context("a status code")?;
    Ok((code.to_owned(), body.to_owned()))
}

const JSON: &str = "Content-Type: application/json";
const YAML: &str = "Content-Type: application/yaml";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn malformed_bodies_are_bad_requests(region: &Region) -> anyhow::Result<()> {
    for (content, body) in [(JSON, "{\"kind\": "), (YAML, "a: [b")] {
        let (code, said) = kube(region, &["-H", content, "-d", body], MAPS)?;
        ensure!(code == "400", "{content}: {code} {said}");
        let status: serde_json::Value = serde_json::from_str(&said)?;
        ensure!(status["kind"] == "Status" && status["reason"] == "BadRequest", "{status}");
    }
    Ok(())
}

const UNKNOWN: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"odd"},
    "spec":{"containerz":[],"containers":[{"name":"a","image":"busybox:1.35"}]}}"#;

fn unknown_fields_are_refused_or_warned_of(region: &Region) -> anyhow::Result<()> {
    let pods = "/api/v1/namespaces/default/pods?dryRun=All&fieldValidation=";
    let (code, said) = kube(region, &["-H", JSON, "-d", UNKNOWN], &format!("{pods}Strict"))?;
    ensure!(code == "400" && said.contains("unknown field \\\"spec.containerz\\\""), "{said}");
    let (code, said) = kube(region, &["-i", "-H", JSON, "-d", UNKNOWN], &format!("{pods}Warn"))?;
    ensure!(code == "201", "{code} {said}");
    let warning = said.lines().find(|it| it.to_lowercase().starts_with("warning:"));
    ensure!(warning.is_some_and(|it| it.contains("spec.containerz")), "{said}");
    let (code, said) = kube(region, &["-i", "-H", JSON, "-d", UNKNOWN], &format!("{pods}Ignore"))?;
    ensure!(code == "201" && !said.to_lowercase().contains("\nwarning:"), "{said}");
    Ok(())
}

fn a_bad_signature_is_refused(region: &Region) -> anyhow::Result<()> {
    for (service, operation) in
        [("ec2", "describe-vpcs"), ("sts", "get-caller-identity"), ("eks", "list-clusters")]
    {
        let mut command = region.client("aws", &[service, operation]);
        let (succeeded, said) = outcome(command.env("AWS_SECRET_ACCESS_KEY", "wrong"))?;
        let code = if service == "ec2" { "AuthFailure" } else { "SignatureDoesNotMatch" };
        let code = if service == "eks" { "InvalidSignatureException" } else { code };
        ensure!(!succeeded && said.contains(code), "{service}: {said}");
        let mut command = region.client("aws", &[service, operation]);
        let (succeeded, said) = outcome(command.env("AWS_ACCESS_KEY_ID", "AKIANOTTHERE0000000"))?;
        let code = match service {
            "ec2" => "AuthFailure",
            "eks" => "UnrecognizedClientException",
            _ => "InvalidClientTokenId",
        };
        ensure!(!succeeded && said.contains(code), "{service}: {said}");
    }
    Ok(())
}

/// The pair that other emulators take.
fn test_and_test_is_root_for_root_of_this_machine_alone(region: &Region) -> anyhow::Result<()> {
    let asked = ["aws", "sts", "get-caller-identity"];
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let with_pair = |mut command: Command| {
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        outcome(command.env("HOME", "/tmp"))
    };
    let (succeeded, said) = with_pair(region.client(asked[0], &asked[1..]))?;
    ensure!(succeeded && said.contains(":root"), "{said}");
    let curl = ["curl", "-sS", "--aws-sigv4", "aws:amz:us-east-1:sts", "-u", "test:test"];
    let url = format!(
        "{}/?Action=GetCallerIdentity&Version=2011-06-15",
        region.export("AWS_ENDPOINT_URL")
    );
    let command = [&as_nobody[..], &curl, &[&url]].concat();
    let (_, said) = outcome(&mut region.client("setpriv", &command))?;
    ensure!(said.contains("InvalidClientTokenId"), "{said}");
    Ok(())
}

fn an_unknown_action_or_filter_is_refused(region: &Region) -> anyhow::Result<()> {
    let filter = ["ec2", "describe-vpcs", "--filters", "Name=no-such,Values=a"];
    let (succeeded, said) = outcome(&mut region.client("aws", &filter))?;
    ensure!(!succeeded && said.contains("InvalidParameterValue"), "{said}");
    let unsupported = ["ec2", "describe-fpga-images"];
    let (succeeded, said) = outcome(&mut region.client("aws", &unsupported))?;
    ensure!(!succeeded && said.contains("InvalidAction"), "{said}");
    Ok(())
}

fn an_oversized_body_is_refused(region: &Region) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large");
    std::fs::write(&file, vec![b'a'; 9 << 20])?;
    let from = format!("--from-file={}", file.display());
    let (succeeded, said) =
        outcome(&mut region.client("kubectl", &["create", "configmap", "large", &from]))?;
    let is_told = said.contains("Request entity too large: limit is 3145728");
    ensure!(!succeeded && is_told, "{said}");
    let endpoint = region.export("AWS_ENDPOINT_URL");
    let body = format!("@{}", file.display());
    let code = run(Command::new("curl").args([
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--data-binary",
        &body,
        endpoint,
    ]))?;
    ensure!(code == "413", "{code}");
    Ok(())
}

/// A token of `aws eks get-token`, but signed sixteen minutes ago: it was good for fifteen.
const OLD_TOKEN: &str = r#"
import base64, datetime, os, unittest.mock
import botocore.auth, botocore.session
from botocore.awsrequest import AWSRequest
real = botocore.auth.get_current_datetime
def earlier(*arguments, **named):
    return real(*arguments, **named) - datetime.timedelta(minutes=16)
endpoint = os.environ["AWS_ENDPOINT_URL"]
url = endpoint + "/?Action=GetCallerIdentity&Version=2011-06-15"
request = AWSRequest("GET", url, headers={"x-k8s-aws-id": "stead"})
credentials = botocore.session.Session().get_credentials()
region = os.environ.get("AWS_REGION", "us-east-1")
with unittest.mock.patch.object(botocore.auth, "get_current_datetime", earlier):
    botocore.auth.SigV4QueryAuth(credentials, "sts", region, expires=60).add_auth(request)
token = base64.urlsafe_b64encode(request.url.encode()).decode().rstrip("=")
print("k8s-aws-v1." + token)
"#;

fn an_expired_token_is_unauthorized(region: &Region) -> anyhow::Result<()> {
    let now = OLD_TOKEN.replace("minutes=16", "minutes=0");
    for (script, is_good) in [(now.as_str(), true), (OLD_TOKEN, false)] {
        let token = run(&mut region.client("python", &["-c", script]))?;
        let mut command = region.client("kubectl", &["get", "pods", "--token", token.trim()]);
        let config_json = region.kubectl_json(&["config", "view"])?;
        let server = config_json["clusters"][0]["cluster"]["server"].as_str().context("server")?;
        let config = ["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify"];
        let (succeeded, said) = outcome(command.args(config).args(["--server", server]))?;
        ensure!(succeeded == is_good, "{said}");
        ensure!(is_good || said.contains("Unauthorized") || said.contains("logged in"), "{said}");
    }
    Ok(())
}

fn a_forged_token_is_unauthorized(region: &Region) -> anyhow::Result<()> {
    let unsigned = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6YTpiIn0.AAAA";
    for token in [unsigned, "k8s-aws-v1.aHR0cHM6Ly9leGFtcGxlLmNvbS8", "nonsense"] {
        let mut command = region.client("kubectl", &["get", "pods", "--token", token]);
        let config = ["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify"];
        let config_json = region.kubectl_json(&["config", "view"])?;
        let server = config_json["clusters"][0]["cluster"]["server"].as_str().context("server")?;
        let (succeeded, said) = outcome(command.args(config).args(["--server", server]))?;
        let is_refused = said.contains("Unauthorized") || said.contains("must be logged in");
        ensure!(!succeeded && is_refused, "{token}: {said}");
    }
    Ok(())
}
