//! What a node's devices fall short of, for those who ask why.

use super::{ClaimRequest, Inventory, Taken, allocate::matching};
use crate::NodeInfo;

impl Inventory<'_> {
    /// The first request that cannot be served alone; that they cannot be served together, otherwise.
    pub fn shortfall(&self, node: &NodeInfo, claims: &[&ClaimRequest], taken: &Taken) -> String {
        let offers = self.on(node);
        for request in claims.iter().flat_map(|it| &it.requests) {
            let mut last = None;
            for want in &request.alternatives {
                let Ok(found) = matching(want, &offers) else { continue };
                let is_free = |it: &&usize| {
                    let offer = &offers[**it];
                    want.is_admin || offer.is_shared() || !taken.is_held(&offer.id())
                };
                let free = found.iter().filter(is_free).count();
                let wanted = want.count.unwrap_or(found.len().max(1));
                if free >= wanted {
                    last = None;
                    break;
                }
                let name = &want.name;
                last = Some(format!(
                    "request {name} wants {wanted}: {} of {} devices match, {free} of them free",
                    found.len(),
                    offers.len()
                ));
            }
            if let Some(why) = last {
                return why;
            }
        }
        "each request could be served, but not all of them together".to_owned()
    }
}
