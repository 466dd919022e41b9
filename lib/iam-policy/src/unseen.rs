//! Whether a statement may mean, or means all of, a request that is only known in part.
//!
//! **Invariant:** what is not known helps nobody. A denial applies if there is an action, a resource
//! and a value of each unknown key for which it would; a grant only if it would for all of them.

use crate::{
    Context, Effect,
    condition::Condition,
    document::{Listed, Statement},
    pattern,
};

/// `action` is in lower case; `s3:*` stands for any one of its service.
pub(crate) fn applies(
    statement: &Statement,
    action: &str,
    context: &Context,
    variables: bool,
) -> bool {
    let is_denial = statement.effect == Effect::Deny;
    let reaches = |it: &String| if is_denial { meets(it, action) } else { covers(it, action) };
    let spares = |it: &String| if is_denial { covers(it, action) } else { meets(it, action) };
    let is_action = match &statement.actions {
        Listed::In(patterns) => patterns.iter().any(reaches),
        Listed::NotIn(patterns) => !patterns.iter().any(spares),
    };
    let is_any = |patterns: &[String]| patterns.iter().any(|it| it == "*");
    let is_resource = match &statement.resources {
        None => true,
        Some(Listed::In(patterns)) => is_denial || is_any(patterns),
        Some(Listed::NotIn(patterns)) => is_denial && !is_any(patterns),
    };
    let holds = |it: &Condition| {
        if it.keys().any(|key| is_unknown(key, context)) {
            return is_denial;
        }
        it.holds(context, variables, statement.effect)
    };
    is_action && is_resource && statement.conditions.iter().all(holds)
}

/// Keys that say something of the request's content: everything else is known by who asks and how.
const OF_CONTENT: [&str; 5] =
    ["aws:requesttag/", "aws:resourcetag/", "aws:tagkeys", "aws:resource", "aws:calledvia"];

fn is_unknown(key: &str, context: &Context) -> bool {
    let key = key.to_ascii_lowercase();
    let is_of_content = OF_CONTENT.iter().any(|it| key.starts_with(it));
    is_of_content || context.get(&key).is_none() && !key.starts_with("aws:")
}

/// Longer than any name of an action, and of a character that no pattern has.
const LONG: usize = 300;

/// Whether the pattern matches all that `action` may be.
fn covers(pattern: &str, action: &str) -> bool {
    match action.strip_suffix('*') {
        None => pattern::glob(pattern, action),
        Some(service) => {
            let long = format!("{service}{}", "\u{1}".repeat(LONG));
            pattern::glob(pattern, service) && pattern::glob(pattern, &long)
        }
    }
}

