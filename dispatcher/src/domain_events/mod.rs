//! Domain events: what happened in the tenant's own house, handed in as CloudEvents 1.0. They are committed here; the rules
//! make notifications of them afterwards.

mod cloud_event;
mod delivery;
mod header;
mod intake;

pub(crate) use cloud_event::CloudEvent;
pub(crate) use delivery::{Mode, binary, structured};
pub(crate) use intake::{EventIntake, TakenEvent};

/// The largest event, in bytes as it came: what the specification asks everybody to take.
pub(crate) const MAX_EVENT: usize = 64 * 1024;
/// The most events of a batch.
pub(crate) const MAX_BATCH: usize = 100;
