//! Who asks, and whether a policy's `Principal` element means them.

/// An authenticated principal, as policies can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    pub kind: IdentityKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    Root,
    User {
        arn: String,
        id: String,
    },
    Session {
        role_arn: String,
        role_id: String,
        session_arn: String,
    },
    Service {
        name: String,
    },
    /// A web identity, before it has a role; `provider` is the OIDC provider's ARN.
    Federated {
        provider: String,
    },
    /// Nobody: no `Principal` element means them here, `*` neither. No resource of this region is
    /// public.
    Anonymous,
}

/// How closely a policy names somebody. It decides whether identity policies still matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    /// Their account: it may give the right on.
    Account,
    /// Their role: boundary and session policies still limit.
    Role,
    /// Exactly them.
    Principal,
}

/// The `Principal` element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principals {
    pub(crate) anyone: bool,
    pub(crate) aws: Vec<String>,
    pub(crate) services: Vec<String>,
    pub(crate) federated: Vec<String>,
}

impl Principals {
    /// How closely the element names `who`; `None`: not at all.
    pub(crate) fn naming(&self, who: &Identity) -> Option<Naming> {
        let by_name = match &who.kind {
            IdentityKind::Service { name } => {
                self.services.iter().any(|it| it == name).then_some(Naming::Principal)
            }
            IdentityKind::Federated { provider } => {
                self.federated.iter().any(|it| it == provider).then_some(Naming::Principal)
            }
            _ => self.aws.iter().filter_map(|it| names(it, who)).max(),
        };
        if self.anyone { Some(Naming::Principal) } else { by_name }
    }
}

fn names(text: &str, who: &Identity) -> Option<Naming> {
    if text == "*" {
        return Some(Naming::Principal);
    }
    let is_account = text == who.account
        || text.strip_suffix(":root").and_then(|it| it.strip_prefix("arn:aws:iam::"))
            == Some(who.account.as_str());
    if is_account {
        return Some(match who.kind {
            IdentityKind::Root => Naming::Principal,
            _ => Naming::Account,
        });
    }
    match &who.kind {
        IdentityKind::User { arn, id } if text == arn || text == id => Some(Naming::Principal),
        IdentityKind::Session { session_arn, .. } if text == session_arn => Some(Naming::Principal),
        IdentityKind::Session { role_arn, role_id, .. } if text == role_arn || text == role_id => {
            Some(Naming::Role)
        }
        _ => None,
    }
}
