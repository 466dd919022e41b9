//! The region's side of an operation.

use std::collections::BTreeMap;

use aws_wire::{Fault, Operation};

use crate::Caller;

/// Serves one operation. A service implements it once per operation, one file each.
pub trait Handle<O: Operation>: Send + Sync + 'static {
    /// What the call touches: each target must be allowed before [`Handle::handle`] is called.
    fn targets(&self, caller: &Caller, request: &O::Request) -> Vec<Target> {
        let _ = (caller, request);
        vec![Target::any()]
    }

    /// A number for all that answers follow from beside the request, where that is known: while it is
    /// the same, an answer may be given again, to whoever asks. It is read before the answer is made.
    fn version(&self) -> Option<u64> {
        None
    }

    /// Whether the call waits for something to come, which only who asked can make use of: it ends
    /// when they go away. Others go on to their end.
    fn waits(&self) -> bool {
        false
    }

    fn handle(
        &self,
        caller: &Caller,
        request: O::Request,
    ) -> impl Future<Output = Result<O::Response, Fault>> + Send;
}

/// One (action, resource, condition keys) that IAM decides on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `None` stands for the operation's own action; `Some("iam:PassRole")` for another one.
    pub action: Option<String>,
    /// An ARN, or `*` for actions without resources.
    pub resource: String,
    /// Condition keys beyond the global ones: `ec2:Vpc`, `aws:RequestTag/team`,
    /// `aws:ResourceTag/team`.
    pub context: BTreeMap<String, Vec<String>>,
    /// What a service says when this is denied, where it hides IAM's words.
    pub refusal: Option<String>,
}

impl Target {
    pub fn any() -> Self {
        Self::resource("*")
    }

    pub fn resource(arn: impl Into<String>) -> Self {
        Self { action: None, resource: arn.into(), context: BTreeMap::new(), refusal: None }
    }

    /// Another action that the call implies.
    pub fn action(action: &str, arn: impl Into<String>) -> Self {
        Self { action: Some(action.to_owned()), ..Self::resource(arn) }
    }

    /// Handing a role to a service: `iam:PassRole` with its condition key.
    pub fn pass_role(role_arn: &str, service: &str) -> Self {
        Self::action("iam:PassRole", role_arn).with("iam:PassedToService", [service.to_owned()])
    }

    /// Denied in the service's own words.
    pub fn refused_as(mut self, message: &str) -> Self {
        self.refusal = Some(message.to_owned());
        self
    }

    pub fn with(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.context.insert(key.to_owned(), values.into_iter().collect());
        self
    }

    /// Sets `prefix/KEY` for each tag (`aws:RequestTag`, `aws:ResourceTag`), and `aws:TagKeys`
    /// for tags of the request.
    pub fn with_tags<'a>(
        mut self,
        prefix: &str,
        tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut keys = Vec::new();
        for (key, value) in tags {
            keys.push(key.to_owned());
            self.context.insert(format!("{prefix}/{key}"), vec![value.to_owned()]);
        }
        if prefix == "aws:RequestTag" && !keys.is_empty() {
            self.context.insert("aws:TagKeys".to_owned(), keys);
        }
        self
    }

    /// The right to give what is made the tags that the request has for it; nothing without tags.
    /// `action` is the one that gives tags alone (`iam:TagRole`), and `arn` what is made.
    ///
    /// Services ask for it on creation, so that who may make a thing cannot give it tags by which
    /// others are decided on.
    pub fn right_to_tag(&self, action: &str, arn: impl Into<String>) -> Option<Self> {
        let is_asked = |it: &str| it == "aws:TagKeys" || it.starts_with("aws:RequestTag/");
        let asked = self.context.iter().filter(|(key, _)| is_asked(key));
        let context: BTreeMap<_, _> = asked.map(|(key, it)| (key.clone(), it.clone())).collect();
        (!context.is_empty()).then(|| Self { context, ..Self::action(action, arn) })
    }

    /// Both: to make something, and to tag it.
    pub fn and_tagging(self, action: &str, arn: impl Into<String>) -> Vec<Self> {
        let tagging = self.right_to_tag(action, arn);
        [self].into_iter().chain(tagging).collect()
    }
}
