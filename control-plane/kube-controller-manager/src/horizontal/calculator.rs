//! How many pods a metric asks for.
//!
//! Pods that are not ready yet, and pods that no metric is known of, are counted so that they hold
//! back a change and never cause one: at nothing when it would grow, at the full when it would shrink.
//!
//! Upstream: `replica_calculator.go`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior},
    core::v1::Pod,
};
use resources::Quantity;

use crate::pods;

/// By which part more or less than the goal may be used before anything changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerances {
    /// As the autoscaler's behavior says, or everybody's.
    pub(super) fn of(behavior: Option<&HorizontalPodAutoscalerBehavior>, usual: f64) -> Self {
        let own = |rules: Option<&HPAScalingRules>| {
            let own = rules?.tolerance.as_ref()?.0.parse::<Quantity>().ok()?;
            Some(own.millis() as f64 / 1000.0)
        };
        let up = own(behavior.and_then(|it| it.scale_up.as_ref())).unwrap_or(usual);
        let down = own(behavior.and_then(|it| it.scale_down.as_ref())).unwrap_or(usual);
        Self { up, down }
    }

    fn hold(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What is used by all pods together, and what is to be: the number that there is changes by the ratio.
/// Without any pods the ratio itself is the number.
pub(super) fn by_ratio(
    (used, target): (i64, i64),
    current: i32,
    pods: &[Arc<Pod>],
    tolerances: Tolerances,
) -> Result<i32, String> {
    let ratio = used as f64 / target.max(1) as f64;
    if current == 0 {
        return Ok(ceil(ratio));
    }
    if tolerances.hold(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        let why = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {why}"));
    }
    let serves = |it: &&Arc<Pod>| pods::phase(it) == "Running" && pods::is_ready(it);
    let ready = pods.iter().filter(serves).count();
    Ok(ceil(ratio * ready as f64))
}

/// What is used by all pods together, and what each is to have of it: the number, and what each has now.
pub(super) fn per_pod(
    (used, target): (i64, i64),
    replicas: i32,
    tolerances: Tolerances,
) -> (i32, i64) {
    let (used_all, target) = (used as f64, target.max(1) as f64);
    let is_near = replicas > 0 && tolerances.hold(used_all / (target * f64::from(replicas)));
    let wanted = if is_near { replicas } else { ceil(used_all / target) };
    let shares = i64::from(replicas.max(1));
    (wanted, used.saturating_add(shares - 1).div_euclid(shares))
}

/// What a pod used, in thousandths, and over which time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) millis: i64,
    pub(super) at: Timestamp,
    pub(super) window: Duration,
}

/// What the pods should use on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// Percent of what they request.
    Utilization(i64),
    /// Thousandths.
    AverageValue(i64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    pub(super) utilization: Option<i64>,
    pub(super) average_millis: i64,
}

/// One question to the calculator.
pub(super) struct Question<'a> {
    pub(super) current: i32,
    pub(super) target: Target,
    pub(super) is_cpu: bool,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) samples: BTreeMap<String, Sample>,
    /// What a pod requests of the resource, in thousandths.
    pub(super) request: &'a dyn Fn(&Pod) -> Result<i64, String>,
    pub(super) tolerances: Tolerances,
    pub(super) warm_up: WarmUp,
    pub(super) now: Timestamp,
}

/// What a pod uses of the CPU while it starts says nothing about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WarmUp {
    /// Upstream's `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub(super) initialization: Duration,
    /// Upstream's `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub(super) readiness: Duration,
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

