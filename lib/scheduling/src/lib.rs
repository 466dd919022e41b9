//! Predicates and scores shared by the scheduler and the autoscalers.
