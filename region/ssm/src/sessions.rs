//! Sessions: from `StartSession` to their end, whoever brings it about.
//!
//! A session is kept until 30 days after its end. It ends when its client or its program says so, when
//! nothing has been said for twenty minutes, when its instance does not run any more, or when the
//! instance's agent has been away from it for a minute.

mod list;

use std::time::Duration;

use aws_ssm::{
    channel::{ChannelClosed, DATA_CHANNEL, SessionTask, Task},
    message,
    session::{
        Parameters, ResumeSessionRequest, ResumeSessionResponse, StartSessionRequest,
        StartSessionResponse, TerminateSessionRequest, TerminateSessionResponse,
    },
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::{Caller, CallerKind, Source, Target};
use serde::{Deserialize, Serialize};

pub(crate) use self::list::describe;
use crate::{Ssm, channels::Channel, documents, faults};

/// What the preferences of Session Manager say by default.
const IDLE: Duration = Duration::from_secs(20 * 60);
/// How long an agent may be away from a session.
const AWAY: Duration = Duration::from_secs(60);
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often is looked for sessions that have ended.
const LOOK: Duration = Duration::from_secs(1);
/// At once, and in the list of those that have ended: each is memory of this machine.
const MOST: usize = 1000;
const MOST_KEPT: usize = 1000;
const LONGEST_REASON: usize = 256;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) document: String,
    pub(crate) owner: String,
    /// What policies call `aws:userid`.
    pub(crate) owner_id: String,
    pub(crate) reason: Option<String>,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) details: Option<String>,
}

/// Who is there of a session that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    /// When something was said, or the session began.
    spoken: Timestamp,
    has_client: bool,
    had_client: bool,
    /// Since when the agent is not connected to it.
    alone: Option<Timestamp>,
}

impl Presence {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { spoken: now, has_client: false, had_client: false, alone: Some(now) }
    }

    fn status(self) -> &'static str {
        match (self.has_client, self.had_client) {
            (true, _) => "Connected",
            (false, true) => "Disconnected",
            (false, false) => "Connecting",
        }
    }
}

/// A session as IAM is asked about it: `${aws:userid}` in a policy keeps users to their own.
pub(crate) fn target(ssm: &Ssm, id: &str) -> Target {
    let config = ssm.config();
    let arn = format!("arn:aws:ssm:{}:{}:session/{id}", config.region, config.account);
    let Some(session) = ssm.sessions().get(id) else { return Target::resource(arn) };
    let tags = [
        ("aws:ssmmessages:session-id", session.owner_id.as_str()),
        ("aws:ssmmessages:target-id", session.target.as_str()),
    ];
    Target::resource(arn).with_tags("ssm:resourceTag", tags).with_tags("aws:ResourceTag", tags)
}

/// The instance, and the document where one is named.
///
/// Deviation: the condition key `ssm:SessionDocumentAccessCheck` is never there, so that the default
/// document needs no right of its own.
pub(crate) fn start_targets(ssm: &Ssm, request: &StartSessionRequest) -> Vec<Target> {
    let config = ssm.config();
    let document = request.document_name.as_ref().map(|name| {
        let account = if name.starts_with("AWS-") { "" } else { &config.account };
        Target::resource(format!("arn:aws:ssm:{}:{account}:document/{name}", config.region))
    });
    [ssm.instance_target(&request.target)].into_iter().chain(document).collect()
}

