//! `AssumeRoleWithWebIdentity`: a service account's token for a role's credentials (IRSA).
//!
//! The call is not signed: the token is all that the caller has. It is checked in AWS's order:
//! shape, provider, signature, audience, time, and then the role's trust policy with the token's
//! `sub` and `aud` as condition keys.

use std::{collections::BTreeMap, time::Duration};

use aws_sts::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityRequest, AssumeRoleWithWebIdentityResponse,
    AssumedRoleUser,
};
use aws_wire::Fault;
use iam_policy::{Identity, IdentityKind, Named};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims};
use region_gateway::{Caller, Decided, Handle, IdentityProvider, Role, Target};
use serde_json::Value;

use crate::{
    Sts, StsError,
    assume_role::{check_session_name, checked_documents, duration},
    discovery,
    session::{self, Session},
};

const NOT_A_JWT: &str = "The ID Token provided is not a valid JWT. (You may see this error if you \
                         sent an Access Token)";
const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

/// How far ahead of ours the clock of an issuer may be.
const LEEWAY: Duration = Duration::from_secs(5 * 60);

/// What a verified token says.
struct Verified {
    provider: IdentityProvider,
    issuer: String,
    subject: String,
    audience: String,
}

impl Verified {
    /// What the trust policy sees of the token, and policies see of the session's requests later.
    fn keys(&self) -> BTreeMap<String, String> {
        let issuer = self.issuer.trim_start_matches("https://");
        BTreeMap::from([
            (format!("{issuer}:sub"), self.subject.clone()),
            (format!("{issuer}:aud"), self.audience.clone()),
            ("aws:FederatedProvider".to_owned(), self.provider.arn.clone()),
        ])
    }
}

impl Handle<AssumeRoleWithWebIdentity> for Sts {
    /// Decided below: there is no caller yet whose policies could be asked.
    fn targets(&self, _: &Caller, _: &AssumeRoleWithWebIdentityRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: AssumeRoleWithWebIdentityRequest,
    ) -> Result<AssumeRoleWithWebIdentityResponse, Fault> {
        check_session_name(&request.role_session_name)?;
        let verified = self.verify(&request.web_identity_token).await.inspect_err(|_| {
            caller.decisions.note(Decided::refused(ACTION, &request.role_arn));
        })?;
        let role = self.trusting_role(caller, &request, &verified)?;
        let lasts = duration(request.duration_seconds, 3600, 43_200)?;
        if lasts > role.max_session {
            return Err(StsError::TooLong { limit: "MaxSessionDuration" }.into());
        }
        let session = Session {
            policies: checked_documents(request.policy.as_deref())?,
            policy_arns: self.checked_arns(&request.policy_arns)?,
            tags: role.tags.clone(),
            context: verified.keys(),
            ..self.new_session(session::owner(&role, &request.role_session_name), lasts)
        };
        let session = self.issue(session)?;
        Ok(AssumeRoleWithWebIdentityResponse {
            credentials: session::shown(&session),
            assumed_role_user: AssumedRoleUser {
                assumed_role_id: format!("{}:{}", role.id, request.role_session_name),
                arn: session::session_arn(&self.account, &role.name, &request.role_session_name),
            },
            subject_from_web_identity_token: verified.subject,
            provider: verified.provider.arn,
            audience: verified.audience,
        })
    }
}

