//! The channel `email` against real mail servers (Exim, and a sink that verifies signatures), and against servers that
//! misbehave. `tests/run.sh build mail` starts what is needed.

mod deliver;
mod faults;
mod given;
mod relay;
