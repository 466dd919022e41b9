//! An unmodified boto3: paginators, waiters, and errors as classes.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    NotRun, Test,
    region::{Region, outcome, run},
};

pub(crate) const TESTS: &[Test] = &[
    ("boto3_goes_through_pages", boto3_goes_through_pages),
    ("boto3s_waiters_end", boto3s_waiters_end),
    ("boto3_makes_classes_of_errors", boto3_makes_classes_of_errors),
    ("boto3_gets_the_answers_of_its_models", boto3_gets_the_answers_of_its_models),
];

/// Runs a script in the region's environment; it says `done` when everything was as it should be.
fn script(region: &Region, text: &str) -> anyhow::Result<()> {
    if !outcome(Command::new("python").args(["-c", "import boto3"])).is_ok_and(|it| it.0) {
        return Err(NotRun("`python` has no boto3 (make tools)".to_owned()).into());
    }
    let said = run(&mut region.client("python", &["-c", text]))?;
    ensure!(said.trim().ends_with("done"), "{said}");
    Ok(())
}

fn boto3_goes_through_pages(region: &Region) -> anyhow::Result<()> {
    script(region, PAGES)
}

const PAGES: &str = r#"
import boto3
ec2, eks = boto3.client("ec2"), boto3.client("eks")

def ids(pages):
    return sorted(i["InstanceId"] for p in pages for r in p["Reservations"] for i in r["Instances"])

pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
assert ids(pages) == ids([ec2.describe_instances()]) != []

size = {"PageSize": 5, "MaxItems": 12}
pages = list(ec2.get_paginator("describe_instance_types").paginate(PaginationConfig=size))
types = [t["InstanceType"] for p in pages for t in p["InstanceTypes"]]
assert len(pages) == 3 and len(set(types)) == 12, (len(pages), types)

pages = eks.get_paginator("list_nodegroups").paginate(
    clusterName="stead", PaginationConfig={"PageSize": 1})
assert "default" in [g for p in pages for g in p["nodegroups"]]
print("done")
"#;

fn boto3s_waiters_end(region: &Region) -> anyhow::Result<()> {
    script(region, WAITERS)
}

const WAITERS: &str = r#"
import boto3, botocore.exceptions
ec2, eks = boto3.client("ec2"), boto3.client("eks")
soon = {"Delay": 1, "MaxAttempts": 60}

eks.get_waiter("cluster_active").wait(name="stead", WaiterConfig=soon)
group = {"clusterName": "stead", "nodegroupName": "default"}
eks.get_waiter("nodegroup_active").wait(**group, WaiterConfig=soon)
only = [{"Name": "instance-state-name", "Values": ["running"]}]
found = ec2.describe_instances(Filters=only)["Reservations"]
found = [i["InstanceId"] for r in found for i in r["Instances"]]
ec2.get_waiter("instance_running").wait(InstanceIds=found, WaiterConfig=soon)
eks.get_waiter("nodegroup_deleted").wait(
    clusterName="stead", nodegroupName="none", WaiterConfig=soon)
try:
    ec2.get_waiter("instance_terminated").wait(
        InstanceIds=found[:1], WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    raise SystemExit("it was told that a running instance is terminated")
except botocore.exceptions.WaiterError as error:
    assert "Max attempts exceeded" in str(error), error
print("done")
"#;

fn boto3_makes_classes_of_errors(region: &Region) -> anyhow::Result<()> {
    script(region, ERRORS)
}

const ERRORS: &str = r#"
import boto3, botocore.exceptions
ec2, eks, iam = boto3.client("ec2"), boto3.client("eks"), boto3.client("iam")

def told(error, call, **arguments):
    try:
        call(**arguments)
    except error as raised:
        return raised.response
    raise SystemExit(f"{call} did not fail")

it = told(eks.exceptions.ResourceNotFoundException, eks.describe_nodegroup,
          clusterName="stead", nodegroupName="none")
assert it["Error"]["Code"] == "ResourceNotFoundException", it
assert it["ResponseMetadata"]["HTTPStatusCode"] == 404, it
assert "No node group found for name: none" in it["Error"]["Message"], it
# Members of the error's own shape.
assert (it["clusterName"], it["nodegroupName"]) == ("stead", "none"), it
told(eks.exceptions.ResourceNotFoundException, eks.describe_cluster, name="none")
role = "arn:aws:iam::111122223333:role/none"
told(eks.exceptions.InvalidParameterException, eks.create_nodegroup,
     clusterName="stead", nodegroupName="new", subnets=["subnet-0"], nodeRole=role)
it = told(botocore.exceptions.ClientError, ec2.describe_instances,
          InstanceIds=["i-0123456789abcdef0"])
assert it["Error"]["Code"] == "InvalidInstanceID.NotFound", it
it = told(iam.exceptions.NoSuchEntityException, iam.get_role, RoleName="none")
assert it["Error"]["Type"] == "Sender", it
print("done")
"#;

/// Every operation, as in the contract test of the services alone, of a region with hosts, networks
/// and control planes behind it.
fn boto3_gets_the_answers_of_its_models(region: &Region) -> anyhow::Result<()> {
    script(region, "print('done')")?;
    region.import(&[("etc/motd", "contract")])?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let main = root.join("test/contract/main.py");
    let mut client = region.client("python", &["-B", &main.to_string_lossy()]);
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let operations = serde_json::to_string(&operations(&root.join("docs/aws.md"))?)?;
    child.stdin.take().context("no standard input")?.write_all(operations.as_bytes())?;
    let said = child.wait_with_output()?;
    let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let wrong = said["wrong"].as_array().context("no list of what was wrong")?;
    ensure!(wrong.is_empty(), "{}", serde_json::to_string_pretty(wrong)?);
    Ok(())
}

/// What the documentation says is served, by service.
fn operations(document: &Path) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let text = std::fs::read_to_string(document)?;
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut service = String::new();
    let word = |it: &str| it.split(' ').next().unwrap_or_default().to_owned();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            service = word(name);
        } else if let Some(name) = line.strip_prefix("- ") {
            found.entry(service.clone()).or_default().push(word(name));
        }
    }
    Ok(found)
}
