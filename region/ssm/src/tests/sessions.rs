//! Sessions, from the call to what goes from one end to the other.

use std::time::Duration;

use aws_ssm::{
    channel::{
        ChannelClosed, CreateControlChannel, CreateControlChannelRequest, CreateDataChannel,
        CreateDataChannelRequest, TaskComplete,
    },
    instance::{
        DescribeInstanceInformation, DescribeInstanceInformationRequest, UpdateInstanceInformation,
        UpdateInstanceInformationRequest,
    },
    message,
    session::{
        DescribeSessions, DescribeSessionsRequest, ResumeSession, ResumeSessionRequest,
        StartSession, StartSessionRequest, TerminateSession, TerminateSessionRequest,
    },
};
use region_gateway::{Handle, Source};

pub(super) use super::support::World;
use super::support::{ACCOUNT, INSTANCE, Region, Wire, config, instance, region, stranger, user};
use crate::Ssm;

async fn listed(region: &Region, state: &str) -> Vec<(String, String)> {
    let request = DescribeSessionsRequest { state: state.to_owned(), ..Default::default() };
    let found = region.call::<DescribeSessions>(&user("ann"), request).await.unwrap();
    let line = |it: aws_ssm::session::Session| (it.session_id.unwrap(), it.status.unwrap());
    found.sessions.into_iter().map(line).collect()
}

