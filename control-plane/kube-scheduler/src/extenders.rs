//! Extenders: HTTP servers that have a say in where pods go.
//!
//! Each may refuse nodes (`filterVerb`), add to their scores (`prioritizeVerb`), have a say in whose
//! place a pod takes (`preemptVerb`) and bind the pod itself (`bindVerb`). One with managed resources
//! is asked about pods only that ask for one of them. One that is ignorable and fails is passed by; any
//! other one that fails makes the attempt fail, and the pod is tried again.
//!
//! Upstream: `pkg/scheduler/extender.go`, `findNodesThatPassExtenders`, `callExtenders`.
//! Deviation: a node that an extender returns and was not asked about is refused, also where it was
//! given whole nodes.

mod ask;
mod client;
#[cfg(test)]
mod tests;
mod wire;

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use scheduling::Candidate;
use serde_json::Value;

pub(crate) use self::ask::{Passed, ask, gone};
pub use self::client::Exchange;
pub(crate) use self::client::ExtenderError;
use self::wire::Filtered;
use crate::config::extender::ExtenderConfig;

/// What an extender's best mark is worth beside a plug-in's: 100 to its 10.
const SCALE: i64 = 10;

/// One of them, as the configuration has it.
#[derive(Clone)]
pub struct Extender {
    config: ExtenderConfig,
    exchange: Exchange,
}

impl fmt::Debug for Extender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extender").field(&self.config).finish()
    }
}

/// In the order in which they are asked: those that may fail without harm last.
pub(crate) fn dialled(configs: &[ExtenderConfig]) -> Result<Vec<Extender>, ExtenderError> {
    let mut all = configs
        .iter()
        .map(|it| Ok(Extender::new(it.clone(), client::dial(it)?)))
        .collect::<Result<Vec<_>, ExtenderError>>()?;
    all.sort_by_key(|it| it.config.ignorable);
    Ok(all)
}

impl Extender {
    /// One that is asked by `exchange`.
    pub fn new(config: ExtenderConfig, exchange: Exchange) -> Self {
        Self { config, exchange }
    }

    pub(crate) fn is_ignorable(&self) -> bool {
        self.config.ignorable
    }

    pub(crate) fn preempts(&self) -> bool {
        !self.config.preempt_verb.is_empty()
    }

    pub(crate) fn url(&self) -> &str {
        &self.config.url_prefix
    }

    pub(crate) fn is_interested(&self, pod: &Pod) -> bool {
        let managed = &self.config.managed_resources;
        let asks = |it: &Container| {
            let resources = it.resources.iter();
            let mut named = resources.flat_map(|it| it.requests.iter().chain(&it.limits).flatten());
            named.any(|(name, _)| managed.iter().any(|it| it.name == *name))
        };
        let spec = pod.spec.as_ref();
        let containers = spec
            .into_iter()
            .flat_map(|it| it.containers.iter().chain(it.init_containers.iter().flatten()));
        managed.is_empty() || containers.into_iter().any(asks)
    }

    /// What it says of the nodes; without the verb, nothing.
    async fn filter(&self, pod: &Pod, nodes: &[&Node]) -> Result<Filtered, ExtenderError> {
        let names: Vec<String> = nodes.iter().filter_map(|it| it.metadata.name.clone()).collect();
        if self.config.filter_verb.is_empty() {
            return Ok(Filtered { nodes: names, ..Filtered::default() });
        }
        let arguments = wire::arguments(pod, nodes, self.config.node_cache_capable);
        let answer = self.send(&self.config.filter_verb, &arguments).await?;
        let filtered = wire::filtered(answer, self.config.node_cache_capable)
            .map_err(|message| ExtenderError::Answer { message })?;
        match filtered.nodes.iter().find(|it| !names.contains(it)) {
            Some(node) => Err(ExtenderError::UnknownNode {
                url: self.config.url_prefix.clone(),
                node: node.clone(),
            }),
            None => Ok(filtered),
        }
    }

    /// What it adds to the scores of nodes, weighted and on the plug-ins' scale.
    async fn prioritize(
        &self,
        pod: &Pod,
        nodes: &[&Node],
    ) -> Result<BTreeMap<String, i64>, ExtenderError> {
        if self.config.prioritize_verb.is_empty() {
            return Ok(BTreeMap::new());
        }
        let arguments = wire::arguments(pod, nodes, self.config.node_cache_capable);
        let answer = self.send(&self.config.prioritize_verb, &arguments).await?;
        let factor = self.config.weight.saturating_mul(SCALE);
        let scores = wire::scores(answer).map_err(|message| ExtenderError::Answer { message })?;
        Ok(scores.into_iter().map(|(node, it)| (node, it.saturating_mul(factor))).collect())
    }

    /// The candidates that it leaves, perhaps with other victims.
    async fn preempt(
        &self,
        pod: &Pod,
        candidates: &[Candidate],
        whole: impl Fn(&scheduling::PodInfo) -> Option<Value>,
        there: impl Fn(&str, &str) -> Option<std::sync::Arc<scheduling::PodInfo>>,
    ) -> Result<Vec<Candidate>, ExtenderError> {
        let by_uid = self.config.node_cache_capable;
        let arguments = wire::preemption(pod, candidates, by_uid, whole);
        let answer = self.send(&self.config.preempt_verb, &arguments).await?;
        let left = wire::victims(answer).map_err(|message| ExtenderError::Answer { message })?;
        let mut chosen = Vec::new();
        for (node, victims) in left {
            let pods = victims.uids.iter().map(|uid| {
                there(&node, uid).ok_or_else(|| ExtenderError::UnknownPod {
                    url: self.config.url_prefix.clone(),
                    uid: uid.clone(),
                    node: node.clone(),
                })
            });
            let pods = pods.collect::<Result<Vec<_>, _>>()?;
            if pods.is_empty() && self.config.ignorable {
                continue;
            }
            if pods.is_empty() {
                return Err(ExtenderError::NoVictims { node });
            }
            chosen.push(Candidate { node, victims: pods, violations: victims.violations });
        }
        Ok(chosen)
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), ExtenderError> {
        let answer = self.send(&self.config.bind_verb, &wire::binding(pod, node)).await?;
        match wire::error(answer) {
            Some(message) => Err(ExtenderError::Answer { message }),
            None => Ok(()),
        }
    }

    async fn send(&self, verb: &str, arguments: &Value) -> Result<Value, ExtenderError> {
        client::send(&self.exchange, &self.config.url_prefix, verb, arguments).await
    }
}

/// Has the extender that binds pods like this one bind it; `None`: none does, it is the scheduler's.
pub(crate) async fn bind(
    extenders: &[Extender],
    pod: &Pod,
    node: &str,
) -> Option<Result<(), ExtenderError>> {
    let binds = |it: &&Extender| !it.config.bind_verb.is_empty() && it.is_interested(pod);
    for extender in extenders.iter().filter(binds) {
        match extender.bind(pod, node).await {
            Err(error) if extender.is_ignorable() => passed_by(extender, &error),
            result => return Some(result),
        }
    }
    None
}

fn passed_by(extender: &Extender, error: &ExtenderError) {
    let error = telemetry::chain(error).to_string();
    tracing::info!(extender = extender.url(), error, "passed by an extender that failed");
}
