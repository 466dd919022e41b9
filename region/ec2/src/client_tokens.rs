//! Client tokens: a call that is made again with the token of an earlier one gets that one's answer,
//! and makes nothing.
//!
//! What a token stands for is answered as it is now; a token is remembered for an hour after the call,
//! and as long as there are instances of it.
//!
//! Source: "Ensuring idempotency in Amazon EC2 API requests".

use aws_wire::Fault;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Call, faults,
    records::{Tags, Token},
    state::State,
};

/// Runs `make`, which says the id of what it has made, unless a call with this token has done so.
/// The same token with another request is refused.
pub(crate) fn once<R: Serialize>(
    call: &Call<'_>,
    state: &mut State,
    action: &str,
    token: Option<&str>,
    request: R,
    make: impl FnOnce(&mut State, R) -> Result<String, Fault>,
) -> Result<String, Fault> {
    let Some(token) = token else { return make(state, request) };
    if token.len() > 64 || !token.is_ascii() {
        return Err(faults::invalid_value("clientToken", token));
    }
    let bytes = serde_json::to_vec(&request).map_err(|it| Fault::internal(it.to_string()))?;
    let digest = hex::encode(Sha256::digest(bytes));
    let id = format!("{action}/{token}");
    match state.tokens.get(&id) {
        Some(known) if known.digest == digest => return Ok(known.made.clone()),
        Some(_) => return Err(mismatch()),
        None => {}
    }
    let made = make(state, request)?;
    let token = Token { id, digest, made: made.clone(), at: call.now, tags: Tags::new() };
    state.tokens.insert(token);
    Ok(made)
}

/// The token is known with another request.
pub(crate) fn mismatch() -> Fault {
    Fault::new(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request. Do not \
         reuse a client token with different requests, unless the requests are identical",
    )
}
