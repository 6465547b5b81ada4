//! Where and with what it is measured, in words: without it a figure cannot be compared with another.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::process::{cores, server_core};

/// Kernel settings that decide what a socket may hold.
const SETTINGS: [(&str, &str); 3] = [
    ("tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
    ("tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem"),
    ("somaxconn", "/proc/sys/net/core/somaxconn"),
];

/// The server's version, cores and who runs on which, memory, kernel and its settings.
///
/// # Errors
/// When the executable does not run, or /proc cannot be read.
pub(crate) fn describe(server: &Path) -> Result<String> {
    let version = std::process::Command::new(server)
        .arg("--version")
        .output()
        .with_context(|| server.display().to_string())?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let status = fs::read_to_string("/proc/self/status")?;
    let client = field(&status, "Cpus_allowed_list").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&processors, "model name").unwrap_or("of unknown make");
    let memory = fs::read_to_string("/proc/meminfo")?
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        / (1024 * 1024);
    let settings: Vec<_> = SETTINGS
        .iter()
        .map(|(name, path)| format!("{name} {}", read(path).unwrap_or_default()))
        .collect();
    Ok(format!(
        "{version}; {} cores, {model} (server on core {}, client on core {client}), {memory} GiB, Linux {kernel}, {}",
        cores()?,
        server_core(),
        settings.join(", ")
    ))
}

/// The processors' time so far, in the kernel's ticks: all of it, and what the host gave to others while somebody here wanted
/// to run (proc_stat(5), `steal`). A latency measured meanwhile says little.
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    /// # Errors
    /// When /proc cannot be read.
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self {
            // What follows is the guests', and counted as the users' already.
            all: fields.iter().take(8).sum(),
            stolen: fields.get(7).copied().unwrap_or(0),
        }
    }

    /// What was taken away since `before`, in percent.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        100.0 * self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// A file's words, one space between each two.
fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The first line `NAME: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_a_part_of_all_time() {
        let before = Ticks::of("cpu  10 0 10 60 0 0 0 20 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        let after = Ticks::of("cpu  20 0 20 120 0 5 5 30 9 0\n");
        assert!((after.stolen_since(before) - 10.0).abs() < 1e-9);
        assert!(before.stolen_since(after).abs() < 1e-9);
    }

    #[test]
    fn a_field_is_found_whatever_stands_before_its_colon() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0\n\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.0"));
        assert_eq!(field(text, "model"), None);
    }
}
