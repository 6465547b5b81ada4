/// Text, exactly or by how it begins: `com.example.order.shipped`, `com.example.*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matcher {
    Exactly(String),
    Begins(String),
}

impl Matcher {
    /// # Errors
    /// What is wrong with the pattern.
    pub(super) fn read(text: &str, most: usize) -> Result<Self, String> {
        if text.is_empty() || text.len() > most {
            return Err(format!("must be 1 to {most} bytes"));
        }
        let (start, open) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        if start.contains('*') {
            return Err("may have one *, at its end".to_owned());
        }
        Ok(if open {
            Self::Begins(start.to_owned())
        } else {
            Self::Exactly(start.to_owned())
        })
    }

    pub(super) fn covers(&self, text: &str) -> bool {
        match self {
            Self::Exactly(exactly) => text == exactly,
            Self::Begins(start) => text.starts_with(start),
        }
    }
}
