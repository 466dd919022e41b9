//! Who calls, whose a key is, and what a denial said.

use aws_sts::{
    DecodeAuthorizationMessage, DecodeAuthorizationMessageRequest,
    DecodeAuthorizationMessageResponse, GetAccessKeyInfo, GetAccessKeyInfoRequest,
    GetAccessKeyInfoResponse, GetCallerIdentity, GetCallerIdentityRequest,
    GetCallerIdentityResponse, GetSessionToken, GetSessionTokenRequest, GetSessionTokenResponse,
};
use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use region_gateway::{Caller, CallerKind, Handle};

use crate::{
    Sts, StsError,
    assume_role::{check_mfa, duration},
    session::{Owner, shown},
};

impl Handle<GetCallerIdentity> for Sts {
    async fn handle(
        &self,
        caller: &Caller,
        _: GetCallerIdentityRequest,
    ) -> Result<GetCallerIdentityResponse, Fault> {
        Ok(GetCallerIdentityResponse {
            user_id: caller.user_id.clone(),
            account: caller.account.clone(),
            arn: caller.arn.clone(),
        })
    }
}

impl Handle<GetAccessKeyInfo> for Sts {
    /// Every key here is this account's.
    async fn handle(
        &self,
        _: &Caller,
        request: GetAccessKeyInfoRequest,
    ) -> Result<GetAccessKeyInfoResponse, Fault> {
        let length = request.access_key_id.len();
        if !(16..=128).contains(&length) {
            return Err(StsError::Invalid {
                field: "accessKeyId",
                value: request.access_key_id,
                constraint: "Member must have length between 16 and 128".to_owned(),
            }
            .into());
        }
        Ok(GetAccessKeyInfoResponse { account: self.account.clone() })
    }
}

impl Handle<DecodeAuthorizationMessage> for Sts {
    async fn handle(
        &self,
        _: &Caller,
        request: DecodeAuthorizationMessageRequest,
    ) -> Result<DecodeAuthorizationMessageResponse, Fault> {
        let bytes = URL_SAFE_NO_PAD.decode(request.encoded_message.trim());
        let text = bytes.ok().and_then(|it| String::from_utf8(it).ok());
        let text = text.filter(|it| serde_json::from_str::<serde_json::Value>(it).is_ok());
        let decoded_message = text.ok_or(StsError::BadMessage)?;
        Ok(DecodeAuthorizationMessageResponse { decoded_message })
    }
}

impl Handle<GetSessionToken> for Sts {
    async fn handle(
        &self,
        caller: &Caller,
        request: GetSessionTokenRequest,
    ) -> Result<GetSessionTokenResponse, Fault> {
        check_mfa(request.serial_number.as_deref(), request.token_code.as_deref())?;
        let owner = match &caller.kind {
            CallerKind::Root => Owner::Root,
            CallerKind::User { name } => Owner::User {
                name: name.clone(),
                id: caller.user_id.clone(),
                arn: caller.arn.clone(),
            },
            _ => {
                let message = "Cannot call GetSessionToken with session credentials".to_owned();
                return Err(StsError::Denied { message }.into());
            }
        };
        if self.sessions.contains(&caller.access_key_id) {
            let message = "Cannot call GetSessionToken with session credentials".to_owned();
            return Err(StsError::Denied { message }.into());
        }
        let lasts = duration(request.duration_seconds, 43_200, 129_600)?;
        let session = self.new_session(owner, lasts);
        let session =
            self.issue(crate::session::Session { tags: caller.tags.clone(), ..session })?;
        Ok(GetSessionTokenResponse { credentials: shown(&session) })
    }
}
