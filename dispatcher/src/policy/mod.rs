//! What tenants, categories and users want, brought together for whoever decides about an alert and whoever shows it.
//!
//! Categories' and tenants' policies are kept in memory for a few seconds. What users want is read anew for each decision:
//! the store's `choices` in the transaction that starts an alert, made into [`Wishes`], which gives the pure deciders
//! their facts.

mod choosing;
mod tenants;
mod user;
mod wishes;

pub(crate) use choosing::{MOST_PREFERENCES, fields};
pub(crate) use tenants::TenantPolicies;
pub(crate) use user::{UserChoices, UserPolicy, ZoneOf, zone_of};
pub(crate) use wishes::{About, Wishes, counted_since};
