//! Carillon: a realtime notification and messaging hub.

fn main() {}
