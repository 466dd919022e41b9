//! Who signed a token, as STS says.

/// The answer of `GetCallerIdentity`, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    /// As STS gives it: a session's own ARN.
    pub arn: String,
    /// The role's ARN for a session. STS drops the role's path.
    pub canonical_arn: String,
    /// `AROA…`, `AIDA…` or the account.
    pub user_id: String,
    /// Empty but for sessions.
    pub session_name: String,
    pub access_key_id: String,
}

impl Identity {
    /// `None` when the ARN is of no principal that can be mapped.
    pub(crate) fn new(
        account: &str,
        arn: &str,
        user_id: &str,
        access_key_id: &str,
    ) -> Option<Self> {
        let (canonical_arn, arn_session) = canonical(arn)?;
        let (user_id, session) = user_id.split_once(':').unwrap_or((user_id, ""));
        if session != arn_session {
            return None;
        }
        Some(Self {
            account: account.to_owned(),
            arn: arn.to_owned(),
            canonical_arn,
            user_id: user_id.to_owned(),
            session_name: session.to_owned(),
            access_key_id: access_key_id.to_owned(),
        })
    }
}

/// The ARN to map by, and the session's name.
fn canonical(arn: &str) -> Option<(String, &str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, service, _, account, resource] = parts.as_slice() else { return None };
    match (*service, *resource) {
        ("sts", resource) => match resource.split('/').collect::<Vec<_>>().as_slice() {
            ["assumed-role", role, session] => {
                Some((format!("arn:{partition}:iam::{account}:role/{role}"), *session))
            }
            ["federated-user", _] => Some((arn.to_owned(), "")),
            _ => None,
        },
        ("iam", "root") => Some((arn.to_owned(), "")),
        ("iam", resource) if resource.starts_with("user/") => Some((arn.to_owned(), "")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_mapped_by_its_role() {
        let arn = "arn:aws:sts::111122223333:assumed-role/node/i-0123";
        let found = Identity::new("111122223333", arn, "AROA1:i-0123", "ASIA1").unwrap();
        assert_eq!(found.canonical_arn, "arn:aws:iam::111122223333:role/node");
        assert_eq!((found.session_name.as_str(), found.user_id.as_str()), ("i-0123", "AROA1"));
    }

    #[test]
    fn users_and_the_root_are_themselves_and_strangers_are_nobody() {
        for arn in ["arn:aws:iam::1:user/team/bob", "arn:aws:iam::1:root"] {
            assert_eq!(Identity::new("1", arn, "AIDA1", "AKIA1").unwrap().canonical_arn, arn);
        }
        for arn in
            ["", "arn:aws:s3:::bucket", "arn:aws:sts::1:assumed-role/a", "arn:aws:iam::1:role/x"]
        {
            assert_eq!(Identity::new("1", arn, "AROA1", "ASIA1"), None, "{arn}");
        }
    }
}
