//! Layers, sizes, generated files, test images, benchmarks.

fn main() {}
