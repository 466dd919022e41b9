//! `nodestead run ecr-credential-provider`: one request in, one response out.

use std::io::Read;

use aws_ecr::token::{GetAuthorizationToken, GetAuthorizationTokenRequest};
use clock::Clock;
use serde_json::Value;

use crate::{ProvideError, Registry, image_of, registry_of, response};

/// A request is an image's name and little more.
const LIMIT: u64 = 1 << 20;

/// Answers the kubelet's question on standard input with a password for the image's registry.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(_args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut request = String::new();
    std::io::stdin()
        .take(LIMIT)
        .read_to_string(&mut request)
        .map_err(|source| ProvideError::Read { source })?;
    println!("{}", provide(&request, Clock::system()).await?);
    Ok(())
}

async fn provide(request: &str, clock: Clock) -> Result<Value, ProvideError> {
    let image = image_of(request)?;
    let Some(registry) = registry_of(&image)? else { return response(None, clock.now()) };
    let (token, expires) = password(&registry, clock).await?;
    response(Some((&registry, &token, expires)), clock.now())
}

/// The registry's own region is asked, with the environment's credentials or the instance's.
async fn password(registry: &Registry, clock: Clock) -> Result<(String, f64), ProvideError> {
    let variable = |name: &str| std::env::var(name).ok();
    let client = aws_wire::client::from_environment(variable, Some(&registry.region), clock)
        .map_err(|source| ProvideError::Configure { source })?;
    let request = GetAuthorizationTokenRequest { registry_ids: vec![registry.account.clone()] };
    let answer = client.call::<GetAuthorizationToken>(request).await;
    let answer = answer.map_err(|source| ProvideError::Call { source })?;
    let data = answer.authorization_data.into_iter().next().ok_or(ProvideError::Answer)?;
    Ok((data.authorization_token, data.expires_at))
}
