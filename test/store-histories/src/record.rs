//! Who asked what and when, and what the answer was, key by key.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What a key holds: `None` where it is not there. Each write has a value of its own.
pub(crate) type Held = Option<u64>;

/// What a client asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Read,
    Write(Held),
    /// Compare and set.
    Swap {
        expected: Held,
        to: Held,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Found(Held),
    Done,
    /// The key did not hold what the swap expected.
    Refused,
}

/// One operation on one key. Times are places in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub ask: Ask,
    /// `None`: it may have happened or not.
    pub answer: Option<Answer>,
    pub began: usize,
    /// `None`: it may still happen, at any time.
    pub ended: Option<usize>,
}

/// Names an operation that is under way.
#[derive(Clone, Debug)]
pub struct Ticket {
    key: String,
    index: usize,
}

#[derive(Debug, Default)]
struct Record {
    now: usize,
    keys: BTreeMap<String, Vec<Operation>>,
}

impl Record {
    fn tick(&mut self) -> usize {
        self.now += 1;
        self.now
    }
}

/// Where clients write down what they do, all in one order of time.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Record>);

impl Recorder {
    /// To be called before the operation begins.
    pub fn begin(&self, key: &str, ask: Ask) -> Ticket {
        let mut record = self.0.lock();
        let began = record.tick();
        let operations = record.keys.entry(key.to_owned()).or_default();
        operations.push(Operation { ask, answer: None, began, ended: None });
        Ticket { key: key.to_owned(), index: operations.len() - 1 }
    }

    /// To be called after it was answered. What never is may have happened at any time.
    pub fn end(&self, ticket: &Ticket, answer: Answer) {
        let mut record = self.0.lock();
        let now = record.tick();
        let operation = record.keys.get_mut(&ticket.key).and_then(|it| it.get_mut(ticket.index));
        if let Some(operation) = operation {
            (operation.answer, operation.ended) = (Some(answer), Some(now));
        }
    }

    /// What is under way now happens before this moment or never: its store was killed.
    pub fn cut(&self) {
        let mut record = self.0.lock();
        let now = record.tick();
        for operation in record.keys.values_mut().flatten().filter(|it| it.ended.is_none()) {
            operation.ended = Some(now);
        }
    }

    /// All operations, by their keys.
    pub fn keys(&self) -> BTreeMap<String, Vec<Operation>> {
        self.0.lock().keys.clone()
    }

    /// How many operations were answered.
    pub fn answered(&self) -> usize {
        self.0.lock().keys.values().flatten().filter(|it| it.answer.is_some()).count()
    }
}