impl Sts {
    async fn verify(&self, token: &str) -> Result<Verified, StsError> {
        let invalid = |message: &str| StsError::InvalidToken { message: message.to_owned() };
        if !(4..=20_000).contains(&token.len()) {
            return Err(invalid(NOT_A_JWT));
        }
        let claimed: Value = insecure_decode_claims(token).map_err(|_| invalid(NOT_A_JWT))?;
        let issuer = claimed["iss"].as_str().ok_or_else(|| invalid(NOT_A_JWT))?;
        let provider = self.identities.identity_provider(issuer).ok_or_else(|| {
            invalid(&format!("No OpenIDConnect provider found in your account for {issuer}"))
        })?;
        let documents = self.issuers.get().ok_or_else(discovery::no_key)?;
        let now = self.clock.now();
        let uri = discovery::keys_uri(&**documents, issuer).await?;
        let is_enough = |keys: &Value| signed_claims(token, keys).is_some();
        let keys = self.issuer_keys.get(&**documents, &uri, now, is_enough).await?;
        let claims = signed_claims(token, &keys).ok_or_else(discovery::no_key)?;
        let audience = audience(&claims, &provider.client_ids)
            .ok_or_else(|| invalid("Incorrect token audience"))?;
        self.check_time(&claims)?;
        let subject = claims["sub"].as_str().ok_or_else(|| invalid(NOT_A_JWT))?.to_owned();
        Ok(Verified { provider, issuer: issuer.to_owned(), subject, audience })
    }

    fn check_time(&self, claims: &Value) -> Result<(), StsError> {
        let now = self.clock.now().as_second();
        let missing = || StsError::InvalidToken { message: "Missing a required claim: exp".into() };
        let expires = claims["exp"].as_i64().ok_or_else(missing)?;
        if expires <= now {
            return Err(StsError::ExpiredToken { now, expires });
        }
        let leeway = i64::try_from(LEEWAY.as_secs()).unwrap_or(0);
        let from = &claims["nbf"];
        // One that is no whole number is none that could be compared.
        let is_valid =
            from.is_null() || from.as_i64().is_some_and(|from| from <= now.saturating_add(leeway));
        if is_valid {
            return Ok(());
        }
        Err(StsError::InvalidToken { message: "Token is not valid yet".to_owned() })
    }

    /// A role that does not exist is refused as one that does not trust the token.
    fn trusting_role(
        &self,
        caller: &Caller,
        request: &AssumeRoleWithWebIdentityRequest,
        verified: &Verified,
    ) -> Result<Role, StsError> {
        let arn = &request.role_arn;
        let name = arn.rsplit('/').next().unwrap_or_default();
        let role = self.identities.role(name).filter(|it| it.arn == *arn);
        let Some(role) = role else {
            caller.decisions.note(Decided::refused(ACTION, arn));
            return Err(StsError::NoWebIdentity);
        };
        let mut target = session::role_target(&role)
            .with("sts:RoleSessionName", [request.role_session_name.clone()]);
        for (key, value) in verified.keys() {
            target = target.with(&key, [value]);
        }
        let kind = IdentityKind::Federated { provider: verified.provider.arn.clone() };
        let identity = Identity { account: self.account.clone(), kind };
        let trust = Named { name: role.arn.clone(), policy: role.trust.clone() };
        let decided = self.authorizer.decide_trust(&identity, caller, ACTION, &target, trust);
        let is_allowed = decided.decision.is_allowed();
        caller.decisions.note(decided);
        match is_allowed {
            true => Ok(role),
            false => Err(StsError::NoWebIdentity),
        }
    }
}

/// The claims, if one of the keys has signed them. Dates and audience are checked elsewhere, by our
/// own clock.
fn signed_claims(token: &str, jwks: &Value) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let keys = jwks["keys"].as_array()?.iter();
    let named =
        keys.filter(|key| header.kid.is_none() || key["kid"].as_str() == header.kid.as_deref());
    named
        .filter_map(|key| {
            let (n, e) = (key["n"].as_str()?, key["e"].as_str()?);
            let key = DecodingKey::from_rsa_components(n, e).ok()?;
            jsonwebtoken::decode::<Value>(token, &key, &validation).ok()
        })
        .map(|data| data.claims)
        .next()
}

/// The audience of the token that the provider is registered for.
fn audience(claims: &Value, client_ids: &[String]) -> Option<String> {
    let given: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    client_ids.iter().find(|it| given.contains(&it.as_str())).cloned()
}

#[cfg(test)]
mod tests;
