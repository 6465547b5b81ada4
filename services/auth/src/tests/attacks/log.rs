//! What a test's own thread logs.

use std::{cell::RefCell, io::Write, sync::Once};

thread_local! {
    /// What this test's thread logged since it began to listen.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A test runs on one thread; the subscriber is the whole process's, because tracing remembers per event whether
/// anybody at all listens.
#[derive(Clone, Copy)]
pub(super) struct Log;

impl Log {
    pub(super) fn listen() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(|| Log)
                .init();
        });
        LOGGED.set(Some(Vec::new()));
        Self
    }

    pub(super) fn take(self) -> String {
        String::from_utf8(LOGGED.replace(Some(Vec::new())).unwrap_or_default()).expect("text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(logged) = logged {
                logged.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
