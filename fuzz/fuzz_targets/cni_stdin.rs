//! See `test/fuzz/src/cni_stdin.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("cni_stdin", data));
