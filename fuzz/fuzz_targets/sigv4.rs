//! See `test/fuzz/src/sigv4.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("sigv4", data));
