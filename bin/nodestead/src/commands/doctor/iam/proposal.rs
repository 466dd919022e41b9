//! The policy that a role's recorded calls need, and what the role may do besides.
//!
//! What was not called in the time of the record is not in it: a proposal is to be read before it is
//! used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::Path,
};

use anyhow::Context;
use iam_policy::{Identity, IdentityKind, Kind, Policies, Request, evaluate};
use jiff::Timestamp;
use region_gateway::{Event, Outcome};
use serde::Serialize;
use serde_json::{Value, json};

use super::node;
use crate::{
    admin::{Admin, DaemonStatus},
    cli::{DoctorIam, Format},
    failure::{Failure, NEXT},
    iam::{Document, Iam},
    layout::Layout,
    progress::Waiting,
    region,
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role: String,
    calls: usize,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    /// Calls that were denied: what it may need and does not have.
    denied: Vec<String>,
    /// A policy document.
    proposal: Value,
    /// Statements of its policies that no recorded call needed, `POLICY STATEMENT`.
    unused: Vec<String>,
}

/// What a role has done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Used {
    calls: usize,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    /// Resources by action.
    allowed: BTreeMap<String, BTreeSet<String>>,
    denied: BTreeSet<String>,
}

pub(super) async fn run(layout: &Layout, args: &DoctorIam, role: &str) -> anyhow::Result<()> {
    let name = role.rsplit('/').next().unwrap_or(role);
    let log = layout.aws_log();
    let files = match &args.log {
        Some(file) => vec![file.clone()],
        None => vec![log.with_extension("1"), log.clone()],
    };
    let waiting = Waiting::new("reading the recorded calls");
    let mut used = Used::default();
    let mut is_read = false;
    for file in &files {
        is_read |= read(file, name, &mut used)?;
    }
    if !is_read {
        let what = format!("no calls are recorded in `{}`", log.display());
        return Err(Failure::new(what, NEXT).into());
    }
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let entity = Iam::new(region::client(layout, &status)?).role(name).await?;
    let entity = entity.ok_or_else(|| {
        Failure::new(format!("there is no role `{name}`"), "list them with `aws iam list-roles`")
    })?;
    let unused = unused(&entity.documents, &used.allowed);
    let answer = Answer {
        role: name.to_owned(),
        calls: used.calls,
        from: used.from,
        to: used.to,
        proposal: policy(&used.allowed),
        denied: used.denied.into_iter().collect(),
        unused,
    };
    drop(waiting);
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => print!("{}", rendered(&answer)?),
    }
    Ok(())
}

/// Whether the file is there. A line that cannot be read is one that is being written, or was when a
/// disk was full: it may end within a character.
fn read(file: &Path, role: &str, used: &mut Used) -> anyhow::Result<bool> {
    let file = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Failure::unreadable(file, &error).into());
        }
        opened => opened.with_context(|| format!("cannot read `{}`", file.display()))?,
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(event) = serde_json::from_slice::<Event>(&line?) {
            used.learn(role, &event);
        }
    }
    Ok(true)
}

impl Used {
    fn learn(&mut self, role: &str, event: &Event) {
        // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
        let resource = event.principal.splitn(6, ':').nth(5).unwrap_or_default();
        let is_of_it = matches!(
            resource.split('/').collect::<Vec<_>>().as_slice(),
            ["assumed-role", name, _] if *name == role
        );
        // What nothing was decided on needs no permission.
        if !is_of_it || event.resources.is_empty() {
            return;
        }
        let own = format!("{}:{}", event.service, event.action);
        let actions = event.resources.iter().enumerate().map(|(index, resource)| {
            (event.actions.get(index).unwrap_or(&own).clone(), resource.clone())
        });
        self.calls += 1;
        self.from = Some(self.from.map_or(event.at, |it| it.min(event.at)));
        self.to = Some(self.to.map_or(event.at, |it| it.max(event.at)));
        match event.decision {
            Outcome::Allowed => {
                for (action, resource) in actions {
                    self.allowed.entry(action).or_default().insert(resource);
                }
            }
            Outcome::Denied => self.denied.extend(actions.map(|(it, on)| format!("{it} on {on}"))),
            Outcome::Refused => {}
        }
    }
}

/// The statements that allow none of these, whatever their conditions say.
fn unused(documents: &[Document], allowed: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let nobody = IdentityKind::User { arn: String::new(), id: String::new() };
    let identity = Identity { account: String::new(), kind: nobody };
    let context = iam_policy::Context::new();
    let is_used = |policies: &Policies| {
        allowed.iter().any(|(action, resources)| {
            resources.iter().any(|resource| {
                let request = Request { identity: &identity, action, resource, context: &context };
                evaluate(&request, policies).is_allowed()
            })
        })
    };
    let mut found = Vec::new();
    for document in documents {
        for (index, mut statement) in document.statements().into_iter().enumerate() {
            if statement["Effect"] != "Allow" {
                continue;
            }
            let name = format!("{} {}", document.name, node::named(&statement, index));
            if let Some(fields) = statement.as_object_mut() {
                fields.remove("Condition");
            }
            let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
            let alone = Document { name: name.clone(), text }.named(Kind::Identity);
            let identity = alone.into_iter().collect();
            if !is_used(&Policies { identity, ..Policies::default() }) {
                found.push(name);
            }
        }
    }
    found
}

