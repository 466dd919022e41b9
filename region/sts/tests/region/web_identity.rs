//! Service accounts' tokens for a role's credentials: what IAM registered, what the issuer
//! publishes, what the token says and what the role trusts, together.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aws_iam::{
    AddClientIDToOpenIDConnectProvider, AddClientIDToOpenIDConnectProviderRequest,
    AttachRolePolicy, AttachRolePolicyRequest, CreateOpenIDConnectProvider,
    CreateOpenIDConnectProviderRequest, CreateRole, CreateRoleRequest, DeleteOpenIDConnectProvider,
    DeleteOpenIDConnectProviderRequest, GetRole, PutRolePolicy, PutRolePolicyRequest,
    RemoveClientIDFromOpenIDConnectProvider, RemoveClientIDFromOpenIDConnectProviderRequest,
};
use aws_sts::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityRequest, AssumeRoleWithWebIdentityResponse,
    GetCallerIdentity, GetCallerIdentityRequest,
};
use aws_wire::credentials::Credentials;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::ServiceAccountKey;
use region_sts::{FetchError, IssuerDocuments};
use serde_json::{Value, json};

use super::{ACCOUNT, READ_IAM, Region, code, get_role, start};

const HOST: &str = "oidc.eks.us-east-1.amazonaws.com";
/// 2026-11-23T12:00:00Z, which it is in every region here.
const NOW: i64 = 1_795_435_200;
const SUBJECT: &str = "system:serviceaccount:shop:app";

/// Making an RSA key is slow, and three serve all tests.
static KEYS: LazyLock<Vec<ServiceAccountKey>> =
    LazyLock::new(|| (0..3).map(|_| ServiceAccountKey::generate().unwrap()).collect());

/// What the clusters `A` and `B` publish; a cluster without keys is silent.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<BTreeMap<&'static str, Vec<ServiceAccountKey>>>>);

impl Pages {
    fn publish(&self, cluster: &'static str, keys: &[usize]) {
        let keys = keys.iter().map(|it| KEYS[*it].clone()).collect();
        self.0.lock().unwrap().insert(cluster, keys);
    }

    fn page(&self, url: &str) -> Result<Value, FetchError> {
        let path = url.strip_prefix(&format!("https://{HOST}/id/")).ok_or(FetchError::Missing)?;
        let (cluster, page) = path.split_once('/').ok_or(FetchError::Missing)?;
        let published = self.0.lock().unwrap();
        let keys = published.get(cluster).ok_or(FetchError::Missing)?;
        if keys.is_empty() {
            return Err(FetchError::Unreachable);
        }
        match page {
            "keys" => {
                let all = keys.iter().map(|it| it.jwks()["keys"][0].clone());
                Ok(json!({"keys": all.collect::<Vec<_>>()}))
            }
            _ => Ok(
                json!({"issuer": issuer(cluster), "jwks_uri": format!("{}/keys", issuer(cluster))}),
            ),
        }
    }
}

impl IssuerDocuments for Pages {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Value, FetchError>> {
        Box::pin(std::future::ready(self.page(url)))
    }
}

fn issuer(cluster: &str) -> String {
    format!("https://{HOST}/id/{cluster}")
}

fn provider(cluster: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}/id/{cluster}")
}

fn claims(cluster: &str) -> Value {
    json!({
        "iss": issuer(cluster), "sub": SUBJECT, "aud": ["sts.amazonaws.com"],
        "iat": NOW, "nbf": NOW, "exp": NOW + 86_400, "jti": "1",
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "app", "uid": "u"}},
    })
}

fn sign(key: usize, claims: &Value) -> String {
    let key = &KEYS[key];
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.key_id().to_owned());
    let signing = EncodingKey::from_rsa_pem(key.private_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, claims, &signing).unwrap()
}

struct Bed {
    region: Region,
    pages: Pages,
    _folder: tempfile::TempDir,
}

