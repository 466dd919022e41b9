//! Which of several groups grows: each expander keeps its best, the next one chooses among those,
//! and what is left over is chosen from at random.
//!
//! Upstream: `expander/*`. Deviation: no `price` (upstream has no prices on AWS) and no `grpc`.

mod priority;

pub use self::priority::Priorities;
use crate::{scale_up::Candidate, template::Template};

/// By upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expander {
    Random,
    MostPods,
    LeastWaste,
    LeastNodes,
    Priority,
}

impl Expander {
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "random" => Ok(Self::Random),
            "most-pods" => Ok(Self::MostPods),
            "least-waste" => Ok(Self::LeastWaste),
            "least-nodes" => Ok(Self::LeastNodes),
            "priority" => Ok(Self::Priority),
            other => Err(format!("expander {other} not supported")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::MostPods => "most-pods",
            Self::LeastWaste => "least-waste",
            Self::LeastNodes => "least-nodes",
            Self::Priority => "priority",
        }
    }
}

/// The chosen candidate and why; `lot` decides what is left to chance.
pub(crate) fn choose<'a>(
    candidates: Vec<&'a Candidate>,
    expanders: &[Expander],
    priorities: Option<&Priorities>,
    lot: u64,
) -> Option<(&'a Candidate, String)> {
    let mut left = candidates;
    let mut said = Vec::new();
    for expander in expanders {
        let before = left.len();
        left = keep(*expander, left, priorities);
        said.push(format!("{} kept {} of {before}", expander.name(), left.len()));
        if left.len() == 1 {
            break;
        }
    }
    let count = u64::try_from(left.len()).ok().filter(|it| *it > 0)?;
    let chosen = left[usize::try_from(lot % count).unwrap_or(0)];
    if count > 1 {
        said.push(format!("one of {count} by chance"));
    }
    Some((chosen, said.join(", ")))
}

fn keep<'a>(
    expander: Expander,
    candidates: Vec<&'a Candidate>,
    priorities: Option<&Priorities>,
) -> Vec<&'a Candidate> {
    match expander {
        Expander::Random => candidates,
        Expander::MostPods => best(candidates, |it| -(it.pods.len() as f64)),
        Expander::LeastNodes => best(candidates, |it| it.nodes as f64),
        Expander::LeastWaste => best(candidates, |it| waste(it, &it.template)),
        Expander::Priority => match priorities {
            Some(priorities) => priorities.best(candidates),
            // Without a configuration that can be read it does not choose.
            None => candidates,
        },
    }
}

/// Those of the least score.
fn best(candidates: Vec<&Candidate>, score: impl Fn(&Candidate) -> f64) -> Vec<&Candidate> {
    let least = candidates.iter().map(|it| score(it)).min_by(f64::total_cmp);
    candidates.into_iter().filter(|it| Some(score(it)) == least).collect()
}

/// The share of the new nodes' CPU and memory that the pods leave idle.
fn waste(candidate: &Candidate, template: &Template) -> f64 {
    let idle = |wanted: i64, each: i64| {
        let all = each as f64 * candidate.nodes as f64;
        if all > 0.0 { (all - wanted as f64) / all } else { 0.0 }
    };
    let sum = |of: fn(&resources::Amounts) -> i64| {
        candidate.pods.iter().map(|it| of(&it.info.requests)).sum::<i64>()
    };
    idle(sum(|it| it.cpu_millis), template.capacity.cpu_millis)
        + idle(sum(|it| it.memory), template.capacity.memory)
}

#[cfg(test)]
mod tests;
