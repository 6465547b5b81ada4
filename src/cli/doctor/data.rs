//! The data folder: whose it is, how full its disk is, how long a sync takes.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "data";

/// Syncs that are measured; their median counts.
const SYNCS: usize = 9;

/// A disk that syncs faster than this says so and does not.
const TOO_FAST: Duration = Duration::from_micros(15);

/// Accepting waits for a sync: slower than this is felt.
const SLOW: Duration = Duration::from_millis(25);

/// Less free space than this is a fault soon.
const LITTLE_KIB: u64 = 1 << 20;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let folder = &config.data.path;
    let metadata = match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return vec![Finding::fault(
                SUBJECT,
                format!("{} is no folder", folder.display()),
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![
                Finding::fault(SUBJECT, format!("{} does not exist", folder.display()))
                    .hint("a typing error? carillon serve or carillon migrate makes it"),
            ];
        }
        Err(error) => return vec![Finding::fault(SUBJECT, format!("{}: {error}", folder.display()))],
    };
    let mode = metadata.permissions().mode() & 0o777;
    let shown = folder.canonicalize().unwrap_or_else(|_| folder.clone());
    let mut findings = vec![if mode & 0o077 == 0 {
        Finding::good(SUBJECT, format!("{} (mode {mode:04o})", shown.display()))
    } else {
        Finding::warning(
            SUBJECT,
            format!("{} is open to others (mode {mode:04o})", shown.display()),
        )
        .hint(format!("chmod 700 {}", shown.display()))
    }];
    findings.extend(open_files(folder));
    findings.extend(free_space(folder));
    findings.push(syncing(folder));
    findings
}

/// Files that others may read or write.
fn open_files(folder: &Path) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![
            Finding::fault(SUBJECT, "the folder cannot be read")
                .hint("run doctor as the user that runs the server"),
        ];
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| {
            let mode = entry.metadata().ok()?.permissions().mode() & 0o777;
            (mode & 0o077 != 0).then(|| {
                let path = entry.path();
                Finding::fault(
                    SUBJECT,
                    format!("{} is open to others (mode {mode:04o})", path.display()),
                )
                .hint(format!("chmod 600 {}", path.display()))
            })
        })
        .collect()
}

/// Other files in the folder are their owner's business.
fn is_ours(name: &str) -> bool {
    name.contains(".sqlite") || name.ends_with(".key") || name == "carillon.sock"
}

/// Of the folder's file system, by df(1): the standard library does not tell.
fn free_space(folder: &Path) -> Option<Finding> {
    let output = std::process::Command::new("df")
        .arg("-Pk")
        .arg(folder)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let free: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    let shown = format!("{:.1} GiB free", free as f64 / f64::from(1 << 20));
    Some(if free < LITTLE_KIB {
        Finding::warning(SUBJECT, format!("only {shown}"))
            .hint("a full disk refuses new notifications with 503")
    } else {
        Finding::good(SUBJECT, shown)
    })
}

fn syncing(folder: &Path) -> Finding {
    match sync_time(folder) {
        Ok(time) if time < TOO_FAST => Finding::warning(
            SUBJECT,
            format!("a sync takes {}: faster than a disk can", words(time)),
        )
        .hint("memory, or a disk that does not keep what it says; fine for trying out"),
        Ok(time) if time > SLOW => Finding::warning(SUBJECT, format!("a sync takes {}", words(time)))
            .hint("each accepted notification waits for one; use a faster disk"),
        Ok(time) => Finding::good(SUBJECT, format!("a sync takes {}", words(time))),
        Err(error) => Finding::fault(SUBJECT, format!("the folder cannot be written: {error}"))
            .hint("run doctor as the user that runs the server"),
    }
}

/// The median time of writing a page and syncing it, as SQLite does for a commit.
fn sync_time(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!("doctor.{}", std::process::id()));
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let times = file.and_then(|mut file| {
        (0..SYNCS)
            .map(|_| {
                file.write_all(&[0; 4_096])?;
                let begun = Instant::now();
                file.sync_data()?;
                Ok(begun.elapsed())
            })
            .collect::<io::Result<Vec<_>>>()
    });
    let _ = fs::remove_file(&path);
    let mut times = times?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

fn words(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 1.0 {
        format!("{:.0} us", millis * 1_000.0)
    } else {
        format!("{millis:.1} ms")
    }
}
