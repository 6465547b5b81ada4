//! How a command ends.

use std::{fmt, io::ErrorKind, process::ExitCode};

use carillon_backends::OpenError;
use carillon_runtime::edge::EdgeError;
use carillon_sql::StoreError;
use serde::Deserialize;

use crate::lock::LockError;

/// The exit codes, for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  it failed
  2  the command line is wrong
  3  something is misconfigured: a key, a file, a certificate
  4  the server or its database cannot be reached
  5  the server refused: the credential, the scope or the request
  6  another process has the address or the data folder";

/// Why a command ended without doing what it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It went wrong.
    Failed(String),
    /// The command line asks for what cannot be, in a way that clap does not see.
    Usage(String),
    /// The configuration or what it names is at fault.
    Misconfigured(String),
    /// Nobody answers, at the server's address or at the database's.
    Unreachable(String),
    /// Another process has the address or the data folder.
    Taken(String),
    /// The server answered with a problem.
    Refused(Box<Problem>),
    /// Who reads our output has gone, for example `head`: nothing to say, nothing wrong.
    NobodyReads,
}

impl Failure {
    /// Why the stores or the listeners did not open.
    pub(super) fn at_start(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        for cause in error.chain() {
            let kind = match (
                cause.downcast_ref::<LockError>(),
                cause.downcast_ref::<EdgeError>(),
                cause.downcast_ref::<OpenError>(),
                cause.downcast_ref::<StoreError>(),
            ) {
                (Some(LockError::Taken(_)), ..) => Self::Taken,
                (_, Some(EdgeError::Bind { source, .. }), ..) if source.kind() == ErrorKind::AddrInUse => {
                    Self::Taken
                }
                (_, _, Some(OpenError::Store { source, .. }), _) | (.., Some(source)) => match source {
                    source if source.is_unreachable() => Self::Unreachable,
                    StoreError::Unsafe(_) => Self::Misconfigured,
                    _ => Self::Failed,
                },
                (Some(_), ..) | (_, Some(_), ..) | (_, _, Some(_), _) => Self::Misconfigured,
                _ => continue,
            };
            return kind(text);
        }
        Self::Failed(text)
    }

    /// The process's exit code.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NobodyReads => 0,
            Self::Refused(problem) if problem.status >= 500 => 1,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Misconfigured(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Refused(_) => 5,
            Self::Taken(_) => 6,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Misconfigured(text)
            | Self::Unreachable(text)
            | Self::Taken(text) => f.write_str(text),
            Self::Refused(problem) => fmt::Display::fmt(problem, f),
            Self::NobodyReads => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            Self::NobodyReads
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// An RFC 9457 problem, as the API answers it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(super) status: u16,
    title: String,
    detail: String,
    trace_id: Option<String>,
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    pointer: String,
    detail: String,
}

impl Problem {
    /// What an answer's body says; the status alone when it is no problem.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let problem: Self = serde_json::from_slice(body).unwrap_or_default();
        Self { status, ..problem }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [&self.detail, &self.title]
            .into_iter()
            .find(|text| !text.is_empty());
        match said {
            Some(text) => write!(f, "{text} ({})", self.status)?,
            None => write!(f, "the server answered {}", self.status)?,
        }
        for error in &self.errors {
            write!(f, "\n  {}: {}", error.pointer, error.detail)?;
        }
        match &self.trace_id {
            Some(trace) if self.status >= 500 => write!(f, "\n  trace {trace}"),
            _ => Ok(()),
        }
    }
}
