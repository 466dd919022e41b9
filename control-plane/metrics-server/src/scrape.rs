//! A kubelet's `/metrics/resource`, read through the API server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use jiff::Timestamp;

use crate::samples::{ContainerKey, Sample};

/// A kubelet that takes longer has no part in the answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Far above what a full node tells. Nobody answers for a kubelet: root on its node may have put
/// anything in its place.
const LONGEST: usize = 8 << 20;

/// Why a node could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error("the kubelet of `{node}` gave no metrics")]
    Ask {
        node: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the kubelet of `{node}` did not answer within {LIMIT:?}")]
    TimedOut { node: String },
    #[error("the kubelet of `{node}` answered {status}")]
    Refused { node: String, status: StatusCode },
    #[error("the answer of the kubelet of `{node}` ended early")]
    Broken {
        node: String,
        #[source]
        source: transport::BoxError,
    },
    #[error("the kubelet of `{node}` answered more than {LONGEST} bytes")]
    TooLong { node: String },
    #[error("`{node}` is no name of a node")]
    BadName { node: String },
}

pub(crate) async fn node(
    client: &kube::Client,
    node: &str,
    now: impl Fn() -> Timestamp,
) -> Result<Sample, ScrapeError> {
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let request = Request::get(path).body(kube::client::Body::from(Vec::new()));
    let request = request.map_err(|_| ScrapeError::BadName { node: node.to_owned() })?;
    let answer = tokio::time::timeout(LIMIT, ask(client, node, request)).await;
    let text = answer.map_err(|_| ScrapeError::TimedOut { node: node.to_owned() })??;
    Ok(parse(&String::from_utf8_lossy(&text), now()))
}

async fn ask(
    client: &kube::Client,
    node: &str,
    request: Request<kube::client::Body>,
) -> Result<Bytes, ScrapeError> {
    let node = node.to_owned();
    let (head, body) = match client.send(request).await {
        Ok(response) => response.into_parts(),
        Err(source) => return Err(ScrapeError::Ask { node, source: Box::new(source) }),
    };
    if !head.status.is_success() {
        return Err(ScrapeError::Refused { node, status: head.status });
    }
    match transport::collect(body, LONGEST).await {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(ScrapeError::TooLong { node }),
        Err(error) => Err(ScrapeError::Broken { node, source: error.into() }),
    }
}

/// `received` is the time of points that carry none.
fn parse(text: &str, received: Timestamp) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|it| !it.starts_with('#')) {
        let Some(line) = Line::parse(line) else { continue };
        let point = match line.name {
            "node_cpu_usage_seconds_total" | "node_memory_working_set_bytes" => {
                sample.node.get_or_insert_default()
            }
            "container_cpu_usage_seconds_total" | "container_memory_working_set_bytes" => {
                let key: ContainerKey =
                    (line.label("namespace"), line.label("pod"), line.label("container"));
                sample.containers.entry(key).or_default()
            }
            _ => continue,
        };
        if line.name.ends_with("_bytes") {
            #[expect(clippy::cast_possible_truncation, reason = "bytes")]
            let bytes = line.value.max(0.0) as u64;
            point.memory_bytes = bytes;
        } else {
            point.cpu_seconds = line.value;
            // The counter's time is the one that a rate needs.
            point.at = line.at.unwrap_or(received);
        }
    }
    sample
}

/// One sample of the Prometheus text format.
struct Line<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: f64,
    at: Option<Timestamp>,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(['{', ' '])?;
        let (name, mut rest) = text.split_at(end);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = read_labels(inner, &mut labels)?;
        }
        let mut numbers = rest.split_whitespace();
        let value: f64 = numbers.next()?.parse().ok()?;
        let millis = numbers.next().and_then(|it| it.parse().ok());
        let at = millis.and_then(|it| Timestamp::from_millisecond(it).ok());
        value.is_finite().then_some(Self { name, labels, value, at })
    }

    fn label(&self, name: &str) -> String {
        let found = self.labels.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

/// Reads `a="b",c="d"}` and returns what follows.
fn read_labels<'a>(mut text: &'a str, labels: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut is_escaped, mut end) = (String::new(), false, None);
        for (index, letter) in rest.char_indices() {
            match (is_escaped, letter) {
                (true, 'n') => value.push('\n'),
                (true, letter) => value.push(letter),
                (false, '\\') => {}
                (false, '"') => {
                    end = Some(index + 1);
                    break;
                }
                (false, letter) => value.push(letter),
            }
            is_escaped = !is_escaped && letter == '\\';
        }
        labels.push((name.trim_start_matches(',').trim().to_owned(), value));
        text = rest.get(end?..)?.trim_start_matches(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Point;

    #[test]
    fn upstreams_and_our_kubelets_are_understood() {
        let text = "# HELP node_cpu_usage_seconds_total x\n\
                    node_cpu_usage_seconds_total 12.5 1395066363000\n\
                    node_memory_working_set_bytes 1.5e+06 1395066363000\n\
                    container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2\n\
                    container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4096\n\
                    container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1\n\
                    scrape_error 0\n";
        let received = Timestamp::from_second(7).unwrap();
        let sample = parse(text, received);
        let node = sample.node.unwrap();
        assert_eq!((node.cpu_seconds, node.memory_bytes), (12.5, 1_500_000));
        assert_eq!(node.at.as_second(), 1_395_066_363);
        let key = ("n".to_owned(), "p".to_owned(), "c".to_owned());
        let expected = Point { at: received, cpu_seconds: 2.0, memory_bytes: 4096 };
        assert_eq!(sample.containers.get(&key), Some(&expected));
        assert_eq!(sample.containers.len(), 1);
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for line in ["", "a", "a{b=\"c\"", "a{b=\"c", "a x", "a NaN", "a{b} 1"] {
            assert!(Line::parse(line).is_none(), "{line}");
        }
        let escaped = Line::parse(r#"a{b="x\"y\\z",c="d"} 1"#).unwrap();
        assert_eq!((escaped.label("b"), escaped.label("c")), (r#"x"y\z"#.into(), "d".into()));
    }
}
