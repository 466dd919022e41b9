//! What must hold of `server`.

use std::net::Ipv4Addr;

use api_imds::{SecurityCredentials, paths};
use http::StatusCode;
use jiff::Timestamp;

use super::*;
use crate::{CredentialsError, tree::tests::sample};

struct One(InstanceMetadata);

impl Metadata for One {
    fn instance(&self, vpc: &str, source: IpAddr) -> Option<Arc<InstanceMetadata>> {
        (vpc == "vpc-1" && self.0.owns(source)).then(|| Arc::new(self.0.clone()))
    }

    async fn credentials(
        &self,
        _: &InstanceMetadata,
        role: &str,
    ) -> Result<SecurityCredentials, CredentialsError> {
        let code = "AssumeRoleUnauthorizedAccess".to_owned();
        Err(CredentialsError { role: role.to_owned(), code, source: "not trusted".into() })
    }
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 10));
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 5, 17));

fn imds(change: impl FnOnce(&mut InstanceMetadata)) -> Imds<One> {
    let mut instance = sample();
    change(&mut instance);
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    Imds::new("vpc-1", Arc::new(One(instance)), clock)
}

async fn ask(
    imds: &Imds<One>,
    source: IpAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(String, Reach), StatusCode> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let (response, reach) = imds.decide(&request, source).await.map_err(Refusal::status)?;
    let body = transport::collect(response.into_body(), 1 << 20).await.unwrap().unwrap();
    Ok((String::from_utf8(body.to_vec()).unwrap(), reach))
}

async fn token(imds: &Imds<One>, source: IpAddr) -> String {
    let ttl = [(paths::TTL_HEADER, "60")];
    ask(imds, source, "PUT", "/latest/api/token", &ttl).await.unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_the_tree_until_it_is_over() {
    let imds = imds(|_| {});
    let token = token(&imds, POD).await;
    let with = [(paths::TOKEN_HEADER, token.as_str())];
    let id = "/latest/meta-data/instance-id";
    let (body, reach) = ask(&imds, HOST, "GET", id, &with).await.unwrap();
    assert_eq!((body.as_str(), reach), ("i-1", Reach::Far));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(ask(&imds, HOST, "GET", id, &with).await.unwrap_err(), 401);
}

#[test]
fn whatever_address_an_instance_asks_from_its_connections_count_together() {
    let prefix: ipnet::Ipv6Net = "2001:db8:0:1:5::/80".parse().unwrap();
    let imds = imds(|instance| {
        instance.interfaces[0].ipv6_prefixes.push(prefix);
    });
    let peers =
        [HOST, POD, "2001:db8:0:1:5::7".parse().unwrap(), "2001:db8:0:1:5:1::".parse().unwrap()];
    let peers = peers.map(|it| imds.peer(it));
    assert_eq!(peers, [HOST; 4]);
    let stranger: IpAddr = "192.168.200.1".parse().unwrap();
    assert_eq!(imds.peer(stranger), stranger);
}

#[tokio::test(start_paused = true)]
async fn the_tokens_answer_alone_is_bound_by_the_hop_limit() {
    let imds = imds(|instance| instance.options.hop_limit = 1);
    let ttl = [(paths::TTL_HEADER, "21600")];
    let (_, reach) = ask(&imds, HOST, "PUT", "/latest/api/token", &ttl).await.unwrap();
    assert_eq!(reach, Reach::Hops(1));
}

#[tokio::test(start_paused = true)]
async fn bad_requests_get_amazons_codes() {
    let imds = imds(|_| {});
    let forwarded = [(paths::TTL_HEADER, "60"), ("X-Forwarded-For", "10.0.0.1")];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16);
    let cases: [Case<'_>; 9] = [
        ("PUT", "/latest/api/token", &[], 400),
        ("PUT", "/latest/api/token", &[(paths::TTL_HEADER, "0")], 400),
        ("PUT", "/latest/api/token", &[(paths::TTL_HEADER, "21601")], 400),
        ("PUT", "/latest/api/token", &[(paths::TTL_HEADER, "soon")], 400),
        ("PUT", "/latest/api/token", &forwarded, 403),
        ("PUT", "/latest/meta-data/", &[(paths::TTL_HEADER, "60")], 405),
        ("GET", "/latest/meta-data/", &[], 401),
        ("GET", "/latest/meta-data/", &[(paths::TOKEN_HEADER, "x")], 401),
        ("POST", "/latest/meta-data/", &[], 405),
    ];
    for (method, path, headers, status) in cases {
        let answer = ask(&imds, HOST, method, path, headers).await;
        assert_eq!(answer.unwrap_err(), status, "{method} {path} {headers:?}");
    }
    let token = token(&imds, HOST).await;
    let with = [(paths::TOKEN_HEADER, token.as_str())];
    assert_eq!(ask(&imds, HOST, "GET", "/latest/no", &with).await.unwrap_err(), 404);
}

