//! An admission webhook as users install one: a pod behind a Service, with a certificate of its own.
//!
//! nginx answers, since its image is there: what it says is fixed but for the review's uid.

use std::{fs, path::Path, process::Command};

use anyhow::ensure;

use crate::{
    Test,
    region::{Region, eventually, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[(
    "a_webhook_in_a_pod_refuses_what_its_rules_name_and_is_missed_when_it_is_gone",
    a_webhook_in_a_pod_refuses_what_its_rules_name_and_is_missed_when_it_is_gone,
)];

const SERVER: &str = r#"
user www-data www-data;
worker_processes 1;
pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 64; }
http {
  access_log /dev/stdout;
  client_body_temp_path /tmp/body;
  fastcgi_temp_path /tmp/fastcgi;
  proxy_temp_path /tmp/proxy;
  scgi_temp_path /tmp/scgi;
  uwsgi_temp_path /tmp/uwsgi;
  map $request_body $uid { default ''; '~"resource":\{[^}]*\},"uid":"(?<it>[^"]+)"' $it; }
  server {
    listen 8443 ssl;
    ssl_certificate /tls/tls.crt;
    ssl_certificate_key /tls/tls.key;
    client_body_buffer_size 1m;
    location / { proxy_pass http://127.0.0.1:8081; proxy_set_header X-Uid $uid; }
  }
  server {
    listen 127.0.0.1:8081;
    default_type application/json;
    location / {
      return 200 '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"$http_x_uid","allowed":false,"status":{"code":403,"message":"not on a Friday"}}}';
    }
  }
}
"#;

const PROGRAM: &str = "
apiVersion: v1
kind: Service
metadata: {name: gate}
spec: {selector: {app: gate}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gate}
spec:
  selector: {matchLabels: {app: gate}}
  template:
    metadata: {labels: {app: gate}}
    spec:
      containers:
        - name: nginx
          image: nginx:1.22
          args: [nginx, -c, /etc/gate/nginx.conf, -g, daemon off;]
          readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
          volumeMounts:
            - {name: tls, mountPath: /tls}
            - {name: conf, mountPath: /etc/gate}
      volumes:
        - {name: tls, secret: {secretName: gate}}
        - {name: conf, configMap: {name: gate}}
";

fn a_webhook_in_a_pod_refuses_what_its_rules_name_and_is_missed_when_it_is_gone(
    region: &Region,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let bundle = certificate(folder.path())?;
    install(region, folder.path())?;
    region.apply(&configuration(&bundle))?;

    let gated = ["create", "configmap", "gated", "--from-literal=a=b"];
    eventually("the webhook refuses", seconds(20), || {
        let (is_made, said) = outcome(&mut region.client("kubectl", &gated))?;
        ensure!(!is_made, "it was made");
        let told = "admission webhook \"gate.example.com\" denied the request: not on a Friday";
        Ok(said.contains(told).then_some(()))
    })?;
    // What no rule names is not asked about.
    region.kubectl(&["create", "secret", "generic", "not-gated", "--from-literal=a=b"])?;

    region.kubectl(&["scale", "deployment", "gate", "--replicas=0"])?;
    eventually("nobody answers", seconds(60), || {
        let (is_made, said) = outcome(&mut region.client("kubectl", &gated))?;
        ensure!(!is_made, "it was made");
        let told = "failed calling webhook \"gate.example.com\"";
        Ok((said.contains(told) && said.contains("no endpoints available")).then_some(()))
    })?;
    region.kubectl(&["delete", "validatingwebhookconfiguration", "gate"])?;
    region.kubectl(&gated)?;
    region.kubectl(&["delete", "configmap", "gated", "gate"])?;
    region.kubectl(&["delete", "secret", "not-gated", "gate"])?;
    region.kubectl(&["delete", "deployment,service", "gate"]).map(drop)
}

/// A certificate that vouches for itself; base64 of it, as `caBundle` wants it.
fn certificate(folder: &Path) -> anyhow::Result<String> {
    let (key, certificate) = (folder.join("tls.key"), folder.join("tls.crt"));
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=gate", "-addext", "subjectAltName=DNS:gate.default.svc"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate))?;
    run(Command::new("base64").arg("-w0").arg(&certificate))
}

fn install(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(file("nginx.conf"), SERVER)?;
    let (certificate, key) = (file("tls.crt"), file("tls.key"));
    let secret = ["create", "secret", "tls", "gate", "--cert", &certificate, "--key", &key];
    region.kubectl(&secret)?;
    let from = format!("--from-file={}", file("nginx.conf"));
    region.kubectl(&["create", "configmap", "gate", &from])?;
    region.apply(PROGRAM)?;
    region.kubectl(&["rollout", "status", "deployment/gate", "--timeout=60s"]).map(drop)
}

fn configuration(bundle: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: gate}}
webhooks:
  - name: gate.example.com
    clientConfig:
      caBundle: {}
      service: {{namespace: default, name: gate, path: /check}}
    rules:
      - {{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}}
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: default}}}}
    sideEffects: None
    timeoutSeconds: 5
    admissionReviewVersions: [v1]
",
        bundle.trim()
    )
}
