//! Withdrawals: what was cancelled, or answered for all, ends for its recipients page by page.

mod config;
mod withdrawer;

pub use config::WithdrawalsConfig;
pub(crate) use withdrawer::Withdrawer;
