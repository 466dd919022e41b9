//! Observe, plan, apply: a harness over the Kubernetes watch.
