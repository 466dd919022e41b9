//! One session: the handshake with the client, then a program between its input and its output.
//!
//! Source: `agent/session/datachannel` (`PerformHandshake`) and `agent/session/plugins` of
//! `amazon-ssm-agent`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use aws_ssm::{
    channel::{
        HandshakeComplete, HandshakeRequest, HandshakeResponse, RequestedAction, SessionTask,
    },
    message::{flag, payload},
};
use clock::Clock;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    VERSION,
    gateway::Gateway,
    link::{Happened, Link},
    program::{Input, Program},
    stream::Heard,
};

/// How much input waits for the program; more is left to be sent again.
const PENDING: usize = 64;
/// How long the last output may take to be heard.
const LAST: Duration = Duration::from_secs(5);

/// How a session came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Here: with what the client is to read.
    Complete(String),
    /// On the other side.
    Over,
}

/// Runs a session to its end.
pub(crate) async fn run<S>(
    gateway: Arc<dyn Gateway>,
    clock: Clock,
    task: &SessionTask,
    start: S,
) -> Ending
where
    S: AsyncFnOnce(&SessionTask) -> Result<Program, String>,
{
    let Some(mut link) = Link::open(gateway, &task.session_id, clock).await else {
        return Ending::Over;
    };
    match shake_hands(&mut link, task).await {
        Ok(()) => {}
        Err(ending) => return finish(link, ending).await,
    }
    let ending = match start(task).await {
        Ok(program) => carry(&mut link, program).await,
        Err(message) => Ending::Complete(message),
    };
    finish(link, ending).await
}

/// Asks the client whether it knows this type of session.
async fn shake_hands(link: &mut Link, task: &SessionTask) -> Result<(), Ending> {
    let begun = Instant::now();
    let content = &task.document_content;
    let action = RequestedAction {
        action_type: "SessionType".to_owned(),
        action_parameters: json!({
            "SessionType": content.session_type, "Properties": content.properties,
        }),
    };
    let request = HandshakeRequest {
        agent_version: VERSION.to_owned(),
        requested_client_actions: vec![action],
    };
    link.send(payload::HANDSHAKE_REQUEST, json_of(&request));
    let response = loop {
        let heard = heard(link, true).await?;
        let mut inputs = heard.inputs.into_iter();
        // Anything else that comes before is no answer.
        if let Some((_, bytes)) = inputs.find(|(kind, _)| *kind == payload::HANDSHAKE_RESPONSE) {
            break serde_json::from_slice::<HandshakeResponse>(&bytes);
        }
    };
    let failed = |why: &str| Ending::Complete(format!("Handshake with the client failed: {why}"));
    let response = response.map_err(|_| failed("its answer cannot be read"))?;
    let actions = response.processed_client_actions.unwrap_or_default();
    let action = actions.iter().find(|it| it.action_type == "SessionType");
    match action {
        Some(it) if it.action_status == 1 => {}
        Some(it) => return Err(failed(&it.error)),
        None => return Err(failed("it does not know the type of the session")),
    }
    let nanoseconds = i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let complete = HandshakeComplete {
        handshake_time_to_complete: nanoseconds,
        customer_message: String::new(),
    };
    link.send(payload::HANDSHAKE_COMPLETE, json_of(&complete));
    Ok(())
}

fn json_of(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What comes next, over another connection where this one is lost.
async fn heard(link: &mut Link, accepts: bool) -> Result<Heard, Ending> {
    loop {
        match link.next(accepts).await {
            Happened::Heard(heard) if heard.is_closed => return Err(Ending::Over),
            Happened::Heard(heard) => return Ok(heard),
            Happened::Lost if link.mend().await => {}
            Happened::Lost => return Err(Ending::Over),
        }
    }
}

async fn carry(link: &mut Link, mut program: Program) -> Ending {
    let mut pending: VecDeque<Input> = VecDeque::new();
    loop {
        let (accepts, has_room) = (pending.len() < PENDING, link.stream.has_room());
        tokio::select! {
            happened = heard(link, accepts) => match happened {
                Ok(heard) => {
                    for (kind, bytes) in heard.inputs {
                        match input(kind, bytes) {
                            Meaning::Input(input) => pending.push_back(input),
                            Meaning::End => return Ending::Complete(String::new()),
                            Meaning::Nothing => {}
                        }
                    }
                }
                Err(ending) => return ending,
            },
            permit = program.to.reserve(), if !pending.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(input) = pending.pop_front() {
                        permit.send(input);
                    }
                }
                // It takes nothing more; what it still says is heard.
                Err(_) => pending.clear(),
            },
            output = program.from.recv(), if has_room => match output {
                Some((kind, bytes)) => link.send(kind, bytes),
                None => return Ending::Complete(String::new()),
            },
        }
    }
}

enum Meaning {
    Input(Input),
    End,
    Nothing,
}

fn input(kind: u32, bytes: Vec<u8>) -> Meaning {
    match kind {
        payload::OUTPUT => Meaning::Input(Input::Data(bytes)),
        payload::SIZE => match serde_json::from_slice(&bytes) {
            Ok(size) => Meaning::Input(Input::Size(size)),
            Err(_) => Meaning::Nothing,
        },
        payload::FLAG => match <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_be_bytes) {
            Ok(flag::DISCONNECT_TO_PORT) => Meaning::Input(Input::Disconnect),
            Ok(flag::TERMINATE_SESSION) => Meaning::End,
            _ => Meaning::Nothing,
        },
        _ => Meaning::Nothing,
    }
}

/// The client is to have heard everything before it hears that the session is over.
async fn finish(mut link: Link, ending: Ending) -> Ending {
    if ending == Ending::Over {
        return ending;
    }
    let last = async {
        while !link.stream.is_heard() {
            if heard(&mut link, false).await.is_err() {
                return;
            }
        }
    };
    drop(tokio::time::timeout(LAST, last).await);
    ending
}
