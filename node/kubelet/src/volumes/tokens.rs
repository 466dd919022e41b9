//! Service account tokens for projected volumes: asked for, kept, and replaced in time.
//!
//! Upstream: `pkg/kubelet/token`: a token is replaced after 80 % of its life, or after a day.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;

use super::MountVolumeError;
use crate::pod::{PodExt, PodUid};

const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_LIFE: i64 = 3600;
const RETRY: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(10);

/// The pod, the audience (none is the API server's), the life in seconds.
type Key = (PodUid, String, i64);

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub text: String,
    pub expires: Timestamp,
    /// When to ask for the next one.
    pub replace_at: Timestamp,
}

#[derive(Default)]
pub(crate) struct Tokens {
    kept: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    /// A token of the pod's account for an audience.
    pub(crate) async fn get(
        &self,
        client: &Client,
        pod: &Pod,
        audience: &str,
        life: Option<i64>,
        now: Timestamp,
    ) -> Result<Token, MountVolumeError> {
        let life = life.unwrap_or(DEFAULT_LIFE);
        let key = (pod.uid(), audience.to_owned(), life);
        let kept = self.kept.lock().get(&key).cloned();
        if let Some(token) = kept.as_ref().filter(|it| now < it.replace_at) {
            return Ok(token.clone());
        }
        match request(client, pod, audience, life, now).await {
            Ok(token) => {
                self.kept.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(error) => match kept.filter(|it| now < it.expires) {
                // The old one still works for a while; the next round tries again.
                Some(token) => Ok(Token { replace_at: now + RETRY, ..token }),
                None => Err(error),
            },
        }
    }

    pub(crate) fn forget(&self, uid: &PodUid) {
        self.kept.lock().retain(|(of, _, _), _| of != uid);
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    audience: &str,
    life: i64,
    now: Timestamp,
) -> Result<Token, MountVolumeError> {
    let account = PodExt::spec(pod).service_account_name.as_deref().unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            expiration_seconds: Some(life),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().0),
            }),
        }),
        ..TokenRequest::default()
    };
    let api = Api::<ServiceAccount>::namespaced(client.clone(), pod.namespace());
    let params = PostParams::default();
    let asked = api.create_token_request(account, &params, &request);
    let failed = |message: String| MountVolumeError::Token { message };
    let reply = match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(kube::Error::Api(status))) => return Err(failed(status.message.clone())),
        Ok(Err(error)) => return Err(failed(telemetry::chain(&error).to_string())),
        Err(_) => return Err(failed("the API server did not answer".to_owned())),
    };
    let status = reply.status.ok_or_else(|| failed("the answer holds no token".to_owned()))?;
    let text = status.token.ok_or_else(|| failed("the answer holds no token".to_owned()))?;
    let life = Duration::from_secs(u64::try_from(life).unwrap_or(0));
    let expires = status.expiration_timestamp.map_or(now + life, |it| it.0);
    let granted = expires.duration_since(now);
    let granted = Duration::try_from(granted).unwrap_or_default();
    let replace_at = now + granted.mul_f64(0.8).min(LONGEST_USE);
    Ok(Token { text, expires, replace_at })
}
