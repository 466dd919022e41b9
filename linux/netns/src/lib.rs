//! Network namespaces: create, enter, delete.
