//! The `aircache` binary.
fn main() {}
