//! Answers that are given again.
//!
//! Those who watch AWS by asking over and over get the same answer nearly always, and to write that of
//! a hundred instances takes twenty times as long as all else that a call needs. Callers are
//! authenticated and decided on each time; only the answer is not made anew.
//!
//! **Invariant:** an answer is given again only while what it follows from is the same, so that whoever
//! has made a change sees it.

use std::collections::HashMap;

use aws_wire::codec::Answer;
use parking_lot::Mutex;

use crate::routes::Wanted;

/// How much is kept of one operation, in bytes; and of how many requests.
const LIMIT: usize = 2 << 20;
const REQUESTS: usize = 64;

/// Of one operation.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    version: u64,
    size: usize,
    by_request: HashMap<String, Answer>,
}

/// A request whose answer may be kept, and what the answer follows from beside it.
#[derive(Clone)]
pub(crate) struct Key {
    pub version: u64,
    pub request: String,
}

impl Key {
    /// Answers in different forms are different ones.
    fn text(&self, wanted: Wanted) -> String {
        format!("{:?} {}", wanted.form, self.request)
    }
}

impl Kept {
    pub(crate) fn find(&self, key: &Key, wanted: Wanted) -> Option<Answer> {
        let answers = self.0.lock();
        let found = answers.by_request.get(&key.text(wanted));
        found.filter(|_| answers.version == key.version).cloned()
    }

    /// JSON is not kept: to copy a tree costs what making it does.
    pub(crate) fn keep(&self, key: &Key, wanted: Wanted, answer: &Answer) {
        let Answer::Xml(content) = answer else { return };
        let mut answers = self.0.lock();
        if answers.version > key.version {
            return;
        }
        let text = key.text(wanted);
        let size = content.len() + text.len();
        let is_full = answers.size + size > LIMIT || answers.by_request.len() >= REQUESTS;
        if answers.version != key.version || is_full {
            *answers = Answers { version: key.version, ..Answers::default() };
        }
        if size <= LIMIT && answers.by_request.insert(text, answer.clone()).is_none() {
            answers.size += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_wire::{codec::Form, service};

    use super::*;

    fn wanted() -> Wanted {
        Wanted { service: service::find("ec2").unwrap(), form: Form::Native }
    }

    fn key(version: u64, request: &str) -> Key {
        Key { version, request: request.to_owned() }
    }

    fn answer(length: usize) -> Answer {
        Answer::Xml(Arc::new("x".repeat(length)))
    }

    #[test]
    fn an_answer_is_given_again_until_something_changes() {
        let kept = Kept::default();
        kept.keep(&key(1, "a"), wanted(), &answer(1));
        assert_eq!(kept.find(&key(1, "a"), wanted()), Some(answer(1)));
        assert_eq!(kept.find(&key(1, "b"), wanted()), None);
        assert_eq!(kept.find(&key(2, "a"), wanted()), None);
        kept.keep(&key(2, "a"), wanted(), &answer(2));
        // Whoever was slow with the older one does not bring it back.
        kept.keep(&key(1, "a"), wanted(), &answer(1));
        assert_eq!(kept.find(&key(2, "a"), wanted()), Some(answer(2)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Kept::default();
        kept.keep(&key(1, "huge"), wanted(), &answer(LIMIT + 1));
        assert_eq!(kept.find(&key(1, "huge"), wanted()), None);
        for it in 0..1000 {
            kept.keep(&key(1, &it.to_string()), wanted(), &answer(LIMIT / 8));
            let answers = kept.0.lock();
            let held: usize = answers
                .by_request
                .values()
                .map(|it| match it {
                    Answer::Xml(it) => it.len(),
                    Answer::Tree(_) => 0,
                })
                .sum();
            assert!(held <= answers.size && answers.size <= LIMIT);
        }
    }
}
