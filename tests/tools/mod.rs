//! Tools as they are installed, whose events come in by `/v1/in`.

mod alertmanager;
mod process;
