//! Processes: identity across restarts, namespaces, signals.
