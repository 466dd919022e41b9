//! `nodestead explain access`: IAM's decision on one request, with the statement that makes it.
//!
//! The policies are read through the APIs of IAM and of the service that keeps a resource policy, and
//! decided on here by the same function that decides at the gateway, so it works for any region.
//!
//! Deviation: the policies that a session was limited to cannot be read; they are named as unknown.

use std::collections::BTreeSet;

use aws_ecr::policy::{GetRepositoryPolicy, GetRepositoryPolicyRequest};
use aws_wire::Client;
use clock::Clock;
use iam_policy::{
    Context, Decision, Identity, IdentityKind, Kind, Layer, Policies, Request, Verdict, actions,
    evaluate, layers,
};
use serde::Serialize;
use serde_json::Value;

use super::{REGION_LIMIT, plain_table, whose, within};
use crate::{
    admin::{Admin, DaemonStatus},
    cli::ExplainAccess,
    failure::Failure,
    iam::{Document, Entity, Iam},
    layout::Layout,
    region,
};

/// What needs no permission, and nobody can deny.
const FREE: [&str; 2] = ["sts:getcalleridentity", "sts:getsessiontoken"];

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    principal: String,
    action: String,
    resource: String,
    is_allowed: bool,
    /// `allowed`, `explicitDeny` or `implicitDeny`, as the policy simulator says.
    decision: &'static str,
    reason: String,
    /// The statement that decided; none did where nothing allows, or for the root user.
    statement: Option<Statement>,
    layers: Vec<Said>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    policy: String,
    sid: Option<String>,
    /// Its place in the policy, from 0.
    index: usize,
    text: Value,
}

/// What one layer of policies says by itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    layer: &'static str,
    says: &'static str,
    policy: Option<String>,
    statement: Option<String>,
}

/// Everything that the decision is made of.
struct Known {
    /// The ARN or the service that was meant.
    principal: String,
    identity: Identity,
    policies: Policies,
    documents: Vec<Document>,
    /// Keys and values, for they are asked for by name too.
    context: Vec<(String, Vec<String>)>,
    notes: Vec<String>,
}

pub(super) async fn run(args: &ExplainAccess) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let known = within(REGION_LIMIT, "the region", ask(&layout, args)).await?;
    args.output.print(&explain(known, args), rendered)
}

async fn ask(layout: &Layout, args: &ExplainAccess) -> anyhow::Result<Known> {
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let client = region::client(layout, &status)?;
    gather(&client, &status, args).await
}

async fn gather(
    client: &Client,
    status: &DaemonStatus,
    args: &ExplainAccess,
) -> anyhow::Result<Known> {
    let iam = Iam::new(client.clone());
    let arn = whose::arn(&iam, &args.principal).await?;
    let mut known = principal(&iam, &arn).await?;
    known.principal = arn;
    let set = |context: &mut Vec<(String, Vec<String>)>, key: &str, value: &str| {
        context.push((key.to_owned(), vec![value.to_owned()]));
    };
    set(&mut known.context, "aws:RequestedRegion", &status.region);
    set(&mut known.context, "aws:CurrentTime", &Clock::system().now().to_string());
    let is_service = matches!(known.identity.kind, IdentityKind::Service { .. });
    if !is_service && known.identity.account != status.account {
        known.notes.push(format!(
            "the region's account is {}: nobody of another can sign in here",
            status.account
        ));
    }
    known.context.extend(args.context.iter().cloned());
    resource_policy(client, &iam, args, &mut known).await?;
    Ok(known)
}