fn closed(payload: &[u8]) -> ChannelClosed {
    serde_json::from_slice(payload).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_reaches_the_agent_and_the_other_way_round() {
    let region = region();
    let mut agent = region.agent(INSTANCE).await;
    let started = region.start(&user("ann")).await.unwrap();
    let id = started.session_id.clone().unwrap();
    assert!(id.starts_with("ann-0"), "{id}");
    let url = format!("ws://127.0.0.1:4566/v1/data-channel/{id}?role=publish_subscribe");
    assert_eq!(started.stream_url, Some(url));
    let task = agent.session().await;
    assert_eq!(
        (task.session_id.as_str(), task.document_name.as_str()),
        (&*id, "SSM-SessionManagerRunShell")
    );
    assert_eq!(task.document_content.session_type, "Standard_Stream");
    assert_eq!(listed(&region, "Active").await, [(id.clone(), "Connecting".to_owned())]);
    let mut far = region.agents_end(&id).await;
    let mut near = region.clients_end(&started).await;
    far.hear_of(message::START_PUBLICATION).await;
    near.say(message::INPUT, 0, b"ls\r").await;
    assert_eq!(far.hear_of(message::INPUT).await.payload, b"ls\r");
    far.say(message::ACKNOWLEDGE, 0, b"{}").await;
    far.say(message::OUTPUT, 0, b"a b").await;
    assert_eq!(near.hear().await.unwrap().message_type, message::ACKNOWLEDGE);
    assert_eq!(near.hear().await.unwrap().payload, b"a b");
    assert_eq!(listed(&region, "Active").await, [(id.clone(), "Connected".to_owned())]);

    let complete = TaskComplete { task_id: id.clone(), output: "bye".into(), ..Default::default() };
    agent.say(message::TASK_COMPLETE, 0, &serde_json::to_vec(&complete).unwrap()).await;
    let end = closed(&near.hear_of(message::CHANNEL_CLOSED).await.payload);
    assert_eq!((end.session_id, end.output.as_str()), (id.clone(), "bye"));
    assert!(near.hear().await.is_none(), "the connection ends with the session");
    assert_eq!(listed(&region, "History").await, [(id, "Terminated".to_owned())]);
    assert!(listed(&region, "Active").await.is_empty());
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn only_the_instance_itself_opens_its_channels() {
    let region = region();
    let other = "i-00000000000000002";
    region.world.0.lock().insert(other.to_owned(), Default::default());
    let control =
        |id: &str| CreateControlChannelRequest { channel_id: id.to_owned(), ..Default::default() };
    // Whoever may take its role can give the session its name, and cannot be it.
    for caller in [user("ann"), stranger(INSTANCE), instance(other)] {
        let refused = region.call::<CreateControlChannel>(&caller, control(INSTANCE)).await;
        assert_eq!(refused.unwrap_err().code, "AccessDeniedException");
        let told =
            UpdateInstanceInformationRequest { instance_id: INSTANCE.into(), ..Default::default() };
        let refused = region.call::<UpdateInstanceInformation>(&caller, told).await;
        assert_eq!(refused.unwrap_err().code, "AccessDeniedException");
    }
    let stopped = region.call::<CreateControlChannel>(&instance(other), control(other)).await;
    assert_eq!(stopped.unwrap_err().code, "TargetNotConnected");
    let _agent = region.agent(INSTANCE).await;
    let id = region.start(&user("ann")).await.unwrap().session_id.unwrap();
    let data =
        |id: &str| CreateDataChannelRequest { session_id: id.to_owned(), ..Default::default() };
    let refused = region.call::<CreateDataChannel>(&instance(other), data(&id)).await;
    assert_eq!(refused.unwrap_err().code, "AccessDeniedException");
    let none = region.call::<CreateDataChannel>(&instance(INSTANCE), data("nobody-1")).await;
    assert_eq!(none.unwrap_err().code, "DoesNotExistException");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_agent_is_not_connected_is_not_connected() {
    let region = region();
    let refused = region.start(&user("ann")).await.unwrap_err();
    assert_eq!(refused.code, "TargetNotConnected");
    assert_eq!(refused.message, format!("{INSTANCE} is not connected."));
    let information = async || {
        let request = DescribeInstanceInformationRequest::default();
        let found =
            region.call::<DescribeInstanceInformation>(&user("ann"), request).await.unwrap();
        let list = found.instance_information_list.into_iter();
        list.map(|it| it.ping_status.unwrap()).collect::<Vec<_>>()
    };
    assert!(information().await.is_empty());
    let agent = region.agent(INSTANCE).await;
    assert_eq!(information().await, ["Online"]);
    assert!(region.start(&user("ann")).await.is_ok());
    drop(agent);
    while region.ssm.is_connected(INSTANCE) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(information().await, ["ConnectionLost"]);
    assert_eq!(region.start(&user("ann")).await.unwrap_err().code, "TargetNotConnected");
    // It is EC2's word that counts, whatever an agent says.
    let _agent = region.agent(INSTANCE).await;
    region.world.0.lock().get_mut(INSTANCE).unwrap().is_running = false;
    assert_eq!(region.start(&user("ann")).await.unwrap_err().code, "TargetNotConnected");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_with_a_new_token_and_the_agent_waits_meanwhile() {
    let region = region();
    let mut agent = region.agent(INSTANCE).await;
    let started = region.start(&user("ann")).await.unwrap();
    let id = agent.session().await.session_id;
    let mut far = region.agents_end(&id).await;
    let near = region.clients_end(&started).await;
    far.hear_of(message::START_PUBLICATION).await;
    drop(near);
    far.hear_of(message::PAUSE_PUBLICATION).await;
    assert_eq!(listed(&region, "Active").await, [(id.clone(), "Disconnected".to_owned())]);
    let mut late = region.clients_end(&started).await;
    assert!(late.hear().await.is_none(), "a token opens a channel once");
    let request = ResumeSessionRequest { session_id: id.clone() };
    let resumed = region.call::<ResumeSession>(&user("ann"), request).await.unwrap();
    let path = format!("/v1/data-channel/{id}");
    let mut near = region.open(&path, &resumed.token_value.unwrap()).await;
    far.hear_of(message::START_PUBLICATION).await;
    far.say(message::OUTPUT, 0, b"still here").await;
    assert_eq!(near.hear().await.unwrap().payload, b"still here");
    let terminate = || TerminateSessionRequest { session_id: id.clone() };
    region.call::<TerminateSession>(&user("ann"), terminate()).await.unwrap();
    near.hear_of(message::CHANNEL_CLOSED).await;
    agent.hear_of(message::CHANNEL_CLOSED).await;
    region.call::<TerminateSession>(&user("ann"), terminate()).await.unwrap();
    let request = ResumeSessionRequest { session_id: id };
    let over = region.call::<ResumeSession>(&user("ann"), request).await.unwrap_err();
    assert_eq!(over.code, "DoesNotExistException");
    region.scope.cancel();
}

/// A region that looks for sessions that have ended, and a session with both of its ends.
async fn watched() -> (Region, Wire, Wire) {
    let region = region();
    drop(region.scope.spawn("looking", region.ssm.clone().run()));
    region.agent(INSTANCE).await.keep(&region.scope);
    let started = region.start(&user("ann")).await.unwrap();
    let far = region.agents_end(started.session_id.as_ref().unwrap()).await;
    let near = region.clients_end(&started).await;
    (region, near, far)
}

/// What the client is told at the end, and when.
async fn end_of(near: &mut Wire) -> (String, Duration) {
    let before = tokio::time::Instant::now();
    let end = closed(&near.hear_of(message::CHANNEL_CLOSED).await.payload);
    (end.output, before.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_after_twenty_minutes_in_which_nothing_is_said() {
    let (region, mut near, far) = watched().await;
    far.keep(&region.scope);
    let (output, after) = end_of(&mut near).await;
    assert!(output.contains("20 minutes"), "{output}");
    assert_eq!(after.as_secs() / 60, 20);
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_its_agent_has_been_away_for_a_minute() {
    let (region, mut near, far) = watched().await;
    drop(far);
    let (output, after) = end_of(&mut near).await;
    assert!(output.contains("agent"), "{output}");
    assert!((60..63).contains(&after.as_secs()), "{after:?}");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_instance() {
    let (region, mut near, _far) = watched().await;
    region.world.0.lock().get_mut(INSTANCE).unwrap().is_running = false;
    let (output, after) = end_of(&mut near).await;
    assert!(output.contains("does not run"), "{output}");
    assert!(after < Duration::from_secs(3), "{after:?}");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn hostile_ends_get_no_further_than_their_own_session() {
    let region = region();
    let mut agent = region.agent(INSTANCE).await;
    let started = region.start(&user("ann")).await.unwrap();
    let id = agent.session().await.session_id;
    let mut far = region.agents_end(&id).await;
    let mut near = region.clients_end(&started).await;
    far.hear_of(message::START_PUBLICATION).await;
    // A client may not speak as an agent or as the gateway, nor an agent as a client.
    near.say(message::OUTPUT, 0, b"x").await;
    near.say(message::CHANNEL_CLOSED, 0, b"{}").await;
    near.say(message::TASK_COMPLETE, 0, format!("{{\"TaskId\":\"{id}\"}}").as_bytes()).await;
    near.say(message::INPUT, 0, b"good").await;
    assert_eq!(far.hear().await.unwrap().payload, b"good");
    far.say(message::INPUT, 0, b"x").await;
    far.say(message::OUTPUT, 0, b"fine").await;
    assert_eq!(near.hear().await.unwrap().payload, b"fine");
    // Another instance's agent cannot end it.
    let other = "i-00000000000000002";
    let running = crate::Instance { is_running: true, ..Default::default() };
    region.world.0.lock().insert(other.to_owned(), running);
    let mut stranger = region.agent(other).await;
    let complete = TaskComplete { task_id: id.clone(), ..Default::default() };
    stranger.say(message::TASK_COMPLETE, 0, &serde_json::to_vec(&complete).unwrap()).await;
    stranger.raw(vec![0; 300]).await;
    assert!(stranger.hear().await.is_none(), "what is no message ends its connection");
    near.say(message::INPUT, 1, b"on").await;
    assert_eq!(far.hear().await.unwrap().payload, b"on");
    // One that is too long, and one whose header lies.
    near.raw(vec![1; 1 << 20]).await;
    assert!(near.hear().await.is_none());
    far.hear_of(message::PAUSE_PUBLICATION).await;
    assert!(region.ssm.is_connected(INSTANCE));
    for (path, token) in
        [("/v1/data-channel/nobody", "x"), ("/v1/data-channel/", ""), ("/v1/x", "")]
    {
        assert!(region.open(path, token).await.hear().await.is_none(), "{path}");
    }
    // One that says nothing is not waited for.
    let before = tokio::time::Instant::now();
    assert!(region.connect(&format!("/v1/data-channel/{id}")).await.hear().await.is_none());
    assert!(before.elapsed() < Duration::from_secs(30));
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn sessions_go_on_where_the_region_is_started_anew() {
    let region = region();
    let mut agent = region.agent(INSTANCE).await;
    region.start(&user("ann")).await.unwrap();
    let id = agent.session().await.session_id;
    region.scope.cancel();
    let clock = clock::Clock::simulated(region.ssm.now());
    let ssm = Ssm::open(&region.store, config(&region.world), clock).unwrap();
    let region = Region { ssm, scope: lifecycle::Scope::new(), ..region };
    assert_eq!(listed(&region, "Active").await, [(id.clone(), "Connecting".to_owned())]);
    let _agent = region.agent(INSTANCE).await;
    let mut far = region.agents_end(&id).await;
    let request = ResumeSessionRequest { session_id: id.clone() };
    let resumed = region.call::<ResumeSession>(&user("ann"), request).await.unwrap();
    let path = format!("/v1/data-channel/{id}");
    let mut near = region.open(&path, &resumed.token_value.unwrap()).await;
    far.hear_of(message::START_PUBLICATION).await;
    far.say(message::OUTPUT, 3, b"on").await;
    assert_eq!(near.hear().await.unwrap().payload, b"on");
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_session_is_decided_on_by_its_instance_its_document_and_its_owner() {
    let region = region();
    let _agent = region.agent(INSTANCE).await;
    let request = StartSessionRequest {
        target: INSTANCE.to_owned(),
        document_name: Some("AWS-StartPortForwardingSession".to_owned()),
        ..StartSessionRequest::default()
    };
    let asked = Handle::<StartSession>::targets(&region.ssm, &user("ann"), &request);
    let arns: Vec<_> = asked.iter().map(|it| it.resource.as_str()).collect();
    let instance = format!("arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{INSTANCE}");
    assert_eq!(
        arns,
        [&*instance, "arn:aws:ssm:us-east-1::document/AWS-StartPortForwardingSession"]
    );
    assert_eq!(asked[0].context["ssm:resourceTag/team"], ["blue"]);
    let plain = StartSessionRequest { document_name: None, ..request };
    assert_eq!(Handle::<StartSession>::targets(&region.ssm, &user("ann"), &plain).len(), 1);
    let id = region.start(&user("ann")).await.unwrap().session_id.unwrap();
    let request = TerminateSessionRequest { session_id: id.clone() };
    let asked = Handle::<TerminateSession>::targets(&region.ssm, &user("bob"), &request).remove(0);
    assert_eq!(asked.resource, format!("arn:aws:ssm:us-east-1:{ACCOUNT}:session/{id}"));
    assert_eq!(asked.context["ssm:resourceTag/aws:ssmmessages:session-id"], ["AIDAann"]);
    region.scope.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_vpc_is_sent_to_the_message_gateways_own_name() {
    let region = region();
    let _agent = region.agent(INSTANCE).await;
    let source = Source::Vpc { vpc_id: "vpc-1".to_owned(), address: [10, 0, 0, 9].into() };
    let inside = region_gateway::Caller { source, ..user("ann") };
    let url = region.start(&inside).await.unwrap().stream_url.unwrap();
    assert!(url.starts_with("wss://ssmmessages.us-east-1.amazonaws.com/v1/data-channel/"), "{url}");
    region.scope.cancel();
}
