//! Run Command: `AWS-RunShellScript` on instances whose agents are connected.
//!
//! Deviation: of the documents this one alone; output is kept here and goes neither to S3 nor to
//! CloudWatch; no concurrency or error limits, notifications or alarms. An instance whose agent is not
//! connected when the command is sent does not get it later.

use std::{collections::BTreeSet, time::Duration};

use aws_ssm::{
    channel::{CommandJob, CommandResult, JobReply, Task},
    command::{
        Command, GetCommandInvocationRequest, GetCommandInvocationResponse, SendCommandRequest,
        SendCommandResponse,
    },
    message,
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::{Caller, Target};
use serde::{Deserialize, Serialize};

use crate::{Ssm, channels::Channel, faults, parameters::epoch, sessions::first};

pub(crate) const DOCUMENT: &str = "AWS-RunShellScript";
const PLUGIN: &str = "aws:runShellScript";
const PARAMETERS: [&str; 3] = ["commands", "workingDirectory", "executionTimeout"];
/// How long a command may wait for its instance, if it does not say.
const DELIVERY: i64 = 3600;
/// Of an instance's output this many characters are kept, as AWS's API gives.
const SHOWN: usize = 24_000;
const MOST_INSTANCES: usize = 50;
const MOST_KEPT: usize = 1000;

/// A command on one instance.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Invocation {
    command: String,
    instance: String,
    comment: Option<String>,
    requested: Timestamp,
    /// When nobody waits for an answer any more.
    until: Timestamp,
    ended: Option<Timestamp>,
    status: String,
    code: i64,
    output: String,
    error: String,
}

impl Invocation {
    fn key(command: &str, instance: &str) -> String {
        format!("{command}/{instance}")
    }
}

/// The document, and each instance.
pub(crate) fn targets(ssm: &Ssm, request: &SendCommandRequest) -> Vec<Target> {
    let (config, name) = (ssm.config(), &request.document_name);
    let account = if name.starts_with("AWS-") { "" } else { &config.account };
    let document = format!("arn:aws:ssm:{}:{account}:document/{name}", config.region);
    let instances = chosen(ssm, request).unwrap_or_default();
    let instances = instances.iter().map(|it| ssm.instance_target(it));
    [Target::resource(document)].into_iter().chain(instances).collect()
}

fn chosen(ssm: &Ssm, request: &SendCommandRequest) -> Result<BTreeSet<String>, Fault> {
    let mut found: BTreeSet<String> = request.instance_ids.iter().cloned().collect();
    for target in &request.targets {
        if target.key == "InstanceIds" {
            found.extend(target.values.iter().cloned());
            continue;
        }
        let Some(tag) = target.key.strip_prefix("tag:") else {
            return Err(faults::validation(format!("The target key {} is not valid.", target.key)));
        };
        let told: Vec<String> = ssm.told().lock().keys().cloned().collect();
        let has_tag = |id: &String| {
            let instance = ssm.instance(id).unwrap_or_default();
            instance.tags.get(tag).is_some_and(|it| target.values.contains(it))
        };
        found.extend(told.into_iter().filter(has_tag));
    }
    Ok(found)
}

pub(crate) fn send(
    ssm: &Ssm,
    _caller: &Caller,
    request: SendCommandRequest,
) -> Result<SendCommandResponse, Fault> {
    if request.document_name != DOCUMENT {
        return Err(faults::no_document(&request.document_name));
    }
    let seconds = check(&request)?;
    let instances = chosen(ssm, &request)?;
    // Named ones have to be there; of those that tags choose, there may be none.
    let strangers: Vec<&str> =
        instances.iter().filter(|it| !ssm.is_connected(it)).map(String::as_str).collect();
    if !strangers.is_empty() {
        let message =
            format!("Instances [[{}]] not in a valid state for account", strangers.join(", "));
        return Err(Fault::new("InvalidInstanceId", message));
    }
    if instances.len() > MOST_INSTANCES {
        return Err(faults::validation(format!(
            "A command has {MOST_INSTANCES} instances at most."
        )));
    }
    let (id, now) = (entropy::uuid(), ssm.now());
    let invocations: Vec<Invocation> = instances
        .iter()
        .map(|instance| Invocation {
            command: id.clone(),
            instance: instance.clone(),
            comment: request.comment.clone(),
            requested: now,
            until: clock::later(now, Duration::from_secs(seconds)),
            ended: None,
            status: "InProgress".to_owned(),
            code: -1,
            output: String::new(),
            error: String::new(),
        })
        .collect();
    ssm.keep_invocations(&invocations)?;
    for instance in &instances {
        ssm.hand_command_over(&id, instance, &request);
    }
    Ok(SendCommandResponse {
        command: Some(Command {
            command_id: Some(id),
            document_name: Some(request.document_name),
            comment: request.comment,
            requested_date_time: Some(epoch(now)),
            target_count: i64::try_from(instances.len()).ok(),
            instance_ids: request.instance_ids,
            targets: request.targets,
            parameters: request.parameters,
            status: Some("Pending".to_owned()),
            status_details: Some("Pending".to_owned()),
            timeout_seconds: Some(request.timeout_seconds.unwrap_or(DELIVERY)),
        }),
    })
}