pub(crate) fn start(
    ssm: &Ssm,
    caller: &Caller,
    request: StartSessionRequest,
) -> Result<StartSessionResponse, Fault> {
    let document = request.document_name.unwrap_or_else(|| documents::DEFAULT.to_owned());
    let content = documents::content(&document, &request.parameters)?;
    if request.reason.as_ref().is_some_and(|it| it.chars().count() > LONGEST_REASON) {
        return Err(faults::validation(format!(
            "1 validation error detected: Value at 'reason' failed to satisfy constraint: Member \
             must have length less than or equal to {LONGEST_REASON}"
        )));
    }
    if !ssm.is_connected(&request.target) {
        return Err(faults::not_connected(&request.target));
    }
    if ssm.present().lock().len() >= MOST {
        return Err(faults::busy(format!("The account has {MOST} sessions.")));
    }
    let session = Session {
        id: format!("{}-0{}", name(caller), entropy::hex(16)),
        target: request.target,
        document: document.clone(),
        owner: caller.arn.clone(),
        owner_id: caller.user_id.clone(),
        reason: request.reason,
        started: ssm.now(),
        ended: None,
        details: None,
    };
    ssm.keep(&session)?;
    let task = SessionTask {
        document_name: document,
        document_content: content,
        session_id: session.id.clone(),
        parameters: request.parameters,
        run_as_user: String::new(),
        session_owner: session.owner.clone(),
    };
    if !ssm.hand_over(&session, &task) {
        ssm.end(&session.id, "");
        return Err(faults::not_connected(&session.target));
    }
    let token = ssm.hub().issue(Channel::Client(session.id.clone()));
    Ok(StartSessionResponse {
        stream_url: Some(stream_url(ssm, caller, &session.id)),
        session_id: Some(session.id),
        token_value: Some(token),
    })
}

/// What a session's id begins with: the user's or the session's name.
fn name(caller: &Caller) -> String {
    let name = match &caller.kind {
        CallerKind::User { name } => name,
        CallerKind::AssumedRole { session, .. } => session,
        _ => "root",
    };
    let is_plain = |it: &char| it.is_ascii_alphanumeric() || ".-@_".contains(*it);
    name.chars().filter(is_plain).take(64).collect()
}

/// The way by which the caller has come.
fn stream_url(ssm: &Ssm, caller: &Caller, id: &str) -> String {
    let config = ssm.config();
    let (scheme, host) = match caller.source {
        Source::Host => ("ws", config.endpoint.clone()),
        _ => ("wss", format!("ssmmessages.{}.amazonaws.com", config.region)),
    };
    format!("{scheme}://{host}{DATA_CHANNEL}{id}?role=publish_subscribe")
}

pub(crate) fn resume(
    ssm: &Ssm,
    caller: &Caller,
    request: ResumeSessionRequest,
) -> Result<ResumeSessionResponse, Fault> {
    let session = ssm.active(&request.session_id)?;
    let token = ssm.hub().issue(Channel::Client(session.id.clone()));
    Ok(ResumeSessionResponse {
        stream_url: Some(stream_url(ssm, caller, &session.id)),
        session_id: Some(session.id),
        token_value: Some(token),
    })
}

/// One that has ended is no error, as on AWS.
pub(crate) fn terminate(
    ssm: &Ssm,
    _caller: &Caller,
    request: TerminateSessionRequest,
) -> Result<TerminateSessionResponse, Fault> {
    ssm.end(&request.session_id, "");
    Ok(TerminateSessionResponse { session_id: Some(request.session_id) })
}

impl Ssm {
    /// A session that goes on.
    pub(crate) fn active(&self, id: &str) -> Result<Session, Fault> {
        let found = self.sessions().get(id).filter(|it| it.ended.is_none());
        found.map(|it| Session::clone(&it)).ok_or_else(|| faults::no_session(id))
    }

    /// Writes a new session down, and forgets those that ended long ago.
    fn keep(&self, session: &Session) -> Result<(), Fault> {
        let oldest = clock::earlier(self.now(), KEPT);
        let mut over = self.sessions().list();
        over.retain(|it| it.ended.is_some());
        over.sort_by_key(|it| std::cmp::Reverse(it.ended));
        let gone = over.iter().enumerate().filter(|(index, it)| {
            *index >= MOST_KEPT || it.ended.is_some_and(|ended| ended < oldest)
        });
        let gone: Vec<&str> = gone.map(|(_, it)| it.id.as_str()).collect();
        self.transaction(|transaction| {
            for id in &gone {
                transaction.delete(self.sessions(), id);
            }
            transaction.put(self.sessions(), session.id.clone(), session.clone());
            Ok(())
        })?;
        self.present().lock().insert(session.id.clone(), Presence::new(session.started));
        Ok(())
    }

