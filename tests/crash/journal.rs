use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
};

use serde_json::Value;

/// The run's own record, synced to disk all the time, for whoever has to explain a failure afterwards.
pub(super) struct Journal {
    lines: Option<Sender<Value>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// In `CARILLON_TEST_OUTPUT`, else among the temporary files.
    pub(super) fn open(name: &str) -> Self {
        let folder = std::env::var_os("CARILLON_TEST_OUTPUT").map_or_else(std::env::temp_dir, PathBuf::from);
        let mut file = File::create(folder.join(format!("crash-{name}.jsonl"))).expect("the journal opens");
        let (sender, lines) = channel::<Value>();
        let writer = std::thread::spawn(move || {
            while let Ok(first) = lines.recv() {
                let mut text = String::new();
                for line in std::iter::once(first).chain(lines.try_iter()) {
                    text.push_str(&line.to_string());
                    text.push('\n');
                }
                file.write_all(text.as_bytes()).expect("the journal is written");
                file.sync_data().expect("the journal is synced");
            }
        });
        Self {
            lines: Some(sender),
            writer: Some(writer),
        }
    }

    pub(super) fn note(&self, line: Value) {
        if let Some(lines) = &self.lines {
            lines.send(line).expect("the writer lives as long as the journal");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