/// How long the whole command may take.
fn check(request: &SendCommandRequest) -> Result<u64, Fault> {
    if let Some(unknown) = request.parameters.keys().find(|it| !PARAMETERS.contains(&it.as_str())) {
        return Err(faults::parameters(format!(
            "Parameter \"{unknown}\" is not defined in the document {DOCUMENT}."
        )));
    }
    if request.parameters.get("commands").is_none_or(Vec::is_empty) {
        return Err(faults::parameters("Parameter \"commands\" requires a value."));
    }
    if request.instance_ids.is_empty() && request.targets.is_empty() {
        return Err(faults::validation("Either InstanceIds or Targets must be specified."));
    }
    let delivery = request.timeout_seconds.unwrap_or(DELIVERY);
    if !(30..=2_592_000).contains(&delivery) {
        return Err(faults::validation(format!(
            "1 validation error detected: Value '{delivery}' at 'timeoutSeconds' failed to satisfy \
             constraint: Member must have value greater than or equal to 30"
        )));
    }
    let execution = first(&request.parameters, "executionTimeout").unwrap_or("3600");
    let execution = execution.parse::<u64>().ok().filter(|it| (1..=172_800).contains(it));
    let execution = execution.ok_or_else(|| {
        faults::parameters("Parameter \"executionTimeout\" has a number of seconds up to 172800.")
    })?;
    Ok(delivery.unsigned_abs() + execution)
}

pub(crate) fn get(
    ssm: &Ssm,
    _caller: &Caller,
    request: GetCommandInvocationRequest,
) -> Result<GetCommandInvocationResponse, Fault> {
    if request.plugin_name.as_deref().is_some_and(|it| it != PLUGIN) {
        return Err(Fault::new("InvalidPluginName", "The plugin name is not valid."));
    }
    let key = Invocation::key(&request.command_id, &request.instance_id);
    let found = ssm.invocations().get(&key);
    let it = found.ok_or_else(|| Fault::new("InvocationDoesNotExist", ""))?;
    Ok(GetCommandInvocationResponse {
        command_id: Some(it.command.clone()),
        instance_id: Some(it.instance.clone()),
        comment: it.comment.clone(),
        document_name: Some(DOCUMENT.to_owned()),
        document_version: Some("$DEFAULT".to_owned()),
        plugin_name: Some(PLUGIN.to_owned()),
        response_code: Some(it.code),
        execution_start_date_time: Some(it.requested.to_string()),
        execution_end_date_time: it.ended.map(|it| it.to_string()),
        status: Some(it.status.clone()),
        status_details: Some(it.status.clone()),
        standard_output_content: Some(it.output.clone()),
        standard_error_content: Some(it.error.clone()),
    })
}

impl Ssm {
    fn keep_invocations(&self, new: &[Invocation]) -> Result<(), Fault> {
        let mut all = self.invocations().list();
        all.sort_by_key(|it| std::cmp::Reverse(it.requested));
        let gone: Vec<_> = all.iter().skip(MOST_KEPT).collect();
        self.transaction(|transaction| {
            for it in &gone {
                transaction.delete(self.invocations(), &Invocation::key(&it.command, &it.instance));
            }
            for it in new {
                let key = Invocation::key(&it.command, &it.instance);
                transaction.put(self.invocations(), key, it.clone());
            }
            Ok(())
        })
    }

    fn hand_command_over(&self, id: &str, instance: &str, request: &SendCommandRequest) {
        let job = CommandJob {
            command_id: id.to_owned(),
            document_name: request.document_name.clone(),
            parameters: request.parameters.clone(),
        };
        let task = Task {
            content: serde_json::to_string(&job).unwrap_or_default(),
            job_id: id.to_owned(),
            topic: "aws.ssm.sendCommand".to_owned(),
            schema_version: 1,
            ..Task::default()
        };
        let payload = serde_json::to_vec(&task).unwrap_or_default();
        let message = self.message(message::JOB, payload).encode();
        if !self.hub().tell(&Channel::Control(instance.to_owned()), message) {
            self.finish(id, instance, |it| it.status = "Undeliverable".to_owned());
        }
    }

    /// The agent of an instance answers for that instance alone.
    pub(crate) fn command_is_answered(&self, instance: &str, reply: &JobReply) {
        let Ok(result) = serde_json::from_str::<CommandResult>(&reply.content) else { return };
        if !["Success", "Failed", "TimedOut"].contains(&result.status.as_str()) {
            return;
        }
        self.finish(&reply.job_id, instance, |it| {
            it.status = result.status;
            it.code = result.code;
            it.output = result.standard_output.chars().take(SHOWN).collect();
            it.error = result.standard_error.chars().take(SHOWN).collect();
        });
    }

    fn finish(&self, command: &str, instance: &str, change: impl FnOnce(&mut Invocation)) {
        let key = Invocation::key(command, instance);
        let written = self.transaction(|transaction| {
            let found = transaction.get(self.invocations(), &key);
            let Some(found) = found.filter(|it| it.ended.is_none()) else { return Ok(()) };
            let mut changed = Invocation::clone(&found);
            changed.ended = Some(self.now());
            change(&mut changed);
            transaction.put(self.invocations(), key.clone(), changed);
            Ok(())
        });
        if let Err(fault) = written {
            tracing::warn!(command, %fault, "what became of a command could not be written down");
        }
    }

    /// Nobody answers for an instance that is gone, or that has had its time.
    pub(crate) fn commands_time_out(&self) {
        let now = self.now();
        let open: Vec<_> =
            self.invocations().list().into_iter().filter(|it| it.ended.is_none()).collect();
        for it in open {
            if it.until <= now || !self.is_running(&it.instance) {
                self.finish(&it.command, &it.instance, |it| it.status = "TimedOut".to_owned());
            }
        }
    }
}
