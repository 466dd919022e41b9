//! Instance types: what they have, where they can be had, and at which price.

use std::collections::BTreeMap;

use super::Gauge;
use crate::controllers::Context;

impl Context {
    /// Of all classes together: a type is the same to each.
    pub(super) fn note_types(&self) {
        let classes = self.classes.all();
        let of_classes: Vec<_> = classes.iter().filter_map(|it| self.types_of(it)).collect();
        let types: BTreeMap<&str, _> =
            of_classes.iter().flat_map(|it| it.iter()).map(|it| (&*it.name, it)).collect();
        let (mut cores, mut memory) = (Gauge::new(), Gauge::new());
        let (mut available, mut prices) = (Gauge::new(), Gauge::new());
        for (name, kind) in types {
            let of = vec![("instance_type", name)];
            #[expect(clippy::cast_precision_loss, reason = "amounts of a node are far below 2^52")]
            let amounts = (kind.capacity.cpu_millis as f64 / 1000.0, kind.capacity.memory as f64);
            cores.push((of.clone(), amounts.0));
            memory.push((of, amounts.1));
            for it in &kind.offerings {
                let of = vec![
                    ("instance_type", name),
                    ("capacity_type", it.capacity_type()),
                    ("zone", it.zone()),
                ];
                available.push((of.clone(), f64::from(u8::from(it.is_available))));
                prices.push((of, it.price));
            }
        }
        for (what, gauge) in [
            ("cloudprovider_instance_type_cpu_cores", cores),
            ("cloudprovider_instance_type_memory_bytes", memory),
            ("cloudprovider_instance_type_offering_available", available),
            ("cloudprovider_instance_type_offering_price_estimate", prices),
        ] {
            self.metrics.replace(what, gauge);
        }
    }
}
