//! Revisioned store with watch: etcd's model.
