//! A Service of type LoadBalancer, from this machine's curl to the pods and back to nothing.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] =
    &[("a_load_balancer_leads_from_this_machine_to_pods_and_goes_with_its_service", leads_to_pods)];

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: guestbook-public }
spec:
  type: LoadBalancer
  selector: { app: guestbook }
  ports: [{ name: http, port: 80, targetPort: http }]
"#;

fn leads_to_pods(region: &Region) -> anyhow::Result<()> {
    region.apply(SERVICE)?;
    let result = checked(region);
    region.kubectl(&["delete", "service", "guestbook-public", "--timeout=60s"])?;
    let (name, group, address) = result?;
    let left = region.aws(&["elb", "describe-load-balancers"])?;
    ensure!(left["LoadBalancerDescriptions"].as_array().is_some_and(Vec::is_empty), "{left}");
    ensure!(interfaces(region, &name)?.is_empty(), "its interfaces are still there");
    let describe = ["ec2", "describe-security-groups", "--group-ids", &group];
    let (found, told) = outcome(&mut region.client("aws", &describe))?;
    ensure!(!found && told.contains("InvalidGroup.NotFound"), "{told}");
    let url = format!("http://{address}/");
    let (answers, _) = outcome(&mut region.client("curl", &["-sS", "--max-time", "5", &url]))?;
    ensure!(!answers, "something still listens on {address}");
    Ok(())
}

/// Gives its name, its security group and its address on this machine.
fn checked(region: &Region) -> anyhow::Result<(String, String, String)> {
    let ingress = eventually("the Service shows its load balancer", seconds(30), || {
        let service = region.kubectl_json(&["get", "service", "guestbook-public"])?;
        Ok(service.pointer("/status/loadBalancer/ingress/0").cloned())
    })?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let address = text(&ingress["ip"]).context("an address on this machine")?;
    let hostname = text(&ingress["hostname"]).context("a host name")?;
    let url = format!("http://{address}/");
    eventually("curl on this machine gets the guestbook", seconds(60), || {
        let got = run(&mut region.client("curl", &["-sSf", "--max-time", "5", &url]))?;
        Ok(got.contains("Guestbook on Nodestead").then_some(()))
    })?;
    let found = region.aws(&["elb", "describe-load-balancers"])?;
    let found = &found["LoadBalancerDescriptions"][0];
    ensure!(found["DNSName"] == hostname.as_str(), "{found}");
    let name = text(&found["LoadBalancerName"]).context("a name")?;
    let group = text(&found["SecurityGroups"][0]).context("a security group")?;
    ensure!(interfaces(region, &name)?.len() == 3, "one interface per zone");
    let shown = run(&mut nodestead(&region.data_dir, &["status"]))?;
    ensure!(shown.contains(&format!("http://{address}")), "{shown}");
    inside(region, &format!("http://{hostname}/"))?;
    Ok((name, group, address))
}

/// In the cluster its name leads to it.
fn inside(region: &Region, url: &str) -> anyhow::Result<()> {
    let wget = ["--image=busybox:1.35", "--", "wget", "-qO-", url];
    region.kubectl(&[&["run", "inside", "--restart=Never"][..], &wget].concat())?;
    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    region.kubectl(&["wait", ended, "pod/inside", "--timeout=60s"])?;
    let got = region.kubectl(&["logs", "inside"])?;
    region.kubectl(&["delete", "pod", "inside", "--now"])?;
    ensure!(got.contains("Guestbook on Nodestead"), "{got}");
    Ok(())
}

fn interfaces(region: &Region, name: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("Name=description,Values=ELB {name}");
    let found = region.aws(&["ec2", "describe-network-interfaces", "--filters", &filter])?;
    Ok(strings(&found["NetworkInterfaces"], "/NetworkInterfaceId"))
}
