//! What the rules of a definition may cost, each and together.
//!
//! Upstream: `StaticEstimatedCostLimit`, `StaticEstimatedCRDCostLimit` and `TotalCost` of
//! pkg/apis/apiextensions/validation.

use crate::{status::FieldError, validation::Faults};

/// Of one expression, as often as it can run for an object.
const PER_EXPRESSION: u64 = 10_000_000;
/// Of all expressions of a version.
const ALL: u64 = 100_000_000;
/// How many are named when all together cost too much.
const MOST_NAMED: usize = 4;
const TRY: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
                   arrays, maps, and strings are declared)";

#[derive(Default)]
pub(super) struct Costs {
    total: u64,
    expensive: Vec<(String, u64)>,
}

impl Costs {
    /// Adds an expression; `what` names it in what is told.
    pub(super) fn add(&mut self, faults: &mut Faults, path: String, what: &str, cost: u64) {
        if cost > PER_EXPRESSION {
            let why = exceeded(&format!("estimated {what} cost"), cost, PER_EXPRESSION);
            faults.add(FieldError::forbidden(path.clone(), why));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= ALL / 100 {
            self.expensive.push((path, cost));
        }
    }

    /// Says which cost the most, if all together cost too much.
    pub(super) fn tell(mut self, faults: &mut Faults, schema: &str) {
        if self.total <= ALL {
            return;
        }
        self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in self.expensive.into_iter().take(MOST_NAMED) {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire \
                       OpenAPIv3 schema";
            faults.add(FieldError::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.add(FieldError::forbidden(schema, exceeded(what, self.total, ALL)));
    }
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "only to be shown")]
    let factor = cost as f64 / limit as f64;
    let shown = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!("{what} exceeds budget by factor of {shown} {TRY}")
}
