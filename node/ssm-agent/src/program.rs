//! What runs for a session: something that takes input and gives output until it ends.

use aws_ssm::channel::Size;
use tokio::sync::mpsc;

/// As the protocol has it: payloads have so many bytes at most.
pub(crate) const BLOCK: usize = 1024;
const QUEUE: usize = 32;

/// What a client says to a program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Data(Vec<u8>),
    Size(Size),
    /// The client's connection has ended: see [`port`](crate::port).
    Disconnect,
}

/// What a program says: a payload's type, and the payload.
pub(crate) type Output = (u32, Vec<u8>);

/// The client's side of a program. When `from` ends the program has.
pub(crate) struct Program {
    pub(crate) to: mpsc::Sender<Input>,
    pub(crate) from: mpsc::Receiver<Output>,
}

/// The program's own side.
pub(crate) struct Inside {
    pub(crate) input: mpsc::Receiver<Input>,
    pub(crate) output: mpsc::Sender<Output>,
}

pub(crate) fn pair() -> (Program, Inside) {
    let (to, input) = mpsc::channel(QUEUE);
    let (output, from) = mpsc::channel(QUEUE);
    (Program { to, from }, Inside { input, output })
}
