//! STS through its handlers.

use std::{collections::BTreeMap, time::Duration};

use aws_sts::{AssumeRoleRequest, GetSessionTokenRequest};
use aws_wire::Fault;
use iam_policy::{Kind, Named, Policy};
use jiff::Timestamp;
use region_gateway::{AccessKeys, Attached, Caller, CallerKind, Handle, Role};
use serde_json::json;

use super::*;

const ACCOUNT: &str = "111122223333";

/// `node` trusts EC2, `admin` trusts the account; bob may assume, eve may not.
struct People;

impl Identities for People {
    fn attached(&self, kind: &CallerKind) -> Option<Attached> {
        let CallerKind::User { name } = kind else { return Some(Attached::default()) };
        if name != "bob" {
            return Some(Attached::default());
        }
        let text = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "sts:*", "Resource": "*"
        }});
        let policy = Arc::new(Policy::parse(&text.to_string(), Kind::Identity).unwrap());
        let identity = vec![Named { name: "p".to_owned(), policy }];
        Some(Attached { identity, boundary: None })
    }

    fn user_id(&self, name: &str) -> Option<String> {
        Some(format!("AIDA{name}"))
    }

    fn role(&self, name: &str) -> Option<Role> {
        let principal = match name {
            "node" => json!({"Service": "ec2.amazonaws.com"}),
            "admin" => json!({"AWS": ACCOUNT}),
            _ => return None,
        };
        let text = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Principal": principal
        }});
        Some(Role {
            name: name.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
            id: format!("AROA{name}"),
            trust: Arc::new(Policy::parse(&text.to_string(), Kind::Trust).unwrap()),
            max_session: Duration::from_secs(7200),
            tags: BTreeMap::new(),
        })
    }

    fn managed_policy(&self, _: &str) -> Option<Named> {
        None
    }
}

fn sts(clock: Clock) -> Arc<Sts> {
    Sts::open(&Store::in_memory(), ACCOUNT, "us-east-1", Arc::new(People), clock).unwrap()
}

fn clock() -> Clock {
    Clock::simulated(Timestamp::UNIX_EPOCH)
}

fn user(name: &str) -> Caller {
    Caller {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
        user_id: format!("AIDA{name}"),
        kind: CallerKind::User { name: name.to_owned() },
        ..Caller::root(ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH)
    }
}

async fn assume(
    sts: &Sts,
    caller: &Caller,
    role: &str,
    seconds: Option<i64>,
) -> Result<aws_sts::AssumeRoleResponse, Fault> {
    let request = AssumeRoleRequest {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
        role_session_name: "work".to_owned(),
        duration_seconds: seconds,
        ..AssumeRoleRequest::default()
    };
    Handle::<AssumeRole>::handle(sts, caller, request).await
}

