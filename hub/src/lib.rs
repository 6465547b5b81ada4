//! The node that holds sockets.
