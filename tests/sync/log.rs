use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::harness::Store;

/// As `sync_log.c` lays it out.
const RECORD_BYTES: usize = 64;
const WRITE: u32 = 1;
const SYNC: u32 = 2;

/// What the preloaded library recorded.
pub(super) struct SyncLog {
    file: File,
    path: PathBuf,
    _own: Option<NamedTempFile>,
}

impl SyncLog {
    /// A new log for a server to come, or the one that the running PostgreSQL writes.
    pub(super) fn of_the_store() -> Self {
        match Store::under_test() {
            Store::Sqlite => {
                let own = NamedTempFile::new().expect("a temporary file");
                Self {
                    file: own.reopen().expect("the file opens"),
                    path: own.path().to_owned(),
                    _own: Some(own),
                }
            }
            Store::Postgres => {
                let path: PathBuf = std::env::var_os("CARILLON_SYNC_POSTGRES_LOG")
                    .expect("CARILLON_SYNC_POSTGRES_LOG names the log of a PostgreSQL with the library; tests/run.sh sets it")
                    .into();
                Self {
                    file: File::open(&path).expect("the log opens"),
                    path,
                    _own: None,
                }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many records there are.
    pub(super) fn len(&self) -> u64 {
        let mut count = [0; 8];
        self.file
            .read_exact_at(&mut count, 0)
            .expect("the library made its header");
        u64::from_ne_bytes(count)
    }

    /// Whether, among the records of `range`, a write to a write-ahead log is followed by a sync of the same file.
    pub(super) fn commit_was_synced(&self, range: Range<u64>) -> bool {
        let mut written: Vec<String> = Vec::new();
        for index in range {
            let (kind, path) = self.record(index);
            match kind {
                WRITE => written.push(path),
                SYNC if written.contains(&path) => return true,
                _ => {}
            }
        }
        false
    }

    fn record(&self, index: u64) -> (u32, String) {
        let mut bytes = [0; RECORD_BYTES];
        let at = (index + 1) * RECORD_BYTES as u64;
        self.file
            .read_exact_at(&mut bytes, at)
            .expect("less than a million records");
        let (kind, rest) = bytes.split_at(4);
        let path = String::from_utf8_lossy(&rest[4..])
            .trim_end_matches('\0')
            .to_owned();
        (u32::from_ne_bytes(kind.try_into().expect("four bytes")), path)
    }
}
