//! `/healthz`: the process answers, its loops go round; and `/metrics/slis`: what was found so far.
//!
//! Upstream: `k8s.io/apiserver/pkg/server/healthz`, `k8s.io/component-base/metrics/prometheus/slis`.

use std::{collections::BTreeSet, sync::Arc};

use http::{Response, StatusCode};
use transport::Body;

use super::{Server, has_query, metrics, not_found, query_values, text};
use crate::{
    heartbeat::Heartbeat,
    metrics::{Metrics, text::Exposition},
};

/// Found good, or why not.
type Check = (&'static str, Result<(), &'static str>);

#[derive(Clone)]
pub(super) struct Health {
    pub heartbeat: Arc<Heartbeat>,
    pub metrics: Arc<Metrics>,
}

pub(super) fn is_sli(name: &str) -> bool {
    name.starts_with("kubernetes_healthcheck")
}

impl Health {
    fn checks(&self) -> [Check; 3] {
        [("ping", Ok(())), ("log", Ok(())), ("syncloop", self.heartbeat.check())]
    }

    pub(super) fn answer(&self, parts: &[&str], query: Option<&str>) -> Response<Body> {
        match parts {
            ["healthz"] => self.all(query),
            ["healthz", name] => match self.checks().into_iter().find(|it| it.0 == *name) {
                Some((_, Ok(()))) => text(StatusCode::OK, "ok"),
                Some((_, Err(error))) => {
                    let message = format!("internal server error: {error}\n");
                    text(StatusCode::INTERNAL_SERVER_ERROR, message)
                }
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    fn all(&self, query: Option<&str>) -> Response<Body> {
        let mut excluded: BTreeSet<_> = query_values(query, "exclude").into_iter().collect();
        excluded.remove("");
        let (mut lines, mut is_good) = (String::new(), true);
        for (name, found) in self.checks() {
            if excluded.remove(name) {
                lines += &format!("[+]{name} excluded: ok\n");
                continue;
            }
            self.note(name, found.is_ok());
            is_good &= found.is_ok();
            lines += &match found {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(_) => format!("[-]{name} failed: reason withheld\n"),
            };
        }
        if !excluded.is_empty() {
            let names: Vec<_> = excluded.iter().map(|it| format!("{it:?}")).collect();
            let names = names.join(",");
            lines +=
                &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
        }
        match is_good {
            true if !has_query(query, "verbose") => text(StatusCode::OK, "ok"),
            true => text(StatusCode::OK, format!("{lines}healthz check passed\n")),
            false => {
                let page = format!("{lines}healthz check failed\n");
                text(StatusCode::INTERNAL_SERVER_ERROR, page)
            }
        }
    }

    fn note(&self, name: &str, is_good: bool) {
        let of = [("name", name), ("type", "healthz")];
        self.metrics.set("kubernetes_healthcheck", &of, f64::from(u8::from(is_good)));
        let status = if is_good { "success" } else { "error" };
        let labels = [of[0], ("status", status), of[1]];
        self.metrics.add("kubernetes_healthchecks_total", &labels, 1.0);
    }
}

impl Server {
    pub(super) fn metrics_slis(&self) -> Response<Body> {
        let mut page = Exposition::default();
        self.context.metrics.write(&mut page, is_sli);
        metrics::answer(page)
    }

    pub(super) fn reset_slis(&self) -> Response<Body> {
        self.context.metrics.reset(is_sli);
        text(StatusCode::OK, "metrics reset\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_loop_is_told_by_name_and_in_all_and_counted() {
        let heartbeat = Arc::new(Heartbeat::new(Duration::from_secs(60)));
        heartbeat.beat("pods");
        let health = Health { heartbeat, metrics: Arc::default() };
        let ask = async |parts: &[&str], query| {
            let (head, body) = health.answer(parts, query).into_parts();
            let body = transport::collect(body, 1000).await.unwrap().unwrap();
            (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
        };
        assert_eq!(ask(&["healthz"], None).await, (200, "ok".to_owned()));
        tokio::time::sleep(Duration::from_secs(301)).await;
        let all =
            "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n";
        assert_eq!(ask(&["healthz"], None).await, (500, all.to_owned()));
        let one = "internal server error: sync Loop took longer than expected\n";
        assert_eq!(ask(&["healthz", "syncloop"], None).await, (500, one.to_owned()));
        assert_eq!(ask(&["healthz", "ping"], None).await.0, 200);
        let spared = "[+]ping ok\n[+]log ok\n[+]syncloop excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nhealthz check passed\n";
        let query = Some("verbose&exclude=syncloop&exclude=x");
        assert_eq!(ask(&["healthz"], query).await, (200, spared.to_owned()));

        let told = || {
            let mut page = Exposition::default();
            health.metrics.write(&mut page, is_sli);
            page.finish()
        };
        let now = "kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 0\n";
        let total = "{name=\"syncloop\",status=\"error\",type=\"healthz\"} 1\n";
        assert!(told().contains(now) && told().contains(total), "{}", told());
        health.metrics.reset(is_sli);
        assert_eq!(told(), "");
    }
}