/// Cluster `A`'s issuer is registered; the role `app` trusts any account of its namespace `shop`.
async fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let region = start(&folder.path().join("state"));
    let pages = Pages::default();
    pages.publish("A", &[0]);
    pages.publish("B", &[2]);
    region.sts.reach_issuers_by(Arc::new(pages.clone()));
    let bed = Bed { region, pages, _folder: folder };
    bed.register("A").await;
    let trust = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": provider("A")},
        "Condition": {
            "StringLike": {format!("{HOST}/id/A:sub"): "system:serviceaccount:shop:*"},
            "StringEquals": {format!("{HOST}/id/A:aud"): "sts.amazonaws.com"},
        },
    }});
    let request = CreateRoleRequest {
        role_name: "app".to_owned(),
        assume_role_policy_document: trust.to_string(),
        ..CreateRoleRequest::default()
    };
    bed.region.root().call::<CreateRole>(request).await.unwrap();
    bed
}

impl Bed {
    async fn register(&self, cluster: &str) {
        let request = CreateOpenIDConnectProviderRequest {
            url: issuer(cluster),
            client_id_list: vec!["sts.amazonaws.com".to_owned()],
            ..Default::default()
        };
        let root = self.region.root();
        let made = root.call::<CreateOpenIDConnectProvider>(request).await.unwrap();
        assert_eq!(made.open_id_connect_provider_arn, provider(cluster));
    }

    /// As an SDK does: unsigned.
    async fn assume(
        &self,
        token: &str,
        role: &str,
    ) -> Result<AssumeRoleWithWebIdentityResponse, (String, String)> {
        let request = AssumeRoleWithWebIdentityRequest {
            role_arn: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
            role_session_name: "pod".to_owned(),
            web_identity_token: token.to_owned(),
            ..Default::default()
        };
        let answered = self.region.nobody().call::<AssumeRoleWithWebIdentity>(request).await;
        answered.map_err(|error| {
            let fault = error.fault().expect("the region answered");
            (fault.code.to_string(), fault.message.clone())
        })
    }

    /// The code and message of a refusal.
    async fn refused(&self, token: &str, role: &str) -> (String, String) {
        self.assume(token, role).await.map(|_| ()).unwrap_err()
    }
}

