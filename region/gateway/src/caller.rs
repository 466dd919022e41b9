//! Who calls, from where: what a handler may rely on, because the gateway has checked it.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use iam_policy::Named;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::Decided;

/// The authenticated principal behind a request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: String,
    /// `arn:aws:iam::ACCOUNT:root`, `…:user/NAME`, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub arn: String,
    /// `AIDA…`, `AROA…:SESSION`, or the account for root.
    pub user_id: String,
    pub access_key_id: String,
    pub kind: CallerKind,
    pub source: Source,
    /// The region of the endpoint that was called.
    pub region: String,
    pub request_id: String,
    pub user_agent: String,
    pub at: Timestamp,
    /// Tags of the user or role, overridden by session tags (`aws:PrincipalTag/…`).
    pub tags: BTreeMap<String, String>,
    /// The policies that the caller's session was limited to; empty: not limited.
    pub session: Vec<Named>,
    /// The condition keys that the caller's session brings along.
    pub session_context: BTreeMap<String, String>,
    /// What the handler of the call has decided itself.
    pub decisions: Decisions,
    /// The resource for which an AWS service calls: a cluster (`aws:SourceArn`).
    pub source_arn: Option<String>,
}

/// An AWS service that calls from within this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internal {
    /// `eks.amazonaws.com`
    pub service: Arc<str>,
    /// For which resource it calls, where one is behind the call.
    pub source_arn: Option<Arc<str>>,
}

/// What a service decides beside the gateway, for the record of the call: where a resource policy
/// has a say, the service alone knows it. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Arc<Mutex<Vec<Decided>>>);

impl Decisions {
    pub fn note(&self, decided: Decided) {
        self.0.lock().push(decided);
    }

    pub fn take(&self) -> Vec<Decided> {
        std::mem::take(&mut self.0.lock())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerKind {
    Root,
    User {
        name: String,
    },
    AssumedRole {
        role_arn: String,
        session: String,
    },
    /// An AWS service that acts for the account: `eks-nodegroup.amazonaws.com`.
    Service(String),
    /// Nobody: only for the few operations that are not signed.
    Anonymous,
}

/// Where the request came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A listener on the host machine.
    Host,
    /// The endpoint as seen inside of a VPC; `address` is the caller's.
    Vpc { vpc_id: String, address: IpAddr },
    /// A component in this process.
    #[default]
    Internal,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Internal => f.write_str("internal"),
            Self::Vpc { vpc_id, address } => write!(f, "{vpc_id} {address}"),
        }
    }
}

impl Caller {
    /// The ARN that names the principal for good: a role's own rather than its session's.
    pub fn principal_arn(&self) -> &str {
        match &self.kind {
            CallerKind::AssumedRole { role_arn, .. } => role_arn,
            _ => &self.arn,
        }
    }

    pub fn is_service(&self) -> bool {
        matches!(self.kind, CallerKind::Service(_))
    }

    /// A service of AWS in this process, for tests and for calls that pass no gateway.
    pub fn service(name: &str, account: &str, region: &str, at: Timestamp) -> Self {
        Self {
            account: account.to_owned(),
            arn: name.to_owned(),
            user_id: name.to_owned(),
            access_key_id: String::new(),
            kind: CallerKind::Service(name.to_owned()),
            source: Source::Internal,
            region: region.to_owned(),
            request_id: entropy::uuid(),
            user_agent: name.to_owned(),
            at,
            tags: BTreeMap::new(),
            session: Vec::new(),
            session_context: BTreeMap::new(),
            decisions: Decisions::default(),
            source_arn: None,
        }
    }

    /// The account's root user, for tests.
    pub fn root(account: &str, region: &str, at: Timestamp) -> Self {
        Self {
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.to_owned(),
            kind: CallerKind::Root,
            source: Source::Host,
            ..Self::service("root", account, region, at)
        }
    }
}