/// Who it is, with policies.
async fn principal(iam: &Iam, arn: &str) -> anyhow::Result<Known> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let account = parts.get(4).copied().unwrap_or_default().to_owned();
    let resource: Vec<&str> = parts.get(5).copied().unwrap_or_default().split('/').collect();
    let plain = |kind| Known::new(Identity { account: account.clone(), kind }, None);
    Ok(match (parts.get(2).copied(), resource.as_slice()) {
        (None, _) => plain(IdentityKind::Service { name: arn.to_owned() }),
        (Some("iam"), ["root"]) => plain(IdentityKind::Root),
        (Some("iam"), ["user", .., name]) => {
            let user = iam.user(name).await?.filter(|it| it.arn == arn);
            let user = user.ok_or_else(|| nobody("user", arn))?;
            let kind = IdentityKind::User { arn: arn.to_owned(), id: user.id.clone() };
            let mut known = Known::of(Identity { account, kind }, &user)?;
            known.context.push(("aws:username".to_owned(), vec![(*name).to_owned()]));
            known.context.push(("aws:userid".to_owned(), vec![user.id]));
            known
        }
        (Some("iam"), ["role", .., name]) => {
            let role = iam.role(name).await?.filter(|it| it.arn == arn);
            let role = role.ok_or_else(|| nobody("role", arn))?;
            // Some session of it: none is named by a policy that names the role.
            let session = format!("arn:aws:sts::{account}:assumed-role/{name}/*");
            of_role(account, &role, &session)?
        }
        (Some("sts"), ["assumed-role", name, session]) => {
            let role = iam.role(name).await?.ok_or_else(|| nobody("role", name))?;
            let mut known = of_role(account, &role, arn)?;
            let id = format!("{}:{session}", role.id);
            known.context.push(("aws:userid".to_owned(), vec![id]));
            known.notes.push(
                "the policies that this session was limited to, and its own tags, are not known"
                    .to_owned(),
            );
            known
        }
        _ => {
            return Err(Failure::usage(
                format!("`{arn}` is nobody who can call"),
                "name a user, a role, a session of a role, or the root user",
            )
            .into());
        }
    })
}

fn of_role(account: String, role: &Entity, session_arn: &str) -> anyhow::Result<Known> {
    let kind = IdentityKind::Session {
        role_arn: role.arn.clone(),
        role_id: role.id.clone(),
        session_arn: session_arn.to_owned(),
    };
    Known::of(Identity { account, kind }, role)
}

pub(super) fn nobody(kind: &str, arn: &str) -> Failure {
    Failure::new(
        format!("there is no {kind} `{arn}`"),
        format!("list them with `aws iam list-{kind}s`"),
    )
}

impl Known {
    fn new(identity: Identity, arn: Option<&str>) -> Self {
        let kind = match &identity.kind {
            IdentityKind::Root => "Account",
            IdentityKind::User { .. } => "User",
            IdentityKind::Session { .. } => "AssumedRole",
            _ => "AWSService",
        };
        let is_service = matches!(identity.kind, IdentityKind::Service { .. });
        let mut context = vec![
            ("aws:PrincipalType".to_owned(), vec![kind.to_owned()]),
            ("aws:PrincipalIsAWSService".to_owned(), vec![is_service.to_string()]),
        ];
        if !is_service {
            context.push(("aws:PrincipalAccount".to_owned(), vec![identity.account.clone()]));
        }
        if let Some(arn) = arn {
            context.push(("aws:PrincipalArn".to_owned(), vec![arn.to_owned()]));
        }
        Self {
            principal: arn.unwrap_or_default().to_owned(),
            identity,
            policies: Policies::default(),
            documents: Vec::new(),
            context,
            notes: Vec::new(),
        }
    }

    fn of(identity: Identity, entity: &Entity) -> anyhow::Result<Self> {
        let mut known = Self::new(identity, Some(&entity.arn));
        known.policies = entity.policies()?;
        known.documents = entity.documents.iter().chain(&entity.boundary).cloned().collect();
        let tags = entity.tags.iter();
        known.context.extend(
            tags.map(|(key, value)| (format!("aws:PrincipalTag/{key}"), vec![value.clone()])),
        );
        Ok(known)
    }
}

