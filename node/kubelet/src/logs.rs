//! The runtime's log files: `TIME STREAM TAGS TEXT` lines (the CRI log format).

mod follow;
mod line;
mod tail;

pub(crate) use self::{
    follow::{LogOptions, stream},
    tail::tail_text,
};
