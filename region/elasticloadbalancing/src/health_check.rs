//! Health checks: what `TCP:80` and `HTTP:10256/healthz` mean, and within which bounds.

use aws_elasticloadbalancing::instance::{
    self, ConfigureHealthCheckRequest, ConfigureHealthCheckResponse,
};
use aws_wire::Fault;

use crate::{
    Call, ElasticLoadBalancing, faults,
    records::{CheckProtocol, HealthCheck, Target},
};

pub(crate) async fn configure(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: ConfigureHealthCheckRequest,
) -> Result<ConfigureHealthCheckResponse, Fault> {
    let wanted = read(&request.health_check)?;
    let health_check = Some(answer(&wanted));
    service.update(&request.load_balancer_name, |it| {
        it.health_check = wanted;
        Ok(())
    })?;
    Ok(ConfigureHealthCheckResponse { health_check })
}

pub(crate) fn answer(health_check: &HealthCheck) -> instance::HealthCheck {
    instance::HealthCheck {
        target: health_check.target.to_string(),
        interval: health_check.interval.into(),
        timeout: health_check.timeout.into(),
        unhealthy_threshold: health_check.unhealthy_threshold.into(),
        healthy_threshold: health_check.healthy_threshold.into(),
    }
}

fn read(asked: &instance::HealthCheck) -> Result<HealthCheck, Fault> {
    let number = |name: &str, value: i64, least: u16, most: u16| {
        let value = u16::try_from(value).ok().filter(|it| (least..=most).contains(it));
        value.ok_or_else(|| {
            faults::validation(format!("HealthCheck {name} must be between {least} and {most}"))
        })
    };
    let wanted = HealthCheck {
        target: target(&asked.target)?,
        interval: number("interval", asked.interval, 5, 300)?,
        timeout: number("timeout", asked.timeout, 2, 60)?,
        unhealthy_threshold: number("unhealthy threshold", asked.unhealthy_threshold, 2, 10)?,
        healthy_threshold: number("healthy threshold", asked.healthy_threshold, 2, 10)?,
    };
    if wanted.timeout >= wanted.interval {
        return Err(faults::validation("Health check interval must be greater than the timeout."));
    }
    Ok(wanted)
}

fn target(text: &str) -> Result<Target, Fault> {
    let (protocol, rest) = text.split_once(':').unwrap_or((text, ""));
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => CheckProtocol::Tcp,
        "SSL" => CheckProtocol::Ssl,
        "HTTP" => CheckProtocol::Http,
        "HTTPS" => CheckProtocol::Https,
        _ => {
            return Err(faults::validation(
                "HealthCheck Target must begin with one of HTTP, TCP, HTTPS, SSL",
            ));
        }
    };
    let name = protocol.name();
    let (port, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let has_path = matches!(protocol, CheckProtocol::Http | CheckProtocol::Https);
    match port.parse::<u16>().ok().filter(|it| *it > 0) {
        Some(port) if has_path != path.is_empty() && !path.contains(char::is_whitespace) => {
            Ok(Target { protocol, port, path: path.to_owned() })
        }
        _ if has_path => Err(faults::validation(format!(
            "HealthCheck {name} Target must specify a port followed by a path that begins with a \
             slash. e.g. {name}:80/ping/this/path"
        ))),
        _ => Err(faults::validation(format!(
            "HealthCheck {name} Target must specify only a port. e.g. {name}:80"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_protocol_a_port_and_for_http_a_path() {
        for text in ["TCP:80", "SSL:30443", "HTTP:10256/healthz", "HTTPS:1/a?b=c"] {
            assert_eq!(target(text).unwrap().to_string(), text);
        }
        assert_eq!(target("tcp:80").unwrap().to_string(), "TCP:80");
        for text in ["", "TCP", "TCP:0", "TCP:80/x", "HTTP:80", "HTTP:/x", "UDP:53", "HTTP:1/a b"] {
            assert_eq!(target(text).unwrap_err().code, "ValidationError", "{text}");
        }
    }
}
