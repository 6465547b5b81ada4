//! One server per data folder: two on one set of SQLite files would each believe to be the only one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

/// Holds the data folder until dropped; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder when absent, and takes it.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be made.
    pub(crate) fn take(data: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .with_context(|| format!("data.path: cannot make the folder {}", data.display()))?;
        let path = data.join("carillon.lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("data.path: cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "data.path: another process uses the data folder {}",
                    data.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("data.path: cannot lock {}", path.display()))
            }
        }
    }
}
