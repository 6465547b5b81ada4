//! Which parts of the program a process runs.

use std::str::FromStr;

/// A part of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Takes requests: intake, inbox, identity.
    Gateway,
    /// Holds sockets.
    Hub,
    /// Plans and delivers.
    Dispatcher,
}

impl Role {
    /// Every role: what a process runs that names none.
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::Hub, Self::Dispatcher];

    /// As written on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Hub => "hub",
            Self::Dispatcher => "dispatcher",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or("a role is one of gateway, hub, dispatcher")
    }
}