    /// Tells the agent to begin. Says whether it could be told.
    fn hand_over(&self, session: &Session, task: &SessionTask) -> bool {
        let Ok(content) = serde_json::to_string(task) else { return false };
        let task = Task {
            content,
            task_id: session.id.clone(),
            topic: "aws.ssm.sessionManager".to_owned(),
            schema_version: 1,
            ..Task::default()
        };
        let Ok(payload) = serde_json::to_vec(&task) else { return false };
        let message = self.message(message::INTERACTIVE_SHELL, payload).encode();
        self.hub().tell(&Channel::Control(session.target.clone()), message)
    }

    /// Ends a session, and tells both ends. One that has ended already stays as it is.
    pub(crate) fn end(&self, id: &str, output: &str) {
        let ended = self.transaction(|transaction| {
            let Some(session) = transaction.get(self.sessions(), id) else { return Ok(None) };
            if session.ended.is_some() {
                return Ok(None);
            }
            let details = (!output.is_empty()).then(|| output.to_owned());
            let over = Session { ended: Some(self.now()), details, ..Session::clone(&session) };
            transaction.put(self.sessions(), id, over.clone());
            Ok(Some(over))
        });
        let session = match ended {
            Ok(Some(session)) => session,
            Ok(None) => return,
            Err(fault) => {
                tracing::warn!(session = id, %fault, "a session's end could not be written down");
                return;
            }
        };
        self.present().lock().remove(id);
        let closed = self.channel_closed(&session, output);
        let (client, agent) = (Channel::Client(id.to_owned()), Channel::Agent(id.to_owned()));
        self.hub().tell(&client, closed.clone());
        // An agent that is not connected to the session hears of it all the same.
        self.hub().tell(&Channel::Control(session.target), closed);
        self.hub().forget(&client);
        self.hub().forget(&agent);
    }

    fn channel_closed(&self, session: &Session, output: &str) -> Vec<u8> {
        let mut message = self.message(message::CHANNEL_CLOSED, Vec::new());
        let closed = ChannelClosed {
            message_id: message.id_text(),
            created_date: message.created.to_string(),
            destination_id: session.target.clone(),
            session_id: session.id.clone(),
            message_type: message::CHANNEL_CLOSED.to_owned(),
            schema_version: 1,
            output: output.to_owned(),
        };
        message.payload = serde_json::to_vec(&closed).unwrap_or_default();
        message.encode()
    }

    fn note(&self, session: &str, change: impl FnOnce(&mut Presence)) {
        if let Some(presence) = self.present().lock().get_mut(session) {
            change(presence);
        }
    }

    pub(crate) fn client_is_there(&self, session: &str, is_there: bool) {
        self.note(session, |it| {
            it.has_client = is_there;
            it.had_client |= is_there;
        });
    }

    pub(crate) fn agent_is_there(&self, session: &str, is_there: bool) {
        let now = self.now();
        self.note(session, |it| it.alone = (!is_there).then_some(now));
    }

    pub(crate) fn was_active(&self, session: &str) {
        let now = self.now();
        self.note(session, |it| it.spoken = now);
    }

    /// Ends sessions that nobody else ends, for ever.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    pub(crate) fn look(&self) {
        let now = self.now();
        let present: Vec<_> =
            self.present().lock().iter().map(|(id, it)| (id.clone(), *it)).collect();
        for (id, presence) in present {
            let Some(session) = self.sessions().get(&id) else { continue };
            if !self.is_running(&session.target) {
                self.end(&id, &format!("{} does not run any more.", session.target));
            } else if clock::earlier(now, IDLE) >= presence.spoken {
                self.end(&id, "The session timed out, as nothing was said for 20 minutes.");
            } else if presence.alone.is_some_and(|it| clock::earlier(now, AWAY) >= it) {
                self.end(&id, &format!("The agent of {} has gone.", session.target));
            }
        }
        self.commands_time_out();
    }
}

/// For whoever reads what a session was started with.
pub(crate) fn first<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).and_then(|it| it.first()).map(String::as_str)
}
