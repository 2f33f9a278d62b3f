//! What people and programs may do: a role each person has, scopes each API token has, and what
//! an act needs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person may do; each role may also do what the ones before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything but accounts, tokens and the audit log.
    Viewer,
    /// Also acts on alarms.
    Operator,
    /// Also administers accounts, tokens and devices, and reads the audit log.
    Admin,
}

/// What an API token may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// What a viewer may.
    Read,
    /// What an operator may.
    Operate,
    /// What an admin may.
    Admin,
    /// Send readings in the name of any registered device: for gateways.
    Ingest,
    /// Read `/metrics` and nothing else.
    Metrics,
}

/// What somebody must be allowed to for an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nothing: anybody may.
    Nothing,
    /// To be a person who is signed in, in whatever role; no token stands for one.
    Person,
    /// To read.
    Read,
    /// To act on alarms.
    Operate,
    /// To administer.
    Admin,
    /// To read the measurements of the server.
    Metrics,
    /// To send readings: as a device with its own token, which the route itself checks, or as a
    /// gateway by an API token. A person's session never suffices.
    Ingest,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Tells whether a person with this role may do what needs this.
    #[must_use]
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing | Need::Person | Need::Read | Need::Metrics => true,
            Need::Operate => self >= Self::Operator,
            Need::Admin => self >= Self::Admin,
            Need::Ingest => false,
        }
    }

    /// Tells whether a person with this role may hand out this scope.
    #[must_use]
    pub fn covers(self, scope: Scope) -> bool {
        match scope {
            Scope::Read | Scope::Metrics => true,
            Scope::Operate => self >= Self::Operator,
            Scope::Admin | Scope::Ingest => self >= Self::Admin,
        }
    }
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Operate, Self::Admin, Self::Ingest, Self::Metrics];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
            Self::Ingest => "ingest",
            Self::Metrics => "metrics",
        }
    }

    /// Tells whether a token with this scope may do what needs this.
    #[must_use]
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Person => false,
            Need::Read => matches!(self, Self::Read | Self::Operate | Self::Admin),
            Need::Operate => matches!(self, Self::Operate | Self::Admin),
            Need::Admin => self == Self::Admin,
            Need::Metrics => self != Self::Ingest,
            Need::Ingest => self == Self::Ingest,
        }
    }
}

impl Need {
    /// Returns the least role that suffices, if any does.
    #[must_use]
    pub fn role(self) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.may(self))
    }

    /// Returns the narrowest scope that suffices, if any does.
    #[must_use]
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Nothing | Self::Person => None,
            Self::Read => Some(Scope::Read),
            Self::Operate => Some(Scope::Operate),
            Self::Admin => Some(Scope::Admin),
            Self::Metrics => Some(Scope::Metrics),
            Self::Ingest => Some(Scope::Ingest),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is the name of no role or scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// It is no role.
    #[error("roles are viewer, operator and admin")]
    Role,
    /// It is no scope.
    #[error("scopes are read, operate, admin, ingest and metrics")]
    Scope,
}

impl FromStr for Role {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownName::Role)
    }
}

impl FromStr for Scope {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownName::Scope)
    }
}
