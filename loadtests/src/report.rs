//! What was measured, as a table.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

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

/// All figures of one run.
pub(crate) struct Report {
    machine: String,
    figures: Vec<Figure>,
}

impl Report {
    /// Notes where and with what it is measured.
    pub(crate) fn new(server: &Path) -> Result<Self> {
        let version = std::process::Command::new(server).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned();
        let status = fs::read_to_string("/proc/self/status")?;
        let client = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap_or_default()
            .trim()
            .to_owned();
        let online = fs::read_to_string("/proc/cpuinfo")?
            .matches("processor\t")
            .count();
        let memory = fs::read_to_string("/proc/meminfo")?
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
            / (1024 * 1024);
        let machine = format!(
            "{version}; {online} cores (server on core 0, client on core {client}), {memory} GiB, Linux {kernel}"
        );
        Ok(Self {
            machine,
            figures: Vec::new(),
        })
    }

    /// Runs a scenario and adds its figures.
    ///
    /// # Errors
    /// The scenario's, by its name.
    pub(crate) fn scenario(
        &mut self,
        name: &'static str,
        measure: impl FnOnce() -> Result<Vec<Figure>>,
    ) -> Result<()> {
        eprintln!("{name}");
        let figures = measure().with_context(|| format!("the scenario \"{name}\" failed"))?;
        for figure in &figures {
            eprintln!(
                "  {}: {} | {} | {}",
                figure.name, figure.carillon, figure.floor, figure.ratio
            );
        }
        self.figures.extend(figures);
        Ok(())
    }

    /// The table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table =
            String::from("| | Carillon | floor of the same run | ratio (spread) |\n|---|---|---|---|\n");
        for Figure {
            name,
            carillon,
            floor,
            ratio,
        } in &self.figures
        {
            let _ = writeln!(table, "| {name} | {carillon} | {floor} | {ratio} |");
        }
        table
    }

    /// Writes the report.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = format!(
            "# Benchmarks\n\nMade by `make bench`: {}.\n\n{}\n{}",
            self.machine,
            self.table(),
            include_str!("method.md")
        );
        Ok(fs::write(path, text)?)
    }
}

/// The median, and the smallest and largest, of a few ratios.
pub(crate) fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match ratios.as_slice() {
        [] => String::new(),
        [only] => format!("{only:.2}"),
        [first, .., last] => format!("{:.2} ({first:.2}-{last:.2})", ratios[ratios.len() / 2]),
    }
}

/// The median.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
