//! Links the program at a fixed address, as Go links upstream's.
//!
//! One that may lie anywhere has each of its tables of functions and texts written at its start: pages
//! that every process then has for itself (some MiB of `nodestead`, on a node five times), where these are
//! the file's, shared and given back when memory is short.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Other C libraries are linked statically, and in their own way.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|it| it == "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
