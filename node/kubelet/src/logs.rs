//! The runtime's log files: `TIME STREAM TAGS TEXT` lines (the CRI log format).

mod follow;
mod line;
mod open;
mod tail;

pub(crate) use self::{
    follow::{LogOptions, stream},
    open::{itself, open_inside},
    tail::tail_text,
};