/// Whether the pattern matches something that `action` may be.
fn meets(pattern: &str, action: &str) -> bool {
    match action.strip_suffix('*') {
        None => pattern::glob(pattern, action),
        // What is left of a pattern always matches something.
        Some(service) => {
            let ends = pattern.char_indices().map(|(at, _)| at).chain([pattern.len()]);
            ends.into_iter().any(|end| pattern::glob(&pattern[..end], service))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, IdentityKind, Kind, Named, Policies, Policy, Request, evaluate_unseen};

    #[test]
    fn patterns_meet_and_cover_the_actions_of_a_service() {
        for (pattern, meets_it, covers_it) in [
            ("*", true, true),
            ("s3:*", true, true),
            ("s*", true, true),
            ("s3*", true, true),
            ("s3:**", true, true),
            ("s3:getobject", true, false),
            ("s3:get*", true, false),
            ("*:get*", true, false),
            ("*object", true, false),
            ("s3:?", true, false),
            ("s?:*", true, true),
            ("s", false, false),
            ("s3", false, false),
            ("sns:*", false, false),
            ("s3express:*", false, false),
            ("", false, false),
        ] {
            assert_eq!(meets(pattern, "s3:*"), meets_it, "{pattern}");
            assert_eq!(covers(pattern, "s3:*"), covers_it, "{pattern}");
        }
        assert!(meets("s3:get*", "s3:getobject") && covers("s3:get*", "s3:getobject"));
    }

    fn verdict(action: &str, statements: &str) -> &'static str {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        let policy = Policy::parse(&text, Kind::Identity).unwrap();
        let kind = IdentityKind::User { arn: "arn:aws:iam::1:user/u".into(), id: "AIDAU".into() };
        let identity = Identity { account: "1".into(), kind };
        let context = Context::new()
            .with("aws:PrincipalTag/team", "a")
            .with("aws:RequestedRegion", "us-east-1")
            .with("aws:ResourceAccount", "1");
        let request = Request { identity: &identity, action, resource: "*", context: &context };
        let named = Named { name: "p".into(), policy: policy.into() };
        let policies = Policies { identity: vec![named], ..Policies::default() };
        match evaluate_unseen(&request, &policies).verdict {
            crate::Verdict::Allowed => "allowed",
            crate::Verdict::ExplicitDeny => "denied",
            crate::Verdict::ImplicitDeny => "implicit",
        }
    }

    /// A request of S3 names no action: whoever may not do one thing there does nothing there.
    #[test]
    fn a_denial_counts_that_may_mean_the_request_and_a_grant_that_means_all_of_it() {
        let all = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
        let deny = |rest: &str| format!(r#"{all},{{"Effect":"Deny",{rest}}}"#);
        let allow = |rest: &str| format!(r#"{{"Effect":"Allow",{rest}}}"#);
        let any = r#""Resource":"*""#;
        for (statements, wanted) in [
            (all.to_owned(), "allowed"),
            (deny(&format!(r#""Action":"s3:DeleteBucket",{any}"#)), "denied"),
            (deny(r#""Action":"s3:*","Resource":"arn:aws:s3:::secret/*""#), "denied"),
            (deny(r#""Action":"*","NotResource":"arn:aws:s3:::open""#), "denied"),
            (deny(&format!(r#""Action":"sns:*",{any}"#)), "allowed"),
            (deny(&format!(r#""NotAction":"s3:*",{any}"#)), "allowed"),
            (deny(&format!(r#""NotAction":"s3:Get*",{any}"#)), "denied"),
            (
                deny(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringEquals":{{"s3:prefix":"x"}}}}"#
                )),
                "denied",
            ),
            (
                deny(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringNotEquals":
                    {{"aws:RequestedRegion":"us-east-1"}}}}"#
                )),
                "allowed",
            ),
            (
                deny(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringEquals":
                    {{"aws:PrincipalTag/team":"${{s3:prefix}}"}}}}"#
                )),
                "denied",
            ),
            (allow(&format!(r#""Action":"s3:Get*",{any}"#)), "implicit"),
            (allow(&format!(r#""NotAction":"s3:DeleteBucket",{any}"#)), "implicit"),
            (allow(&format!(r#""NotAction":"iam:*",{any}"#)), "allowed"),
            (allow(r#""Action":"s3:*","Resource":"arn:aws:s3:::mine""#), "implicit"),
            (allow(r#""Action":"s3:*","NotResource":"arn:aws:s3:::secret""#), "implicit"),
            (
                allow(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringNotEquals":{{"s3:prefix":"x"}}}}"#
                )),
                "implicit",
            ),
            (
                allow(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringEquals":
                    {{"aws:ResourceAccount":"1"}}}}"#
                )),
                "implicit",
            ),
            (
                allow(&format!(
                    r#""Action":"*",{any},"Condition":{{"StringEquals":
                    {{"aws:PrincipalTag/team":"a"}}}}"#
                )),
                "allowed",
            ),
        ] {
            assert_eq!(verdict("s3:*", &statements), wanted, "{statements}");
        }
        // An action that is named is that action.
        let deny_one = deny(&format!(r#""Action":"sns:DeleteTopic",{any}"#));
        assert_eq!(verdict("sns:Publish", &deny_one), "allowed");
        assert_eq!(verdict("sns:DeleteTopic", &deny_one), "denied");
    }
}
