//! The command line, and every component as a subcommand.

fn main() {}
