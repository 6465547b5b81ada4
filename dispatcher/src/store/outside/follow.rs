//! What follows, in the same transaction, of deliveries that ended. Pure: rows in, rows out.

use super::decide::Effects;

/// Adds what follows to the effects. Both databases call it once per transaction that ends deliveries, before they
/// write; what it adds to `outside` and `work` is written with the rest, and its lanes are locked with the rest.
pub(in crate::store) fn follow(effects: &mut Effects) {
    // Nobody is told of ends yet: events of `delivery.*` begin here.
    let _ = &effects.ended;
}
