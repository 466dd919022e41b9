//! Whether the role that the chain leads to would be given: the provider, then the trust policy.

use iam_policy::{Context, Identity, IdentityKind, Kind, Policies, Request, evaluate};

use super::{
    chain::{Found, State},
    facts::Facts,
};
use crate::iam::{Entity, Iam};

const PODS: &str = "pods.eks.amazonaws.com";

/// Turns a provider that is used into one that fails, if its role does not trust it.
pub(super) async fn check(
    iam: &Iam,
    facts: &Facts,
    namespace: &str,
    found: &mut Found,
) -> anyhow::Result<()> {
    let Some(arn) = found.principal.clone().filter(|it| found.works && it.starts_with("arn:"))
    else {
        return Ok(());
    };
    let account = found.account.clone();
    let subject = format!("system:serviceaccount:{namespace}:{account}");
    let name = arn.rsplit('/').next().unwrap_or_default();
    let refusal = match found.source {
        "web-identity" => {
            let provider = facts.provider();
            let audience = found.audience.clone().unwrap_or_default();
            match iam.audiences(&provider).await? {
                None => Some(format!("the account has no identity provider {provider}")),
                Some(known) if !known.contains(&audience) => {
                    Some(format!("{provider} is not for the audience {audience}"))
                }
                Some(_) => match iam.role(name).await?.filter(|it| it.arn == arn) {
                    None => Some(format!("there is no role {arn}")),
                    Some(role) => {
                        let issuer = facts.issuer.trim_start_matches("https://");
                        let context = Context::new()
                            .with(&format!("{issuer}:sub"), &subject)
                            .with(&format!("{issuer}:aud"), &audience);
                        let kind = IdentityKind::Federated { provider };
                        let action = "sts:AssumeRoleWithWebIdentity";
                        (!trusts(&role, &facts.account, kind, action, &context)?)
                            .then(|| format!("{arn} does not trust {subject}: {action} is refused"))
                    }
                },
            }
        }
        "container" => match iam.role(name).await?.filter(|it| it.arn == arn) {
            None => Some(format!("there is no role {arn}")),
            Some(role) => {
                let kind = || IdentityKind::Service { name: PODS.to_owned() };
                let of_it = (namespace.to_owned(), account.clone());
                let has_tags = facts.associations.get(&of_it).is_none_or(|it| it.has_tags);
                let actions = ["sts:AssumeRole", "sts:TagSession"];
                let context = Context::new()
                    .with("aws:RequestTag/eks-cluster-arn", &facts.cluster_arn)
                    .with("aws:RequestTag/eks-cluster-name", &facts.cluster_name)
                    .with("aws:RequestTag/kubernetes-namespace", namespace)
                    .with("aws:RequestTag/kubernetes-service-account", &account)
                    .with("aws:SourceArn", &facts.cluster_arn)
                    .with("aws:SourceAccount", &facts.account);
                let mut refusal = None;
                for action in actions.into_iter().take(if has_tags { 2 } else { 1 }) {
                    if !trusts(&role, &facts.account, kind(), action, &context)? {
                        let why = format!("{arn} does not trust {PODS}: {action} is refused");
                        refusal.get_or_insert(why);
                    }
                }
                refusal
            }
        },
        _ => None,
    };
    if let Some(why) = refusal {
        found.works = false;
        found.why.clone_from(&why);
        if let Some(step) = found.chain.iter_mut().find(|it| it.state == State::Used) {
            step.state = State::Fails;
            step.detail = why;
        }
    }
    Ok(())
}

fn trusts(
    role: &Entity,
    account: &str,
    kind: IdentityKind,
    action: &str,
    context: &Context,
) -> anyhow::Result<bool> {
    let Some(trust) = &role.trust else { return Ok(false) };
    let policies = Policies {
        resource: Some(trust.named(Kind::Trust)?),
        resource_must_allow: true,
        ..Policies::default()
    };
    let identity = Identity { account: account.to_owned(), kind };
    let request = Request { identity: &identity, action, resource: &role.arn, context };
    Ok(evaluate(&request, &policies).is_allowed())
}