/// One statement for each set of resources.
fn policy(allowed: &BTreeMap<String, BTreeSet<String>>) -> Value {
    let mut by_resources: BTreeMap<BTreeSet<String>, Vec<&str>> = BTreeMap::new();
    for (action, resources) in allowed {
        let resources = match resources.contains("*") {
            true => BTreeSet::from(["*".to_owned()]),
            false => resources.clone(),
        };
        by_resources.entry(resources).or_default().push(action);
    }
    let statements: Vec<Value> = by_resources
        .into_iter()
        .map(|(resources, actions)| {
            json!({"Effect": "Allow", "Action": actions, "Resource": resources})
        })
        .collect();
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn rendered(it: &Answer) -> anyhow::Result<String> {
    let since = match (it.from, it.to) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        _ => String::new(),
    };
    let mut text =
        format!("Role {} made {} calls that need a permission{since}.\n", it.role, it.calls);
    if it.calls == 0 {
        return Ok(text + "Nothing can be proposed.\n");
    }
    text += &format!("They need:\n{}\n", serde_json::to_string_pretty(&it.proposal)?);
    for (title, list) in
        [("Denied", &it.denied), ("Statements that allow none of them", &it.unused)]
    {
        if !list.is_empty() {
            text += &format!("{title}:\n");
            list.iter().for_each(|it| text += &format!("  {it}\n"));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, resources: &[&str], actions: &[&str], decision: &str) -> Event {
        serde_json::from_value(json!({
            "at": "2026-11-29T00:00:00Z", "requestId": "r", "service": "ec2", "action": action,
            "principal": "arn:aws:sts::111122223333:assumed-role/app/s", "source": "host",
            "decision": decision, "resources": resources, "actions": actions, "by": "own 0",
            "status": 200, "micros": 1,
        }))
        .unwrap()
    }

    #[test]
    fn a_proposal_has_the_actions_and_resources_of_the_calls_and_no_more() {
        let mut used = Used::default();
        let (a, role) = ("arn:aws:ec2:us-east-1:1:instance/i-1", "arn:aws:iam::1:role/node");
        used.learn("app", &event("StopInstances", &[a], &[], "allowed"));
        used.learn("app", &event("StartInstances", &[a], &[], "allowed"));
        used.learn(
            "app",
            &event("RunInstances", &["*", role], &["ec2:RunInstances", "iam:PassRole"], "allowed"),
        );
        used.learn("app", &event("CreateVpc", &["*"], &[], "denied"));
        used.learn("app", &event("CreateVpc", &["*"], &[], "refused"));
        used.learn("other", &event("DeleteVpc", &["*"], &[], "allowed"));
        used.learn("app", &event("GetCallerIdentity", &[], &[], "allowed"));
        let found = policy(&used.allowed);
        let expected = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["ec2:RunInstances"], "Resource": ["*"]},
            {"Effect": "Allow", "Action": ["ec2:StartInstances", "ec2:StopInstances"], "Resource": [a]},
            {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": [role]},
        ]});
        assert_eq!(found, expected);
        assert_eq!(used.denied, BTreeSet::from(["ec2:CreateVpc on *".to_owned()]));
        assert_eq!(used.calls, 5);
        // It is a policy, and it allows what was done.
        iam_policy::Policy::parse(&found.to_string(), Kind::Identity).unwrap();
    }

    #[test]
    fn a_statement_that_allows_no_recorded_call_is_unused() {
        let text = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "Used", "Effect": "Allow", "Action": "ec2:Stop*", "Resource": "*",
             "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
        ]})
        .to_string();
        let documents = [Document { name: "own".to_owned(), text }];
        let instance = "arn:aws:ec2:us-east-1:1:instance/i-1".to_owned();
        let allowed =
            BTreeMap::from([("ec2:StopInstances".to_owned(), BTreeSet::from([instance]))]);
        assert_eq!(unused(&documents, &allowed), ["own 1"]);
    }

    #[test]
    fn a_damaged_line_and_a_missing_file_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aws.log");
        let mut used = Used::default();
        assert!(!read(&file, "app", &mut used).unwrap());
        let line = serde_json::to_string(&event("CreateVpc", &["*"], &[], "allowed")).unwrap();
        std::fs::write(&file, format!("{line}\n{{\"at\": \"20")).unwrap();
        assert!(read(&file, "app", &mut used).unwrap());
        assert_eq!(used.calls, 1);
    }
}
