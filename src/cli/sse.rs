//! Reads `text/event-stream`, as the HTML standard has it.

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; `message` when it has none.
    pub(super) name: String,
    /// The last `id` that the stream gave, also by an event before.
    pub(super) id: Option<String>,
    /// Its lines.
    pub(super) data: String,
}

/// Takes bytes as they come and gives whole events.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    skip_newline: bool,
    name: String,
    data: String,
    id: Option<String>,
    /// What `retry:` last said, in milliseconds.
    pub(super) retry: Option<u64>,
}

impl Reader {
    /// The events that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.skip_newline);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.skip_newline = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.line(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            if data.is_empty() {
                return None;
            }
            data.pop();
            return Some(Event {
                name: if name.is_empty() {
                    "message".to_owned()
                } else {
                    name
                },
                id: self.id.clone(),
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().or(self.retry);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = "retry: 2500\r\n\r\n: heartbeat\n\nevent: added\nid: e-1\ndata: {\"a\":\r\ndata: 1}\n\ndata:x\n\n\
                    event: lost\n\nid\ndata: y";
        for size in 1..text.len() {
            let mut reader = Reader::default();
            let events: Vec<Event> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| reader.push(chunk))
                .collect();
            assert_eq!(reader.retry, Some(2500));
            let plain: Vec<_> = events
                .iter()
                .map(|event| (event.name.as_str(), event.id.as_deref(), event.data.as_str()))
                .collect();
            assert_eq!(
                plain,
                [
                    ("added", Some("e-1"), "{\"a\":\n1}"),
                    ("message", Some("e-1"), "x")
                ]
            );
        }
    }
}