/// The trust policy of a role that is to be assumed; the policy of a repository.
async fn resource_policy(
    client: &Client,
    iam: &Iam,
    args: &ExplainAccess,
    known: &mut Known,
) -> anyhow::Result<()> {
    let (service, _) = args.action.split_once(':').unwrap_or_default();
    let name = args.resource.rsplit('/').next().unwrap_or_default();
    let found = match service.to_ascii_lowercase().as_str() {
        "sts" if args.resource.contains(":role/") => {
            let role = iam.role(name).await?.filter(|it| it.arn == args.resource);
            known.policies.resource_must_allow = true;
            let role = role.ok_or_else(|| nobody("role", &args.resource))?;
            role.trust.map(|it| (it, Kind::Trust))
        }
        "ecr" if args.resource.contains(":repository/") => {
            let (_, name) = args.resource.split_once(":repository/").unwrap_or_default();
            let repository_name = name.to_owned();
            let request = GetRepositoryPolicyRequest { repository_name, ..Default::default() };
            match client.call::<GetRepositoryPolicy>(request).await {
                Ok(it) => {
                    let name = format!("the policy of {}", args.resource);
                    Some((Document { name, text: it.policy_text }, Kind::Resource))
                }
                Err(error) if error.is("RepositoryPolicyNotFoundException") => None,
                Err(error) if error.is("RepositoryNotFoundException") => {
                    known.notes.push("there is no such repository".to_owned());
                    None
                }
                Err(error) => return Err(error.into()),
            }
        }
        _ => None,
    };
    if let Some((document, kind)) = found {
        known.policies.resource = Some(document.named(kind)?);
        known.documents.push(document);
    }
    Ok(())
}