fn text(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

const NO_KEY: &str = "Couldn't retrieve verification key from your identity provider,  please \
                      reference AssumeRoleWithWebIdentity documentation for requirements";
const DENIED: &str = "Not authorized to perform sts:AssumeRoleWithWebIdentity";

#[tokio::test(start_paused = true)]
async fn a_service_account_acts_as_the_role_that_trusts_it_and_may_what_the_role_may() {
    let bed = bed().await;
    let given = bed.assume(&sign(0, &claims("A")), "app").await.unwrap();
    assert_eq!(given.subject_from_web_identity_token, SUBJECT);
    assert_eq!(
        (given.provider.as_str(), given.audience.as_str()),
        (&*provider("A"), "sts.amazonaws.com")
    );
    let client = bed.region.client(Credentials {
        session_token: Some(given.credentials.session_token.clone()),
        ..Credentials::new(&*given.credentials.access_key_id, &*given.credentials.secret_access_key)
    });
    let who = client.call::<GetCallerIdentity>(GetCallerIdentityRequest {}).await.unwrap();
    assert_eq!(who.arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/app/pod"));
    assert!(who.user_id.ends_with(":pod"), "{}", who.user_id);
    assert_eq!(code::<GetRole>(&client, get_role()).await, "AccessDenied");
    let attach =
        AttachRolePolicyRequest { role_name: "app".to_owned(), policy_arn: READ_IAM.to_owned() };
    bed.region.root().call::<AttachRolePolicy>(attach).await.unwrap();
    assert_eq!(code::<GetRole>(&client, get_role()).await, "NoSuchEntity");
}

/// The role trusts the account under `condition` too.
async fn under(bed: &Bed, name: &str, condition: Value) {
    let trust = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": provider("A")}, "Condition": condition,
    }});
    let request = CreateRoleRequest {
        role_name: name.to_owned(),
        assume_role_policy_document: trust.to_string(),
        ..CreateRoleRequest::default()
    };
    bed.region.root().call::<CreateRole>(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_trust_policy_sees_when_whence_and_how_a_web_identity_asks() {
    let bed = bed().await;
    let token = sign(0, &claims("A"));
    let cases = [
        ("now", json!({"DateLessThan": {"aws:CurrentTime": "2026-11-23T13:00:00Z"}}), true),
        ("late", json!({"DateLessThan": {"aws:CurrentTime": "2026-11-23T11:00:00Z"}}), false),
        ("epoch", json!({"NumericGreaterThan": {"aws:EpochTime": "1"}}), true),
        ("tls", json!({"Bool": {"aws:SecureTransport": "true"}}), true),
        ("near", json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/32"}}), true),
        ("far", json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), false),
        ("vpc", json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}}), true),
        ("named", json!({"StringEquals": {"sts:RoleSessionName": "pod"}}), true),
        ("misnamed", json!({"StringEquals": {"sts:RoleSessionName": "other"}}), false),
        ("federated", json!({"ArnEquals": {"aws:FederatedProvider": provider("A")}}), true),
        ("unsigned", json!({"Null": {"aws:PrincipalArn": "true"}}), true),
    ];
    for (name, condition, is_trusted) in cases {
        under(&bed, name, condition).await;
        assert_eq!(bed.assume(&token, name).await.is_ok(), is_trusted, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_session_does_is_known_to_come_from_its_token_of_that_time() {
    let bed = bed().await;
    let (subject, federated) = (format!("{HOST}/id/A:sub"), "aws:FederatedProvider");
    for (number, (condition, is_allowed)) in [
        (json!({"StringEquals": {federated: provider("A"), &subject: SUBJECT}}), true),
        (json!({"StringEquals": {federated: provider("B")}}), false),
        (json!({"DateGreaterThanEquals": {"aws:TokenIssueTime": "2026-11-23T12:00:00Z"}}), true),
        // As "revoke active sessions" of the console says it.
        (json!({"DateLessThan": {"aws:TokenIssueTime": "2026-11-23T12:00:00Z"}}), false),
        (json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}}), true),
        (json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}), false),
    ]
    .into_iter()
    .enumerate()
    {
        let role = format!("role{number}");
        under(&bed, &role, json!({})).await;
        let policy = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "iam:GetRole", "Resource": "*", "Condition": condition,
        }});
        let request = PutRolePolicyRequest {
            role_name: role.clone(),
            policy_name: "p".to_owned(),
            policy_document: policy.to_string(),
        };
        bed.region.root().call::<PutRolePolicy>(request).await.unwrap();
        let given = bed.assume(&sign(0, &claims("A")), &role).await.unwrap().credentials;
        let client = bed.region.client(Credentials {
            session_token: Some(given.session_token),
            ..Credentials::new(&*given.access_key_id, &*given.secret_access_key)
        });
        let answered = code::<GetRole>(&client, get_role()).await;
        assert_eq!(answered == "NoSuchEntity", is_allowed, "{policy}: {answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_in_which_a_token_is_no_good_has_its_own_refusal() {
    let bed = bed().await;
    let with = |field: &str, value: Value| {
        let mut claims = claims("A");
        claims[field] = value;
        sign(0, &claims)
    };
    let no_provider = |issuer: &str| {
        text(
            "InvalidIdentityToken",
            &format!("No OpenIDConnect provider found in your account for {issuer}"),
        )
    };
    let expired = format!(
        "Token expired: current date/time {NOW} must be before the expiration date/time {NOW}"
    );
    let no_key = text("InvalidIdentityToken", NO_KEY);
    let denied = text("AccessDenied", DENIED);
    let other_namespace = "system:serviceaccount:other:app";
    let good = sign(0, &claims("A"));
    let parts: Vec<&str> = good.split('.').collect();
    let swapped = with("sub", json!("system:serviceaccount:shop:evil"));
    let tampered = format!("{}.{}.{}", parts[0], swapped.split('.').nth(1).unwrap(), parts[2]);
    let not_a_token = "The ID Token provided is not a valid JWT. (You may see this error if you \
                       sent an Access Token)";
    for (token, role, refusal) in [
        (sign(2, &claims("B")), "app", no_provider(&issuer("B"))),
        (with("iss", json!("https://evil.test")), "app", no_provider("https://evil.test")),
        // Cluster B's key under cluster A's name.
        (sign(2, &claims("A")), "app", no_key.clone()),
        (tampered, "app", no_key),
        (
            with("aud", json!(["vault"])),
            "app",
            text("InvalidIdentityToken", "Incorrect token audience"),
        ),
        (with("exp", json!(NOW)), "app", text("ExpiredTokenException", &expired)),
        (with("sub", json!(other_namespace)), "app", denied.clone()),
        (good, "nobody", denied),
        ("not.a.token".to_owned(), "app", text("InvalidIdentityToken", not_a_token)),
    ] {
        assert_eq!(bed.refused(&token, role).await, refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_registered_cluster_is_not_the_one_that_the_role_trusts() {
    let bed = bed().await;
    bed.register("B").await;
    let replayed = sign(2, &claims("B"));
    assert_eq!(bed.refused(&replayed, "app").await, text("AccessDenied", DENIED));
}

#[tokio::test(start_paused = true)]
async fn once_its_provider_is_deleted_a_good_token_is_nothing() {
    let bed = bed().await;
    let good = sign(0, &claims("A"));
    assert!(bed.assume(&good, "app").await.is_ok());
    let request =
        DeleteOpenIDConnectProviderRequest { open_id_connect_provider_arn: provider("A") };
    bed.region.root().call::<DeleteOpenIDConnectProvider>(request).await.unwrap();
    let (code, message) = bed.refused(&good, "app").await;
    assert_eq!(code, "InvalidIdentityToken");
    assert!(message.starts_with("No OpenIDConnect provider found"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_audience_counts_while_it_is_among_the_providers_client_ids() {
    let bed = bed().await;
    let mut other = claims("A");
    other["aud"] = json!(["vault"]);
    let token = sign(0, &other);
    let (root, arn) = (bed.region.root(), provider("A"));
    let add = AddClientIDToOpenIDConnectProviderRequest {
        open_id_connect_provider_arn: arn.clone(),
        client_id: "vault".to_owned(),
    };
    root.call::<AddClientIDToOpenIDConnectProvider>(add).await.unwrap();
    // The provider takes it now, and the role's condition on `aud` does not.
    assert_eq!(bed.refused(&token, "app").await, text("AccessDenied", DENIED));
    let remove = RemoveClientIDFromOpenIDConnectProviderRequest {
        open_id_connect_provider_arn: arn,
        client_id: "vault".to_owned(),
    };
    root.call::<RemoveClientIDFromOpenIDConnectProvider>(remove).await.unwrap();
    let refusal = text("InvalidIdentityToken", "Incorrect token audience");
    assert_eq!(bed.refused(&token, "app").await, refusal);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_counts_when_it_is_published_and_a_withdrawn_one_for_minutes_more() {
    let bed = bed().await;
    let (old, new) = (sign(0, &claims("A")), sign(1, &claims("A")));
    assert_eq!(bed.refused(&new, "app").await, text("InvalidIdentityToken", NO_KEY));
    bed.pages.publish("A", &[1, 0]);
    assert!(bed.assume(&old, "app").await.is_ok());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bed.assume(&new, "app").await.is_ok());
    bed.pages.publish("A", &[1]);
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert!(bed.assume(&old, "app").await.is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.refused(&old, "app").await, text("InvalidIdentityToken", NO_KEY));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_silent_is_a_reason_to_try_again() {
    let bed = bed().await;
    bed.pages.publish("A", &[]);
    let (code, message) = bed.refused(&sign(0, &claims("A")), "app").await;
    assert_eq!(code, "IDPCommunicationError");
    assert!(message.ends_with("could not be reached"), "{message}");
}
