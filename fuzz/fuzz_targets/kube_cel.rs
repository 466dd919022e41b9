//! See `test/fuzz/src/kube_cel.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("kube_cel", data));
