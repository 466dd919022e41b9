//! See `test/fuzz/src/kube_schema.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("kube_schema", data));