impl Question<'_> {
    pub(super) fn answer(mut self) -> Result<Proposal, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let groups = self.groups();
        for name in groups.ignored.iter().chain(&groups.unready) {
            self.samples.remove(name);
        }
        if self.samples.is_empty() {
            let why = "did not receive metrics for targeted pods (pods might be unready)";
            return Err(why.into());
        }
        let requests = self.requests()?;
        let (ratio, proposal) = self.ratio(&requests)?;
        let keep = Proposal { replicas: self.current, ..proposal };
        let grows_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !grows_unready && groups.missing.is_empty() {
            if self.tolerances.hold(ratio) {
                return Ok(keep);
            }
            return Ok(Proposal { replicas: ceil(ratio * groups.ready as f64), ..proposal });
        }
        self.fill(&groups, ratio, grows_unready, &requests);
        let (new, _) = self.ratio(&requests)?;
        let turns = (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0);
        if self.tolerances.hold(new) || turns {
            return Ok(keep);
        }
        let replicas = ceil(new * self.samples.len() as f64);
        let is_backwards =
            (new < 1.0 && replicas > self.current) || (new > 1.0 && replicas < self.current);
        if is_backwards { Ok(keep) } else { Ok(Proposal { replicas, ..proposal }) }
    }

    fn groups(&self) -> Groups {
        let mut groups = Groups::default();
        for pod in self.pods {
            let name = pod.metadata.name.clone().unwrap_or_default();
            if object::is_terminating(&**pod) || pods::phase(pod) == "Failed" {
                groups.ignored.push(name);
            } else if pods::phase(pod) == "Pending" {
                groups.unready.push(name);
            } else {
                match self.samples.get(&name) {
                    None => groups.missing.push(name),
                    Some(it) if self.is_cpu && self.is_starting(pod, it) => {
                        groups.unready.push(name);
                    }
                    Some(_) => groups.ready += 1,
                }
            }
        }
        groups
    }

    fn is_starting(&self, pod: &Pod, sample: &Sample) -> bool {
        let started = pod.status.as_ref().and_then(|it| it.start_time.as_ref()).map(|it| it.0);
        let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else {
            return true;
        };
        let changed = ready.last_transition_time.as_ref().map_or(started, |it| it.0);
        if started + self.warm_up.initialization > self.now {
            return ready.status == "False" || sample.at < changed + sample.window;
        }
        ready.status == "False" && started + self.warm_up.readiness > changed
    }

    fn requests(&self) -> Result<BTreeMap<String, i64>, String> {
        if let Target::AverageValue(_) = self.target {
            return Ok(BTreeMap::new());
        }
        let requests = self
            .pods
            .iter()
            .map(|it| Ok((it.metadata.name.clone().unwrap_or_default(), (self.request)(it)?)));
        requests.collect()
    }

    /// How much more (or less) is used than is to be.
    fn ratio(&self, requests: &BTreeMap<String, i64>) -> Result<(f64, Proposal), String> {
        let used: i128 = self.samples.values().map(|it| i128::from(it.millis)).sum();
        let count = i128::try_from(self.samples.len()).unwrap_or(1).max(1);
        let average_millis = narrow(used / count);
        let (ratio, utilization) = match self.target {
            Target::AverageValue(target) => (average_millis as f64 / target.max(1) as f64, None),
            Target::Utilization(target) => {
                let known = self.samples.keys().filter_map(|it| requests.get(it));
                let requested: i128 = known.map(|it| i128::from(*it)).sum();
                if requested == 0 {
                    return Err("no metrics returned matched known pods".into());
                }
                let percent = narrow(used * 100 / requested);
                (percent as f64 / target.max(1) as f64, Some(percent))
            }
        };
        Ok((ratio, Proposal { replicas: self.current, utilization, average_millis }))
    }

    fn fill(
        &mut self,
        groups: &Groups,
        ratio: f64,
        grows_unready: bool,
        requests: &BTreeMap<String, i64>,
    ) {
        let (at, window) = (self.now, Duration::ZERO);
        for name in &groups.missing {
            let millis = match self.target {
                _ if ratio > 1.0 => 0,
                Target::AverageValue(target) => target,
                Target::Utilization(target) => {
                    let all = requests.get(name).copied().unwrap_or(0);
                    narrow(i128::from(all) * i128::from(target.max(100)) / 100)
                }
            };
            self.samples.insert(name.clone(), Sample { millis, at, window });
        }
        if grows_unready {
            for name in &groups.unready {
                self.samples.insert(name.clone(), Sample { millis: 0, at, window });
            }
        }
    }
}

