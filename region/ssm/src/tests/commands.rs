//! Commands, from the call to an agent's answer.

use std::time::Duration;

use aws_ssm::{
    channel::{CommandJob, CommandResult, JobReply, Task},
    command::{
        GetCommandInvocation, GetCommandInvocationRequest, SendCommand, SendCommandRequest, Target,
    },
    message,
    session::Parameters,
};
use region_gateway::Handle;

use super::support::{ACCOUNT, INSTANCE, Region, region, user};

fn request(commands: &[&str]) -> SendCommandRequest {
    let commands = commands.iter().map(|it| (*it).to_owned()).collect();
    SendCommandRequest {
        instance_ids: vec![INSTANCE.to_owned()],
        document_name: "AWS-RunShellScript".to_owned(),
        parameters: Parameters::from([("commands".to_owned(), commands)]),
        ..SendCommandRequest::default()
    }
}

async fn send(region: &Region, request: SendCommandRequest) -> Result<String, String> {
    match region.call::<SendCommand>(&user("ann"), request).await {
        Ok(sent) => Ok(sent.command.unwrap().command_id.unwrap()),
        Err(fault) => Err(fault.code.into_owned()),
    }
}

async fn outcome(region: &Region, command: &str) -> (String, i64, String) {
    let request = GetCommandInvocationRequest {
        command_id: command.to_owned(),
        instance_id: INSTANCE.to_owned(),
        plugin_name: None,
    };
    let it = region.call::<GetCommandInvocation>(&user("ann"), request).await.unwrap();
    (it.status.unwrap(), it.response_code.unwrap(), it.standard_output_content.unwrap())
}

fn reply(command: &str, status: &str) -> Vec<u8> {
    let result = CommandResult {
        status: status.to_owned(),
        code: 0,
        standard_output: "out".to_owned(),
        ..CommandResult::default()
    };
    let content = serde_json::to_string(&result).unwrap();
    let reply = JobReply { job_id: command.to_owned(), content, ..JobReply::default() };
    serde_json::to_vec(&reply).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_handed_a_command_and_its_answer_is_the_invocations() {
    let region = region();
    let mut agent = region.agent(INSTANCE).await;
    let id = send(&region, request(&["echo out"])).await.unwrap();
    assert_eq!(outcome(&region, &id).await, ("InProgress".to_owned(), -1, String::new()));
    let message = agent.hear_of(message::JOB).await;
    let task: Task = serde_json::from_slice(&message.payload).unwrap();
    let job: CommandJob = serde_json::from_str(&task.content).unwrap();
    assert_eq!(job.parameters["commands"], ["echo out"]);
    // Another instance's agent has nothing to say to it.
    let other = "i-00000000000000002";
    let running = crate::Instance { is_running: true, ..Default::default() };
    region.world.0.lock().insert(other.to_owned(), running);
    let mut stranger = region.agent(other).await;
    stranger.say(message::JOB_REPLY, 0, &reply(&id, "Failed")).await;
    agent.say(message::JOB_REPLY, 0, &reply(&id, "nonsense")).await;
    agent.say(message::JOB_REPLY, 0, &reply(&id, "Success")).await;
    let done = async {
        while outcome(&region, &id).await.0 == "InProgress" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), done).await.unwrap();
    assert_eq!(outcome(&region, &id).await, ("Success".to_owned(), 0, "out".to_owned()));
    agent.say(message::JOB_REPLY, 0, &reply(&id, "Failed")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(outcome(&region, &id).await.0, "Success", "an answer is final");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_nobody_answers_times_out() {
    let region = region();
    drop(region.scope.spawn("looking", region.ssm.clone().run()));
    region.agent(INSTANCE).await.keep(&region.scope);
    let mut slow = request(&["sleep 1000"]);
    slow.timeout_seconds = Some(30);
    slow.parameters.insert("executionTimeout".to_owned(), vec!["60".to_owned()]);
    let id = send(&region, slow).await.unwrap();
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert_eq!(outcome(&region, &id).await.0, "InProgress");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(outcome(&region, &id).await.0, "TimedOut");
    let id = send(&region, request(&["true"])).await.unwrap();
    region.world.0.lock().clear();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(outcome(&region, &id).await.0, "TimedOut");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_run_is_refused() {
    let region = region();
    let code = async |request| send(&region, request).await.unwrap_err();
    assert_eq!(code(request(&["true"])).await, "InvalidInstanceId");
    let _agent = region.agent(INSTANCE).await;
    assert_eq!(code(request(&[])).await, "InvalidParameters");
    let other = SendCommandRequest { document_name: "AWS-Other".to_owned(), ..request(&["true"]) };
    assert_eq!(code(other).await, "InvalidDocument");
    let mut unknown = request(&["true"]);
    unknown.parameters.insert("colour".to_owned(), vec!["red".to_owned()]);
    assert_eq!(code(unknown).await, "InvalidParameters");
    let nobody = SendCommandRequest { instance_ids: Vec::new(), ..request(&["true"]) };
    assert_eq!(code(nobody).await, "ValidationException");
    let hasty = SendCommandRequest { timeout_seconds: Some(1), ..request(&["true"]) };
    assert_eq!(code(hasty).await, "ValidationException");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn tags_choose_instances_and_each_is_decided_on() {
    let region = region();
    let _agent = region.agent(INSTANCE).await;
    let by_tag = SendCommandRequest {
        instance_ids: Vec::new(),
        targets: vec![Target { key: "tag:team".to_owned(), values: vec!["blue".to_owned()] }],
        ..request(&["true"])
    };
    let asked = Handle::<SendCommand>::targets(&region.ssm, &user("ann"), &by_tag);
    let arns: Vec<_> = asked.iter().map(|it| it.resource.as_str()).collect();
    let instance = format!("arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{INSTANCE}");
    assert_eq!(arns, ["arn:aws:ssm:us-east-1::document/AWS-RunShellScript", &*instance]);
    let id = send(&region, by_tag).await.unwrap();
    assert_eq!(outcome(&region, &id).await.0, "InProgress");
    region.scope.cancel();
}
