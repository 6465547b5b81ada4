//! A virtual machine may have given memory that nobody uses back to its host, and then whoever first writes to a page of it
//! waits for the host. Where the kernel has to hold more for sockets than before, that wait is part of what is measured. So
//! a process takes that much and ends just before: the kernel gives out again first what it got back last.

use std::{fs, hint};

use anyhow::{Result, ensure};

use crate::process::beside;

/// Bytes, many times what the sockets of a scenario hold; no more than a quarter of what is available.
const MOST: u64 = 2 << 30;

/// Has the host back what may be needed.
///
/// # Errors
/// When the process does not run.
pub(crate) fn free_memory() -> Result<()> {
    // A process of its own, so that nothing of it stays here.
    let status = beside()?.arg("touch").status()?;
    ensure!(status.success(), "touching memory ended with {status}");
    Ok(())
}

/// The process.
///
/// # Errors
/// When /proc cannot be read.
pub(crate) fn run() -> Result<()> {
    let bytes = MOST.min(available(&fs::read_to_string("/proc/meminfo")?) / 4);
    hint::black_box(vec![1_u8; usize::try_from(bytes)?]);
    Ok(())
}

fn available(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_bytes() {
        let text = "MemTotal:       24683964 kB\nMemFree:         7936000 kB\nMemAvailable:   22876160 kB\n";
        assert_eq!(available(text), 22_876_160 * 1024);
        assert_eq!(available(""), 0);
    }
}
