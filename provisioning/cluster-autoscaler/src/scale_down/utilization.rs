//! How much of a node its pods ask for: the larger share of CPU and memory; on a node with GPUs,
//! the share of these alone.

use k8s_openapi::api::core::v1::Node;
use resources::{Amounts, node_allocatable};

use crate::{options::GroupOptions, world::PodFact};

const GPUS: [&str; 3] = ["nvidia.com/gpu", "amd.com/gpu", "aws.amazon.com/neuron"];

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Utilization {
    pub cpu: f64,
    pub memory: f64,
    pub gpu: Option<f64>,
}

impl Utilization {
    pub(super) fn of<'a>(
        node: &Node,
        pods: impl Iterator<Item = &'a PodFact>,
        options: &GroupOptions,
    ) -> Self {
        let mut taken = Amounts::default();
        let mut allocatable = node_allocatable(node);
        for pod in pods {
            if (pod.is_mirror() && options.ignore_mirror_pods)
                || (pod.is_of_daemon_set() && options.ignore_daemon_sets)
            {
                // What nobody else could use does not count as room either.
                allocatable.subtract(&pod.info.requests);
            } else if !pod.info.is_terminating {
                taken.add(&pod.info.requests);
            }
        }
        let gpu = GPUS.iter().find(|it| allocatable.amount(it) > 0);
        Self {
            cpu: share(taken.cpu_millis, allocatable.cpu_millis),
            memory: share(taken.memory, allocatable.memory),
            gpu: gpu.map(|it| share(taken.amount(it), allocatable.amount(it))),
        }
    }

    /// What is compared with the threshold.
    pub fn share(&self) -> f64 {
        self.gpu.unwrap_or_else(|| self.cpu.max(self.memory))
    }

    pub(super) fn is_of_gpu(&self) -> bool {
        self.gpu.is_some()
    }
}

/// As upstream's events print it.
impl std::fmt::Display for Utilization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match (self.gpu, self.cpu >= self.memory) {
            (Some(_), _) => "nvidia.com/gpu",
            (None, true) => "cpu",
            (None, false) => "memory",
        };
        let (cpu, memory, gpu) = (self.cpu, self.memory, self.gpu.unwrap_or(0.0));
        write!(f, "{{{cpu} {memory} {gpu} 0  {name} {}}}", self.share())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(taken: i64, all: i64) -> f64 {
    if all > 0 { taken as f64 / all as f64 } else { 0.0 }
}
