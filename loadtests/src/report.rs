//! What was measured, as a table.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    drawings::{self, Drawing},
    goals,
    machine::{self, Ticks},
    sections, soak,
};

/// How long a scenario may take: several times what each needs. One that hangs ends the run and names itself.
const LIMIT: Duration = Duration::from_secs(300);

/// One figure beside its floor.
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: &'static str,
    /// What Carillon did, with its unit.
    pub(crate) carillon: String,
    /// What the floor did in the same run, and what it is.
    pub(crate) floor: String,
    /// Carillon over floor, with the spread over the rounds; empty where no floor exists.
    pub(crate) ratio: String,
}

/// One figure beside a peer's.
pub(crate) struct Comparison {
    /// The peer and what was measured.
    pub(crate) what: String,
    /// What Carillon did in the same run.
    pub(crate) carillon: String,
    /// What the peer did; why not, where it is not there.
    pub(crate) peer: String,
    /// Carillon over peer, with the spread over the pairs.
    pub(crate) ratio: String,
}

/// What a scenario brings.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) drawings: Vec<Drawing>,
}

impl From<Vec<Figure>> for Outcome {
    fn from(figures: Vec<Figure>) -> Self {
        Self {
            figures,
            ..Self::default()
        }
    }
}

/// All figures of one run.
pub(crate) struct Report {
    server: PathBuf,
    rounds: usize,
    only: Vec<String>,
    machine: String,
    all: Outcome,
    /// By scenario, in percent of the cores' time.
    stolen: Vec<(&'static str, f64)>,
}

impl Report {
    /// Notes where and with what it is measured. Scenarios are those whose names have a word of `only`; all when it is
    /// empty.
    pub(crate) fn new(server: &Path, rounds: usize, only: &[String]) -> Result<Self> {
        Ok(Self {
            server: server.to_owned(),
            rounds,
            only: only.to_vec(),
            machine: format!("{}; rounds: {rounds}", machine::describe(server)?),
            all: Outcome::default(),
            stolen: Vec::new(),
        })
    }

    /// Runs a scenario and adds its figures.
    ///
    /// # Errors
    /// The scenario's, by its name; and when it takes too long. Its servers end with this process.
    pub(crate) fn scenario<M, O>(&mut self, name: &'static str, measure: M) -> Result<()>
    where
        M: FnOnce(&Path, usize) -> Result<O> + Send + 'static,
        O: Into<Outcome>,
    {
        if !self.only.is_empty() && !self.only.iter().any(|word| name.contains(word.as_str())) {
            return Ok(());
        }
        eprintln!("{name}");
        let (begin, ticks) = (Instant::now(), Ticks::now()?);
        let (server, rounds) = (self.server.clone(), self.rounds);
        let (sender, done) = mpsc::channel();
        let scenario = std::thread::spawn(move || {
            // Nobody waits any more when it took too long.
            let _ = sender.send(measure(&server, rounds).map(Into::into));
        });
        let outcome: Outcome = match done.recv_timeout(LIMIT) {
            Ok(outcome) => outcome.with_context(|| format!("the scenario \"{name}\" failed"))?,
            Err(RecvTimeoutError::Timeout) => bail!("the scenario \"{name}\" did not end within {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the scenario \"{name}\" panicked"),
        };
        // It has answered, so it ends now.
        let _ = scenario.join();
        for figure in &outcome.figures {
            eprintln!(
                "  {}: {} | {} | {}",
                figure.name, figure.carillon, figure.floor, figure.ratio
            );
        }
        for comparison in &outcome.comparisons {
            eprintln!(
                "  {}: {} | {} | {}",
                comparison.what, comparison.carillon, comparison.peer, comparison.ratio
            );
        }
        let stolen = Ticks::now()?.stolen_since(ticks);
        eprintln!(
            "  took {:.0} s; the host took away {stolen:.1} % of the cores' time",
            begin.elapsed().as_secs_f64()
        );
        self.stolen.push((name, stolen));
        self.all.figures.extend(outcome.figures);
        self.all.comparisons.extend(outcome.comparisons);
        self.all.drawings.extend(outcome.drawings);
        Ok(())
    }

    /// The tables in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        if !self.all.figures.is_empty() {
            table.push_str(
                "| | Carillon | floor of the same run | ratio (spread) | goal |\n|---|---|---|---|---|\n",
            );
        }
        for Figure {
            name,
            carillon,
            floor,
            ratio,
        } in &self.all.figures
        {
            let goal = goals::of(name).unwrap_or("-");
            let _ = writeln!(table, "| {name} | {carillon} | {floor} | {ratio} | {goal} |");
        }
        if !self.all.comparisons.is_empty() {
            table.push_str(
                "\n## Beside peers\n\n| peer, figure | Carillon | peer | ratio (spread); below 1 Carillon is ahead |\n|---|---|---|---|\n",
            );
        }
        for Comparison {
            what,
            carillon,
            peer,
            ratio,
        } in &self.all.comparisons
        {
            let _ = writeln!(table, "| {what} | {carillon} | {peer} | {ratio} |");
        }
        table
    }

    /// Where the host gave so much to others, latencies say little.
    fn taken_away(&self) -> String {
        let share = |(name, share): &(&str, f64)| format!("{name} {share:.1} %");
        self.stolen.iter().map(share).collect::<Vec<_>>().join(", ")
    }

    /// Writes the report, and its drawings beside it. What the soak wrote on the page stays.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let images = path.with_file_name("images");
        fs::create_dir_all(&images)?;
        let mut shown = String::new();
        for (name, alt, text) in drawings::draw(&self.all.drawings) {
            fs::write(images.join(name), text)?;
            let _ = writeln!(shown, "![{alt}](images/{name})\n");
        }
        let text = format!(
            "# Benchmarks\n\nMade by `make bench`: {}.\n\nTime that the host took away from the cores, by scenario: {}.\n\n{}\n{shown}{}",
            self.machine,
            self.taken_away(),
            self.table(),
            include_str!("method.md")
        );
        let text = match fs::read_to_string(path) {
            Ok(old) => match sections::of(&old, soak::HEADING) {
                Some(soaked) => sections::put(&text, soak::HEADING, soaked, "## How it is measured"),
                None => text,
            },
            Err(_) => text,
        };
        Ok(fs::write(path, text)?)
    }
}

/// The median, and the smallest and largest, of a few ratios.
pub(crate) fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match ratios.as_slice() {
        [] => String::new(),
        [only] => format!("{only:.2}"),
        [first, .., last] => format!("{:.2} ({first:.2}-{last:.2})", median(ratios.clone())),
    }
}

/// The median; of an even number the mean of the two in the middle, so that two rounds do not show the better one alone.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::midpoint(values[last / 2], values[values.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_two_is_neither_of_them() {
        assert_eq!(spread(vec![0.6, 0.4]), "0.50 (0.40-0.60)");
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), "2.00 (1.00-3.00)");
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), "2.50 (1.00-4.00)");
        assert!(median(Vec::new()).is_nan());
    }
}
