//! The CNI plug-in.

fn main() {}
