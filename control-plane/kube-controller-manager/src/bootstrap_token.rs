//! Deletes bootstrap tokens that have expired.
//!
//! Upstream: `pkg/controller/bootstrap/tokencleaner.go`.

use controller::{Action, ApplyError, Key, Queue, StoreSpec, apply, reflect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::Context;

const NAMESPACE: &str = "kube-system";
const EXPIRATION: &str = "expiration";

pub(crate) async fn run(context: Context) {
    let spec = StoreSpec::default().fields("type=bootstrap.kubernetes.io/token").trim(trim);
    let secrets = reflect::<Secret>(context.accounts.first(), spec, &context.scope);
    let queue = Queue::new();
    let on = queue.clone();
    secrets.subscribe(move |change| on.add(change.key.clone()));
    let reconcile = |key: Key| {
        let (context, secret) = (context.clone(), secrets.get(&key));
        async move {
            let Some(secret) = secret.filter(|_| key.namespace == NAMESPACE) else {
                return Ok(Action::Done);
            };
            clean(&context, &secret).await
        }
    };
    controller::run("tokencleaner", queue, 1, reconcile).await;
}

/// Of the secrets only when they expire is kept here.
fn trim(secret: &mut Secret) {
    if let Some(data) = &mut secret.data {
        data.retain(|name, _| name == EXPIRATION);
    }
}

async fn clean(context: &Context, secret: &Secret) -> Result<Action, ApplyError> {
    let Some(expires) = expiration(secret) else { return Ok(Action::Done) };
    let left = context.clock.until(expires);
    if !left.is_zero() {
        return Ok(Action::After(left));
    }
    apply::delete(&context.client, secret).await?;
    Ok(Action::Done)
}

/// A date that cannot be read counts as long past, as upstream has it.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    let text = secret.data.as_ref()?.get(EXPIRATION).filter(|it| !it.0.is_empty())?;
    let parsed = std::str::from_utf8(&text.0).ok().and_then(|it| it.parse().ok());
    Some(parsed.unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_a_date_stays_and_one_with_a_wrong_date_is_over() {
        let secret = |text: Option<&str>| {
            let data = text.map(|it| {
                let value = k8s_openapi::ByteString(it.as_bytes().to_vec());
                [(EXPIRATION.to_owned(), value)].into()
            });
            Secret { data, ..Secret::default() }
        };
        assert_eq!(expiration(&secret(None)), None);
        let date = "2026-01-01T00:00:00Z";
        assert_eq!(expiration(&secret(Some(date))), date.parse().ok());
        assert_eq!(expiration(&secret(Some("soon"))), Some(Timestamp::UNIX_EPOCH));
    }
}
