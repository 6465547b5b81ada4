//! The durable life of a notification.