#[tokio::test(start_paused = true)]
async fn version_1_answers_where_tokens_are_optional_only() {
    let v1 = imds(|instance| instance.options.tokens_required = false);
    assert!(ask(&v1, HOST, "GET", "/latest/meta-data/mac", &[]).await.is_ok());
    let disabled = imds(|instance| instance.options.is_enabled = false);
    let answer = ask(&disabled, HOST, "GET", "/latest/meta-data/mac", &[]).await;
    assert_eq!(answer.unwrap_err(), 403);
    let stranger = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(ask(&v1, stranger.into(), "GET", "/latest/", &[]).await.unwrap_err(), 404);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_cannot_be_assumed_is_told_in_its_document() {
    let imds = imds(|instance| instance.options.tokens_required = false);
    let path = "/latest/meta-data/iam/security-credentials/node";
    let (body, _) = ask(&imds, HOST, "GET", path, &[]).await.unwrap();
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["Code"], "AssumeRoleUnauthorizedAccess");
    assert!(document.get("AccessKeyId").is_none());
}

/// TCP sends an unacknowledged token again with the limit that the socket has then.
#[tokio::test]
async fn a_connection_that_carried_a_token_never_reaches_farther_again() {
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let (_client, accepted) =
        tokio::join!(Place::Here.connect(address, Duration::from_secs(5)), listener.accept());
    let (stream, range) = Range::split(accepted.unwrap().0).unwrap();
    for (asked, wanted) in [(FAR, FAR), (2, 2), (FAR, 2), (1, 1), (2, 1), (0, 1)] {
        range.limit(asked).unwrap();
        assert_eq!(stream.ttl().unwrap(), wanted, "after {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_ipv6_it_answers_where_the_instance_has_that_enabled() {
    let six: IpAddr = "2001:db8:0:100::10".parse().unwrap();
    let of_pod: IpAddr = "2001:db8:0:100:5::7".parse().unwrap();
    let with_ipv6 = |by_ipv6| {
        imds(move |it| {
            it.options.by_ipv6 = by_ipv6;
            it.interfaces[0].ipv6_addresses = vec!["2001:db8:0:100::10".parse().unwrap()];
            it.interfaces[0].ipv6_prefixes = vec!["2001:db8:0:100:5::/80".parse().unwrap()];
        })
    };
    let ttl = [(paths::TTL_HEADER, "60")];
    let ask_for_token = async |by_ipv6, source| {
        ask(&with_ipv6(by_ipv6), source, "PUT", "/latest/api/token", &ttl).await.map(drop)
    };
    for source in [six, of_pod] {
        assert_eq!(ask_for_token(true, source).await, Ok(()));
        assert_eq!(ask_for_token(false, source).await, Err(StatusCode::FORBIDDEN));
    }
    assert_eq!(ask_for_token(false, HOST).await, Ok(()), "by IPv4 nothing changes");
    let strange: IpAddr = "2001:db8:0:100::11".parse().unwrap();
    assert_eq!(ask_for_token(true, strange).await, Err(StatusCode::NOT_FOUND));
}
