//! Objects: since when their conditions are what they are, and for how long they have been going.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Gauge;
use crate::{
    controllers::{Context, events::Condition},
    metrics::{NODE_CLAIMS, NODE_CLASSES, NODE_POOLS, NODES, OfKind},
};

impl Context {
    pub(super) fn note_objects(&self) {
        let claims = self.claims.all();
        self.note_kind(
            &NODE_CLAIMS,
            claims
                .iter()
                .map(|it| (&it.metadata, it.status.as_ref().map_or(&[][..], |it| &it.conditions))),
        );
        let pools = self.pools.all();
        self.note_kind(
            &NODE_POOLS,
            pools
                .iter()
                .map(|it| (&it.metadata, it.status.as_ref().map_or(&[][..], |it| &it.conditions))),
        );
        let classes = self.classes.all();
        self.note_kind(
            &NODE_CLASSES,
            classes
                .iter()
                .map(|it| (&it.metadata, it.status.as_ref().map_or(&[][..], |it| &it.conditions))),
        );
        let nodes = self.nodes.all();
        self.note_kind(
            &NODES,
            nodes.iter().map(|it| {
                let all = it.status.as_ref().and_then(|it| it.conditions.as_deref());
                (&it.metadata, all.unwrap_or_default())
            }),
        );
    }

    fn note_kind<'a, C: Condition + 'a>(
        &self,
        of: &OfKind,
        objects: impl Iterator<Item = (&'a ObjectMeta, &'a [C])>,
    ) {
        let now = self.clock.now();
        let (mut counts, mut ages, mut going) = (Gauge::new(), Gauge::new(), Gauge::new());
        for (metadata, conditions) in objects {
            let name = metadata.name.as_deref().unwrap_or_default();
            for it in conditions {
                let labels = vec![
                    ("name", name),
                    ("type", it.kind()),
                    ("status", it.status()),
                    ("reason", it.reason()),
                ];
                if let Some(since) = it.since() {
                    ages.push((labels.clone(), now.duration_since(since).as_secs_f64()));
                }
                counts.push((labels, 1.0));
            }
            if let Some(asked) = &metadata.deletion_timestamp {
                going.push((vec![("name", name)], now.duration_since(asked.0).as_secs_f64()));
            }
        }
        self.metrics.replace(of.conditions, counts);
        self.metrics.replace(of.condition_seconds, ages);
        self.metrics.replace(of.terminating_seconds, going);
    }
}
