//! One server per data folder: two on one set of SQLite files would each believe to be the only one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Why the data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// A server, or a command that opened the store, is at work in it.
    #[error("data.path: another process uses the data folder {}", _0.display())]
    Taken(PathBuf),
    /// It cannot be made, opened or locked.
    #[error("data.path: cannot {doing} {}: {source}", path.display())]
    Folder {
        /// What went wrong.
        doing: &'static str,
        /// With which folder or file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

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
    pub(crate) fn take(data: &Path) -> Result<Self, LockError> {
        let path = data.join("carillon.lock");
        let fault = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Folder { doing, path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .map_err(fault("make the folder", data))?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(fault("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken(data.to_owned())),
            Err(TryLockError::Error(error)) => Err(fault("lock", &path)(error)),
        }
    }
}
