use std::io::Write as _;

/// A line that `tests/run.sh` shows beside the stage's result, also when the test passes.
pub(crate) fn report(line: &str) {
    // Not the print macros: the test runner would keep those to itself. It has begun a line of its own already.
    writeln!(std::io::stdout(), "\nreport: {line}").expect("standard output is open");
}