fn narrow(it: i128) -> i64 {
    i64::try_from(it).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a number of pods, and saturating")]
fn ceil(it: f64) -> i32 {
    it.ceil() as i32
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENTH: Tolerances = Tolerances { up: 0.1, down: 0.1 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn pod(name: &str, state: &str) -> Arc<Pod> {
        let phase = if state == "pending" { "Pending" } else { "Running" };
        let ready = if state == "starting" { "False" } else { "True" };
        let deleted = (state == "leaving").then_some("1970-01-01T00:00:00Z");
        let value = json!({
            "metadata": { "name": name, "deletionTimestamp": deleted },
            "status": { "phase": phase, "startTime": "1970-01-01T00:00:00Z",
                "conditions": [{ "type": "Ready", "status": ready,
                    "lastTransitionTime": "1970-01-01T00:00:01Z" }] },
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// Pods of this state that use so much of the 1000m that each requests; `None`: not known.
    fn asked(
        current: i32,
        target: Target,
        pods_: &[(&str, Option<i64>)],
    ) -> Result<Proposal, String> {
        let name = |index: usize| format!("p{index}");
        let all: Vec<_> =
            pods_.iter().enumerate().map(|(index, (state, _))| pod(&name(index), state)).collect();
        let samples = pods_.iter().enumerate().filter_map(|(index, (_, used))| {
            let sample = Sample { millis: (*used)?, at: at(1000), window: Duration::from_secs(30) };
            Some((name(index), sample))
        });
        let question = Question {
            current,
            target,
            is_cpu: true,
            pods: &all,
            samples: samples.collect(),
            request: &|_| Ok(1000),
            tolerances: TENTH,
            warm_up: WarmUp {
                initialization: Duration::from_secs(300),
                readiness: Duration::from_secs(30),
            },
            now: at(1000),
        };
        question.answer()
    }

    fn replicas(current: i32, percent: i64, pods: &[(&str, Option<i64>)]) -> i32 {
        asked(current, Target::Utilization(percent), pods).unwrap().replicas
    }

    #[test]
    fn more_use_asks_for_more_pods_and_small_differences_for_none() {
        let ready = |used: i64| ("ready", Some(used));
        assert_eq!(replicas(2, 50, &[ready(1000), ready(1000)]), 4);
        assert_eq!(replicas(2, 50, &[ready(540), ready(550)]), 2, "within the tolerance");
        assert_eq!(replicas(4, 50, &[ready(100), ready(100), ready(100), ready(100)]), 1);
        assert_eq!(replicas(2, 50, &[ready(600), ready(600)]), 3, "rounded up");
        let value = asked(2, Target::AverageValue(100), &[ready(300), ready(300)]).unwrap();
        assert_eq!((value.replicas, value.average_millis, value.utilization), (6, 300, None));
    }

    #[test]
    fn who_is_not_ready_or_not_known_holds_a_change_back() {
        let ready = |used: i64| ("ready", Some(used));
        assert_eq!(replicas(3, 50, &[ready(1000), ready(1000), ("pending", None)]), 4);
        assert_eq!(replicas(3, 50, &[ready(1000), ready(1000), ("starting", Some(0))]), 4);
        assert_eq!(replicas(3, 50, &[ready(1000), ready(1000), ("ready", None)]), 4);
        assert_eq!(
            replicas(3, 50, &[ready(200), ready(200), ("ready", None)]),
            3,
            "it may be busy"
        );
        assert_eq!(replicas(2, 50, &[ready(1000), ("leaving", Some(1000))]), 2);
    }

    #[test]
    fn without_pods_or_metrics_nothing_is_proposed() {
        let utilization = Target::Utilization(50);
        assert_eq!(
            asked(1, utilization, &[]).unwrap_err(),
            "no pods returned by selector while calculating replica count"
        );
        assert_eq!(
            asked(1, utilization, &[("pending", None)]).unwrap_err(),
            "did not receive metrics for targeted pods (pods might be unready)"
        );
    }

    #[test]
    fn what_all_pods_share_asks_for_pods_by_its_ratio_or_by_each_pods_part() {
        let three: Vec<_> = ["ready", "ready", "starting"].map(|it| pod(it, it)).into();
        let ratio = |used, current| by_ratio((used, 1000), current, &three, TENTH);
        assert_eq!(ratio(1100, 3), Ok(3), "within the tolerance");
        assert_eq!(ratio(3000, 3), Ok(6), "only pods that serve count");
        assert_eq!(ratio(2500, 0), Ok(3), "from nothing");
        assert!(by_ratio((3000, 1000), 3, &[], TENTH).is_err());
        assert_eq!(per_pod((3000, 1000), 3, TENTH), (3, 1000));
        assert_eq!(per_pod((3200, 1000), 3, TENTH), (3, 1067), "within the tolerance");
        assert_eq!(per_pod((5000, 1000), 3, TENTH), (5, 1667));
        assert_eq!(per_pod((5000, 1000), 0, TENTH), (5, 5000));
    }

    #[test]
    fn a_behavior_may_tolerate_more_or_less_than_others_in_each_direction() {
        let own: HorizontalPodAutoscalerBehavior = serde_json::from_value(json!({
            "scaleUp": { "tolerance": "0" }, "scaleDown": { "tolerance": "0.5" } }))
        .unwrap();
        let tolerances = Tolerances::of(Some(&own), 0.1);
        assert_eq!(tolerances, Tolerances { up: 0.0, down: 0.5 });
        assert_eq!(per_pod((1001, 1000), 1, tolerances).0, 2);
        assert_eq!(per_pod((2500, 1000), 4, tolerances).0, 4);
        assert_eq!(Tolerances::of(None, 0.1), TENTH);
    }
}
