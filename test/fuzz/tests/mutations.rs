//! Every fuzz target over its seeds and a few thousand mutations of them, the same in each run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use fuzz_bodies::TARGETS;

const MUTATIONS: usize = 3000;
/// Of targets that ask a server, which takes its time.
const MUTATIONS_OF_REQUESTS: usize = 400;
const LONGEST: usize = 1 << 14;
/// Bytes that mean something to one parser or another.
const TOKENS: [&[u8]; 16] = [
    b"\0",
    b"\n\n",
    b"\r\n",
    b"%",
    b"%2",
    b"&",
    b"=",
    b".",
    b"{",
    b"[[[[",
    b"\"",
    b"\\u",
    b"--",
    b"\xff\xfe",
    b"\xe2\x82",
    b"18446744073709551616",
];

/// SplitMix64: small, and the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|it| fs::read(it).unwrap()).collect()
}

/// One to four changes, some of them parts of another seed.
fn mutated(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len() + 1);
        let end = at + numbers.below((data.len() - at).min(64) + 1);
        match numbers.below(7) {
            0 if at < data.len() => data[at] ^= 1 << numbers.below(8),
            1 if at < data.len() => data[at] = u8::try_from(numbers.below(256)).unwrap(),
            2 => drop(data.drain(at..end)),
            3 => {
                let part = data[at..end].repeat(1 + numbers.below(8));
                data.splice(at..at, part);
            }
            4 => drop(data.splice(at..at, TOKENS[numbers.below(TOKENS.len())].iter().copied())),
            5 => data.truncate(at),
            _ => {
                let from = numbers.below(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
        }
    }
    data.truncate(LONGEST);
    data
}

#[test]
fn each_target_withstands_its_seeds_and_mutations_of_them() {
    for (name, body) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut numbers = Numbers(7);
        let count = if name.starts_with("kube_") { MUTATIONS_OF_REQUESTS } else { MUTATIONS };
        let mutations = (0..count).map(|_| {
            let seed = &seeds[numbers.below(seeds.len())];
            let other = &seeds[numbers.below(seeds.len())];
            mutated(seed, other, &mut numbers)
        });
        for data in seeds.iter().cloned().chain(mutations.collect::<Vec<_>>()) {
            let outcome = catch_unwind(AssertUnwindSafe(|| body(&data)));
            assert!(outcome.is_ok(), "{name} fails on {}", data.escape_ascii());
        }
    }
}

#[test]
fn mutations_are_the_same_in_each_run_and_differ_from_their_seed() {
    let make = || {
        let mut numbers = Numbers(7);
        (0..100).map(|_| mutated(b"a=b&c=d", b"{}", &mut numbers)).collect::<Vec<_>>()
    };
    assert_eq!(make(), make());
    assert!(make().iter().filter(|it| **it != b"a=b&c=d").count() > 90);
}
