use std::collections::VecDeque;

/// Replies in the order in which they are given.
#[derive(Debug)]
pub(crate) struct Script<R> {
    replies: VecDeque<R>,
    again: bool,
}

impl<R: Clone> Script<R> {
    /// One after the other; the last one stays.
    pub(crate) fn once(replies: impl IntoIterator<Item = R>) -> Self {
        Self {
            replies: replies.into_iter().collect(),
            again: false,
        }
    }

    /// One after the other, and from the beginning again.
    pub(crate) fn cycle(replies: impl IntoIterator<Item = R>) -> Self {
        Self {
            again: true,
            ..Self::once(replies)
        }
    }

    /// The next one; none of an empty script.
    pub(crate) fn next(&mut self) -> Option<R> {
        let next = self.replies.front()?.clone();
        if self.again {
            self.replies.rotate_left(1);
        } else if self.replies.len() > 1 {
            self.replies.pop_front();
        }
        Some(next)
    }
}
