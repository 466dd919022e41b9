//! Who a principal's name means: `NAME`, `role/NAME` and `user/NAME` are looked up in the account.

use crate::{failure::Failure, iam::Iam};

/// A principal as it was given: what is no name already says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given<'a> {
    Known,
    Role(&'a str),
    User(&'a str),
    Either(&'a str),
}

fn given(text: &str) -> Given<'_> {
    // A path before a name is no part of it: names are one in an account.
    let last = |it: &'static str| text.strip_prefix(it).and_then(|it| it.rsplit('/').next());
    match (last("role/"), last("user/")) {
        (Some(name), _) => Given::Role(name),
        (_, Some(name)) => Given::User(name),
        _ if text.contains(':') || text.ends_with(".amazonaws.com") => Given::Known,
        _ => Given::Either(text),
    }
}

/// The ARN of whoever is meant, or the name of the service.
pub(super) async fn arn(iam: &Iam, text: &str) -> anyhow::Result<String> {
    let role = async |name: &str| Ok::<_, anyhow::Error>(iam.role(name).await?.map(|it| it.arn));
    let user = async |name: &str| Ok::<_, anyhow::Error>(iam.user(name).await?.map(|it| it.arn));
    Ok(match given(text) {
        Given::Known => text.to_owned(),
        Given::Role(name) => {
            role(name).await?.ok_or_else(|| super::access::nobody("role", name))?
        }
        Given::User(name) => {
            user(name).await?.ok_or_else(|| super::access::nobody("user", name))?
        }
        Given::Either(name) => one_of(name, role(name).await?, user(name).await?)?,
    })
}

/// The one that there is.
fn one_of(name: &str, role: Option<String>, user: Option<String>) -> Result<String, Failure> {
    match (role, user) {
        (Some(arn), None) | (None, Some(arn)) => Ok(arn),
        (Some(role), Some(user)) => Err(Failure::new(
            format!("`{name}` is a role ({role}) and a user ({user})"),
            format!("say `role/{name}` or `user/{name}`"),
        )),
        (None, None) => Err(Failure::new(
            format!("there is no role or user `{name}`"),
            "list them with `aws iam list-roles` and `aws iam list-users`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_say_whether_it_is_a_roles_or_a_users() {
        assert_eq!(given("role/path/node"), Given::Role("node"));
        assert_eq!(given("user/bob"), Given::User("bob"));
        assert_eq!(given("bob"), Given::Either("bob"));
        for known in ["arn:aws:iam::1:role/node", "eks.amazonaws.com"] {
            assert_eq!(given(known), Given::Known);
        }
    }

    #[test]
    fn a_name_of_two_is_refused_with_both() {
        let (role, user) = (Some("arn:r".to_owned()), Some("arn:u".to_owned()));
        assert_eq!(one_of("x", role.clone(), None).unwrap(), "arn:r");
        assert_eq!(one_of("x", None, user.clone()).unwrap(), "arn:u");
        let refused = one_of("x", role, user).unwrap_err();
        let shown = format!("{refused} {refused:?}");
        assert!(shown.contains("arn:r") && shown.contains("arn:u"), "{shown}");
        assert!(shown.contains("role/x") && shown.contains("user/x"), "{shown}");
        assert!(one_of("x", None, None).unwrap_err().to_string().contains("no role or user `x`"));
    }
}
