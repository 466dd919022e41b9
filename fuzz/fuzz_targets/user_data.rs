//! See `test/fuzz/src/user_data.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("user_data", data));