fn explain(mut known: Known, args: &ExplainAccess) -> Explanation {
    let mut context = Context::new();
    for (key, values) in &known.context {
        context.set_all(key, values.clone());
    }
    let request = Request {
        identity: &known.identity,
        action: &args.action,
        resource: &args.resource,
        context: &context,
    };
    let decision = evaluate(&request, &known.policies);
    let said = layers(&request, &known.policies).iter().map(said).collect();
    let missing = missing(&known);
    if !missing.is_empty() {
        known.notes.push(format!(
            "policies read {}, which this request does not have: give them with --context",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    known.notes.extend(unfit(&args.action, &args.resource));
    let is_free = FREE.contains(&args.action.to_ascii_lowercase().as_str());
    let (verdict, reason) = match (is_free, &known.identity.kind) {
        (true, _) => {
            (Verdict::Allowed, "because it needs no permission and cannot be denied".to_owned())
        }
        (false, IdentityKind::Root) if decision.deciding.is_none() && decision.is_allowed() => {
            (decision.verdict, "because the root user may do everything".to_owned())
        }
        (false, _) if decision.is_allowed() => (
            decision.verdict,
            format!("because a statement of its {} allows it", layer(decision.layer)),
        ),
        (false, _) => (decision.verdict, decision.reason(&args.action)),
    };
    Explanation {
        principal: known.principal,
        action: args.action.clone(),
        resource: args.resource.clone(),
        is_allowed: verdict == Verdict::Allowed,
        decision: match verdict {
            Verdict::Allowed => "allowed",
            Verdict::ExplicitDeny => "explicitDeny",
            Verdict::ImplicitDeny => "implicitDeny",
        },
        reason,
        statement: statement(&decision, &known.documents).filter(|_| !is_free),
        layers: said,
        notes: known.notes,
    }
}

/// Why nothing would be decided on this resource, if the action does not take it.
fn unfit(action: &str, resource: &str) -> Option<String> {
    let Some(known) = actions::find(action) else {
        return Some(format!("{action} is no action of this region"));
    };
    if known.takes(resource) {
        return None;
    }
    Some(match known.resources.as_slice() {
        [] => format!("{} names no resource: it is decided on `*`", known.action),
        types => format!(
            "{} is decided on each of: {}; `{resource}` is none of them",
            known.action,
            types.join(", ")
        ),
    })
}

/// The keys that policies read and nobody has given, in lower case.
fn missing(known: &Known) -> BTreeSet<String> {
    let all = known.policies.identity.iter().chain(&known.policies.boundary);
    let all = all.chain(&known.policies.resource);
    let keys = all.flat_map(|it| it.policy.context_keys()).map(str::to_ascii_lowercase);
    keys.filter(|key| !known.context.iter().any(|(it, _)| it.eq_ignore_ascii_case(key))).collect()
}

fn said(decision: &Decision) -> Said {
    let deciding = decision.deciding.as_ref();
    Said {
        layer: layer(decision.layer),
        says: match decision.verdict {
            Verdict::Allowed => "allows",
            Verdict::ExplicitDeny => "denies",
            Verdict::ImplicitDeny => "nothing",
        },
        policy: deciding.map(|it| it.policy.clone()),
        statement: deciding.map(|it| it.sid.clone().unwrap_or_else(|| it.index.to_string())),
    }
}

fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::Identity => "identity policies",
        Layer::Boundary => "permissions boundary",
        Layer::Session => "session policies",
        Layer::Resource => "resource policy",
    }
}

fn statement(decision: &Decision, documents: &[Document]) -> Option<Statement> {
    let it = decision.deciding.as_ref()?;
    let document = documents.iter().find(|document| document.name == it.policy)?;
    Some(Statement {
        policy: it.policy.clone(),
        sid: it.sid.clone(),
        index: it.index,
        text: document.statements().get(it.index).cloned().unwrap_or_default(),
    })
}

fn rendered(it: &Explanation) -> String {
    let word = if it.is_allowed { "may" } else { "may not" };
    let mut text = format!("{} {word} {} on {}\n", it.principal, it.action, it.resource);
    text += &format!("  {}\n", it.reason);
    if let Some(statement) = &it.statement {
        let name = match &statement.sid {
            Some(sid) => format!("`{sid}`"),
            None => format!("number {}", statement.index + 1),
        };
        text +=
            &format!("\nThe statement is {name} of {}:\n  {}\n", statement.policy, statement.text);
    }
    if !it.layers.is_empty() {
        let mut table = plain_table();
        table.set_header(["LAYER", "SAYS", "POLICY", "STATEMENT"]);
        for said in &it.layers {
            let shown = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".to_owned());
            table.add_row([
                said.layer.to_owned(),
                said.says.to_owned(),
                shown(&said.policy),
                shown(&said.statement),
            ]);
        }
        text += &format!("\n{}\n", table.trim_fmt());
    }
    for note in &it.notes {
        text += &format!("\nNote: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command, ExplainCommand};

    const NODE: &str = "arn:aws:iam::111122223333:role/node";

    fn args(action: &str, more: &[&str]) -> ExplainAccess {
        let line = ["nodestead", "explain", "access", "--principal", NODE, "--action", action];
        let cli = Cli::try_parse_from(line.iter().chain(more)).unwrap();
        match cli.command {
            Command::Explain { command: ExplainCommand::Access(args) } => args,
            other => panic!("{other:?}"),
        }
    }

    fn node(statements: Value) -> Known {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let entity = Entity {
            arn: NODE.to_owned(),
            id: "AROANODE".to_owned(),
            tags: vec![("team".to_owned(), "red".to_owned())],
            documents: vec![Document { name: "own".to_owned(), text }],
            boundary: None,
            trust: None,
        };
        let session = "arn:aws:sts::111122223333:assumed-role/node/*";
        of_role("111122223333".to_owned(), &entity, session).unwrap()
    }

    #[test]
    fn the_statement_that_decides_is_shown_as_it_is_written() {
        let statement = json!({"Sid": "No", "Effect": "Deny", "Action": "ec2:*", "Resource": "*"});
        let known = node(json!([
            {"Effect": "Allow", "Action": "*", "Resource": "*"}, statement,
        ]));
        let found = explain(known, &args("ec2:RunInstances", &[]));
        assert_eq!((found.decision, found.is_allowed), ("explicitDeny", false));
        let decided = found.statement.as_ref().unwrap();
        assert_eq!((decided.policy.as_str(), decided.index), ("own", 1));
        assert_eq!(decided.text, statement);
        let text = rendered(&found);
        assert!(text.contains("may not ec2:RunInstances"), "{text}");
        assert!(text.contains("`No` of own"), "{text}");
    }

    #[test]
    fn what_nothing_allows_has_no_statement_and_keys_that_are_missing_are_named() {
        let known = node(json!({
            "Effect": "Allow", "Action": "ec2:*", "Resource": "*",
            "Condition": {"StringEquals": {"ec2:ResourceTag/team": "${aws:PrincipalTag/team}"}},
        }));
        let on = ["--resource", "arn:aws:ec2:us-east-1:111122223333:instance/i-1"];
        let found = explain(known, &args("ec2:StopInstances", &on));
        assert_eq!((found.decision, found.statement.is_none()), ("implicitDeny", true));
        let [note] = &found.notes[..] else { panic!("{:?}", found.notes) };
        assert!(note.contains("ec2:resourcetag/team") && !note.contains("principaltag"), "{note}");
    }

    #[test]
    fn a_key_that_is_given_counts() {
        let known = || {
            let mut known = node(json!({
                "Effect": "Allow", "Action": "ec2:*", "Resource": "*",
                "Condition": {"StringEquals": {"ec2:ResourceTag/team": "${aws:PrincipalTag/team}"}},
            }));
            known.context.push(("ec2:ResourceTag/team".to_owned(), vec!["red".to_owned()]));
            known
        };
        let on = ["--resource", "arn:aws:ec2:us-east-1:111122223333:instance/i-1"];
        let found = explain(known(), &args("ec2:StopInstances", &on));
        assert_eq!((found.decision, found.notes.len()), ("allowed", 0), "{:?}", found.notes);
        assert_eq!(found.layers[0].says, "allows");
    }

    #[test]
    fn a_resource_that_the_action_is_not_decided_on_is_said() {
        let on = |action: &str, resource: &str| unfit(action, resource).unwrap_or_default();
        assert_eq!(on("ec2:DescribeVpcs", "*"), "");
        assert!(on("ec2:DescribeVpcs", NODE).contains("decided on `*`"));
        assert!(on("ec2:StopInstances", "*").contains("instance"));
        assert!(on("ec2:Nonsense", "*").contains("no action"));
    }

    #[test]
    fn everybody_may_ask_who_they_are() {
        let known = node(json!({"Effect": "Deny", "Action": "*", "Resource": "*"}));
        let found = explain(known, &args("sts:GetCallerIdentity", &[]));
        assert!(found.is_allowed && found.statement.is_none(), "{found:?}");
    }

    #[test]
    fn what_is_no_principal_action_or_resource_is_wrong_usage() {
        for wrong in [
            ["a/bob", "ec2:RunInstances", "*"],
            ["arn:aws:s3:::bucket", "ec2:RunInstances", "*"],
            [NODE, "RunInstances", "*"],
            [NODE, "ec2:*", "*"],
            [NODE, "ec2:RunInstances", "i-1"],
        ] {
            let [principal, action, resource] = wrong;
            let line = [
                "nodestead",
                "explain",
                "access",
                "--principal",
                principal,
                "--action",
                action,
                "--resource",
                resource,
            ];
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        let given = args("ec2:RunInstances", &["--context", "aws:TagKeys=a,b"]);
        assert_eq!(
            given.context,
            [("aws:TagKeys".to_owned(), vec!["a".to_owned(), "b".to_owned()])]
        );
    }
}
