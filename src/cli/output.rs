//! What a command writes: results on standard output, everything else on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use carillon_domain::{Clock as _, SystemClock};

use super::exit::Failure;

/// Writes one line of the result.
///
/// # Errors
/// When nobody reads any more, or the output is full.
pub(super) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes a result as JSON, on one line.
///
/// # Errors
/// As [`line`].
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    line(serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?)
}

/// Says something that is not the result. Where nobody listens, nothing is lost.
pub(super) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says how far something is, over what was said before. For a terminal; the next [`note`] ends the line.
pub(super) fn over(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\x1b[2K{text}");
    let _ = terminal.flush();
}

/// The time of day, where the terminal is.
pub(super) fn time() -> String {
    jiff::Timestamp::from_microsecond(SystemClock.now().as_micros())
        .map(|now| {
            now.to_zoned(jiff::tz::TimeZone::system())
                .strftime("%H:%M:%S")
                .to_string()
        })
        .unwrap_or_default()
}

/// Says why a command failed.
pub(super) fn complain(failure: &Failure) {
    let text = failure.to_string();
    if !text.is_empty() {
        let paint = Paint::of_stderr();
        note(format_args!("{} {text}", paint.fault("error:")));
    }
}

/// Colours, where a person looks and has not asked for none (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(super) fn of_stdout() -> Self {
        Self(io::stdout().is_terminal() && wanted())
    }

    /// None at all.
    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self(false)
    }

    fn of_stderr() -> Self {
        Self(io::stderr().is_terminal() && wanted())
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Important.
    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Beside the point.
    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// As it should be.
    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Worth a look.
    pub(super) fn warning(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Wrong.
    pub(super) fn fault(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text of others on one line of a terminal: control characters could move the cursor, or end the line.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Rows under a header, as wide as they need to be.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([header[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let render = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.trim_end().to_owned()
    };
    line(Paint::of_stdout().dim(&render(header)))?;
    rows.iter()
        .try_for_each(|row| line(render(row.each_ref().map(String::as_str))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }
}