#[tokio::test(start_paused = true)]
async fn an_instance_keeps_its_credentials_until_they_are_soon_to_expire() {
    let sts = sts(clock());
    let hour = Duration::from_secs(3600);
    let first = sts.instance_credentials("node", "i-1", BTreeMap::new()).unwrap();
    tokio::time::sleep(4 * hour).await;
    assert_eq!(sts.instance_credentials("node", "i-1", BTreeMap::new()).unwrap(), first);
    tokio::time::sleep(hour).await;
    let second = sts.instance_credentials("node", "i-1", BTreeMap::new()).unwrap();
    assert_ne!(second.access_key_id, first.access_key_id);
    assert_eq!(second.expires, second.issued + 6 * hour);

    let key = sts.access_key(&first.access_key_id).unwrap();
    assert_eq!(key.principal.arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/node/i-1"));
    assert_eq!(key.principal.user_id, "AROAnode:i-1");
    assert_eq!(key.session_token.as_deref(), Some(first.token.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_role_that_does_not_trust_ec2_gives_an_instance_nothing() {
    let error = sts(clock()).instance_credentials("admin", "i-1", BTreeMap::new()).unwrap_err();
    assert_eq!(error.code, "AccessDenied");
}

#[tokio::test(start_paused = true)]
async fn a_session_policy_has_2048_characters_at_the_most() {
    let sts = sts(clock());
    let policy = r#"{"Version":"2012-10-17","Statement":
        {"Effect":"Allow","Action":"*","Resource":"*"}}"#
        .to_owned();
    let asked = async |padding: usize| {
        let request = AssumeRoleRequest {
            role_arn: format!("arn:aws:iam::{ACCOUNT}:role/admin"),
            role_session_name: "work".to_owned(),
            policy: Some(policy.clone() + &" ".repeat(padding)),
            ..AssumeRoleRequest::default()
        };
        Handle::<AssumeRole>::handle(&*sts, &user("bob"), request).await
    };
    assert!(asked(2048 - policy.len()).await.is_ok());
    let error = asked(2049 - policy.len()).await.unwrap_err();
    assert_eq!(&*error.code, "PackedPolicyTooLarge");
}

#[tokio::test(start_paused = true)]
async fn trust_and_permission_are_both_needed_to_assume_a_role() {
    let sts = sts(clock());
    let response = assume(&sts, &user("bob"), "admin", None).await.unwrap();
    assert!(response.credentials.access_key_id.starts_with("ASIA"));
    assert_eq!(response.credentials.expiration, "1970-01-01T01:00:00Z");
    for (caller, role) in [("eve", "admin"), ("bob", "node"), ("bob", "nobody")] {
        let error = assume(&sts, &user(caller), role, None).await.unwrap_err();
        assert_eq!(&*error.code, "AccessDenied", "{caller} {role}");
    }
    let root = Caller::root(ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH);
    let error = assume(&sts, &root, "admin", None).await.unwrap_err();
    assert_eq!(error.message, "Roles may not be assumed by root accounts.");
}

#[tokio::test(start_paused = true)]
async fn a_session_lasts_no_longer_than_its_role_allows() {
    let sts = sts(clock());
    assert!(assume(&sts, &user("bob"), "admin", Some(7200)).await.is_ok());
    for seconds in [7201, 899, 43_201] {
        let error = assume(&sts, &user("bob"), "admin", Some(seconds)).await.unwrap_err();
        assert_eq!(&*error.code, "ValidationError", "{seconds}");
    }
}

/// Whoever may assume a node's role can name the session as the instance is named.
#[tokio::test(start_paused = true)]
async fn an_instance_is_not_given_a_session_that_somebody_made_under_its_name() {
    let sts = sts(clock());
    let role = sts.identities.role("node").unwrap();
    let theirs = Session {
        policies: vec![r#"{"Version":"2012-10-17","Statement":[]}"#.to_owned()],
        ..sts.new_session(session::owner(&role, "i-1"), Duration::from_secs(7200))
    };
    let theirs = sts.issue(theirs).unwrap();
    let given = sts.instance_credentials("node", "i-1", BTreeMap::new()).unwrap();
    assert_ne!(given.access_key_id, theirs.access_key_id);
    assert_eq!(sts.instance_credentials("node", "i-1", BTreeMap::new()).unwrap(), given);
}

#[tokio::test(start_paused = true)]
async fn a_session_policy_that_is_deleted_lifts_no_limit() {
    let sts = sts(clock());
    let role = sts.identities.role("node").unwrap();
    let gone = format!("arn:aws:iam::{ACCOUNT}:policy/gone");
    let session = Session {
        policy_arns: vec![gone.clone()],
        ..sts.new_session(session::owner(&role, "work"), Duration::from_secs(900))
    };
    let session = sts.issue(session).unwrap();
    let limits = sts.access_key(&session.access_key_id).unwrap().session_policies;
    let names: Vec<_> = limits.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [gone]);
}

#[tokio::test(start_paused = true)]
async fn what_would_be_promised_and_not_kept_is_refused() {
    let sts = sts(clock());
    let request = || AssumeRoleRequest {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/admin"),
        role_session_name: "work".to_owned(),
        ..AssumeRoleRequest::default()
    };
    let some = |text: &str| Some(text.to_owned());
    for (request, wanted) in [
        (AssumeRoleRequest { source_identity: some("bob"), ..request() }, "ValidationError"),
        (
            AssumeRoleRequest { transitive_tag_keys: vec!["team".to_owned()], ..request() },
            "ValidationError",
        ),
        (
            AssumeRoleRequest {
                serial_number: some("arn:aws:iam::111122223333:mfa/bob"),
                token_code: some("123456"),
                ..request()
            },
            "AccessDenied",
        ),
    ] {
        let refused = Handle::<AssumeRole>::handle(&*sts, &user("bob"), request).await;
        assert_eq!(refused.unwrap_err().code, wanted);
    }
    let request = GetSessionTokenRequest { token_code: some("123456"), ..Default::default() };
    let refused = Handle::<GetSessionToken>::handle(&*sts, &user("bob"), request).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, "AccessDenied");
    assert!(refused.message.starts_with("MultiFactorAuthentication failed"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn a_transitive_tag_goes_on_to_the_next_session_and_stays() {
    let sts = sts(clock());
    let tag = |value: &str| aws_sts::Tag { key: "team".to_owned(), value: value.to_owned() };
    let request = |tags: Vec<aws_sts::Tag>, transitive: &[&str]| AssumeRoleRequest {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/admin"),
        role_session_name: "work".to_owned(),
        tags,
        transitive_tag_keys: transitive.iter().map(|it| (*it).to_owned()).collect(),
        ..AssumeRoleRequest::default()
    };
    let call = async |caller: &Caller, request| {
        Handle::<AssumeRole>::handle(&*sts, caller, request).await.map(|it| it.credentials)
    };
    let of = |given: &aws_sts::Credentials| {
        let key = sts.access_key(&given.access_key_id).unwrap();
        // Bob's rights, for the second step: that of the role are none of this test's.
        let caller = Caller { access_key_id: given.access_key_id.clone(), ..user("bob") };
        (key.principal.tags, caller)
    };
    let first = call(&user("bob"), request(vec![tag("blue")], &["team"])).await.unwrap();
    let (tags, caller) = of(&first);
    assert_eq!(tags["team"], "blue");
    let second = call(&caller, request(Vec::new(), &[])).await.unwrap();
    let (tags, caller) = of(&second);
    assert_eq!(tags["team"], "blue");
    let refused = call(&caller, request(vec![tag("red")], &[])).await.unwrap_err();
    assert_eq!(refused.code, "ValidationError");

    let passing = call(&user("bob"), request(vec![tag("blue")], &[])).await.unwrap();
    let next = call(&of(&passing).1, request(Vec::new(), &[])).await.unwrap();
    assert!(of(&next).0.is_empty());
}
