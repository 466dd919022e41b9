//! The deadline of a request to the API server, and its failure as one line.

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// The answer, or what the API server (or whatever is in between) said instead.
pub(crate) async fn within<T>(
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(telemetry::chain(&error).to_string()),
        Err(_) => Err("the API server did not answer".to_owned()),
    }
}
