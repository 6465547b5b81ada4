//! What a process and all that it started cost together.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// The process and its descendants that live now.
pub(crate) fn of(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        if let Some(parent) = parent(&stat) {
            parents.push((process, parent));
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == tree[at]);
        tree.extend(children.map(|(child, _)| *child).collect::<Vec<_>>());
        at += 1;
    }
    Ok(tree)
}

/// The fourth field; the second, the name, is in brackets and may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// CPU time of all threads of these processes so far.
pub(crate) fn cpu(processes: &[u32]) -> Result<Duration> {
    processes
        .iter()
        .map(|process| crate::process::cpu_of(&process.to_string()))
        .sum()
}

/// A field of `smaps_rollup`, summed, in bytes.
pub(crate) fn memory(processes: &[u32], field: &str) -> Result<u64> {
    let mut sum = 0;
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        sum += text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .with_context(|| format!("{field} in smaps_rollup"))?
            * 1024;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a (strange) name) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12"), None);
    }

    #[test]
    fn a_child_belongs_to_the_tree_and_its_memory_counts() -> Result<()> {
        let mut child = std::process::Command::new("sleep").arg("20").spawn()?;
        let tree = of(std::process::id())?;
        let own = memory(&[std::process::id()], "Rss")?;
        let both = memory(&[std::process::id(), child.id()], "Rss")?;
        child.kill()?;
        child.wait()?;
        assert!(tree.contains(&child.id()));
        assert!(both > own);
        Ok(())
    }
}
