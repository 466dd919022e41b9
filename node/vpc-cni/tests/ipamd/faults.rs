//! EC2 that throttles, fails, breaks the connection, or answers in part, and what ipamd makes of it.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use aws_ec2::private_addresses::{AssignPrivateIpAddresses, AssignPrivateIpAddressesRequest};
use bytes::Bytes;
use clock::Clock;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use transport::{Body, BoxError};
use vpc_cni::ipamd::Ipamd;

use crate::{Running, pass_a_minute, sandbox, secondary, support::World, until};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused as one too many.
    Throttled,
    /// Failed within EC2, and nothing was done.
    Internal,
    /// Done, and answered as failed.
    Denied,
    /// The connection broke before EC2 had heard it.
    Reset,
    /// Done, but the connection broke before the answer was here.
    Lost,
    /// Done, and answered without content.
    Empty,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] =
        [Self::Throttled, Self::Internal, Self::Denied, Self::Reset, Self::Lost, Self::Empty];

    fn is_done(self) -> bool {
        matches!(self, Self::Denied | Self::Lost | Self::Empty)
    }

    /// The answer to `request`, which `call` carries out.
    pub(crate) async fn meet<C, F>(self, request: Request<Bytes>, call: C) -> Response<Body>
    where
        C: FnOnce(Request<Bytes>) -> F,
        F: Future<Output = Result<Response<Body>, Infallible>>,
    {
        let action = action_of(request.body());
        if self.is_done() {
            let Ok(done) = call(request).await;
            // Bytes are what EC2 would have sent: whatever they are, the call was carried out.
            drop(done.into_body().collect().await);
        }
        match self {
            Self::Throttled => error("RequestLimitExceeded", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal | Self::Denied => {
                error("InternalError", StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Reset | Self::Lost => Response::new(broken()),
            Self::Empty => {
                let text = format!("<{action}Response><requestId>0</requestId></{action}Response>");
                Response::new(transport::full(text))
            }
        }
    }
}

fn error(code: &str, status: StatusCode) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
         <Message>A test's.</Message></Error></Errors><RequestID>0</RequestID></Response>"
    );
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

/// A body that ends in the middle.
fn broken() -> Body {
    let reset: Result<Frame<Bytes>, BoxError> =
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
    StreamBody::new(futures::stream::iter([reset])).boxed_unsync()
}

fn action_of(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    let action = text.split('&').find_map(|it| it.strip_prefix("Action="));
    action.unwrap_or_default().to_owned()
}

/// Which calls go wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Wrong>);

#[derive(Debug, Default)]
struct Wrong {
    percent: u64,
    kinds: Vec<Fault>,
    /// The next calls of these actions.
    next: Vec<(&'static str, Fault)>,
    called: Vec<String>,
}

impl Faults {
    /// So many of a hundred calls go wrong, in any of these ways.
    pub(crate) fn have(&self, percent: u64, kinds: &[Fault]) {
        let mut wrong = self.0.lock();
        (wrong.percent, wrong.kinds) = (percent, kinds.to_vec());
    }

    /// The next call of `action` goes wrong; after those that were to before.
    pub(crate) fn strike(&self, action: &'static str, fault: Fault) {
        self.0.lock().next.push((action, fault));
    }

    /// How often `action` was called.
    pub(crate) fn calls(&self, action: &str) -> usize {
        self.0.lock().called.iter().filter(|it| *it == action).count()
    }

    pub(crate) fn next(&self, body: &Bytes) -> Option<Fault> {
        let action = action_of(body);
        let mut wrong = self.0.lock();
        let at = wrong.next.iter().position(|(of, _)| *of == action);
        let is_hit = entropy::below(100) < wrong.percent && !wrong.kinds.is_empty();
        let kinds = u64::try_from(wrong.kinds.len().max(1)).unwrap_or(1);
        let drawn = usize::try_from(entropy::below(kinds));
        wrong.called.push(action);
        match at {
            Some(at) => Some(wrong.next.remove(at).1),
            None if is_hit => wrong.kinds.get(drawn.unwrap_or(0)).copied(),
            None => None,
        }
    }
}

/// A world in which ipamd has two warm addresses, and wants another one or another interface.
async fn world(tail: &str, environment: &[(&str, &str)]) -> Option<(World, Arc<Ipamd>, Running)> {
    world_repeating(tail, environment, 1).await
}

/// The same with a client that makes a call so often before it says that it failed.
async fn world_repeating(
    tail: &str,
    environment: &[(&str, &str)],
    attempts: u32,
) -> Option<(World, Arc<Ipamd>, Running)> {
    let world = World::new(tail, "192.168.200.0/24").await?;
    let ipamd = world.start_repeating(environment, attempts).await.unwrap();
    let running = Running::start(&ipamd);
    until("two warm addresses", || ipamd.snapshot().stock().total == 2).await;
    Some((world, ipamd, running))
}

const TWO_WARM: [(&str, &str); 2] = [("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "0")];

fn known(ipamd: &Ipamd) -> BTreeSet<std::net::Ipv4Addr> {
    let store = ipamd.snapshot();
    store.enis().flat_map(|eni| eni.holders().map(|(address, ..)| address)).collect()
}

#[tokio::test]
async fn addresses_that_ec2_assigned_without_saying_so_are_used_and_none_is_asked_for_twice() {
    let Some((world, ipamd, _running)) = world("va", &TWO_WARM).await else { return };
    for (number, fault) in [Fault::Denied, Fault::Lost, Fault::Empty].into_iter().enumerate() {
        world.faults.strike("AssignPrivateIpAddresses", fault);
        ipamd.add(&sandbox(number)).await.unwrap();
        let wanted = number + 3;
        until("two are warm again", || ipamd.snapshot().stock().total >= wanted).await;
        until("ipamd knows what EC2 gave", || known(&ipamd) == secondary(&world)).await;
    }
    // One more came with each lost answer at most, and goes back.
    until("two are warm", || ipamd.snapshot().stock().total <= 3 + 2 + 3).await;
}

#[tokio::test]
async fn an_interface_whose_attachment_failed_or_was_not_heard_of_is_not_left_behind() {
    let environment = [("WARM_IP_TARGET", "2")];
    for (number, fault) in [Fault::Internal, Fault::Lost, Fault::Denied].into_iter().enumerate() {
        let tail = format!("vb{number}");
        let Some((world, ipamd, _running)) = world(&tail, &environment).await else { return };
        world.faults.strike("AttachNetworkInterface", fault);
        for pod in 0..9 {
            ipamd.add(&sandbox(pod)).await.unwrap();
        }
        // The failure is told, and the next try works.
        let given = ipamd.add(&sandbox(9)).await.unwrap();
        assert_eq!(given.device_number, 1, "{fault:?}");
        let state = world.ec2.view();
        assert_eq!(state.network_interfaces.len(), 2, "{fault:?}: none is left behind");
        assert_eq!(world.faults.calls("CreateNetworkInterface"), 2, "{fault:?}");
        // The warm stock is filled meanwhile: EC2 has an address before ipamd has the answer.
        until("ipamd knows what EC2 gave", || known(&ipamd) == secondary(&world)).await;
    }
}

#[tokio::test]
async fn an_answer_without_an_interface_attaches_and_removes_nobodys() {
    let Some((world, ipamd, _running)) = world("vc", &[("WARM_IP_TARGET", "2")]).await else {
        return;
    };
    world.faults.strike("CreateNetworkInterface", Fault::Empty);
    world.faults.strike("DescribeInstances", Fault::Empty);
    for pod in 0..10 {
        ipamd.add(&sandbox(pod)).await.unwrap();
    }
    let state = world.ec2.view();
    let attached = state.interfaces_of(&world.instance);
    let devices: Vec<_> =
        attached.iter().filter_map(|it| it.attachment.as_ref().map(|it| it.device_index)).collect();
    assert_eq!(devices, [0, 1], "the node keeps what it has");
    until("ipamd knows what EC2 gave", || known(&ipamd) == secondary(&world)).await;
    // What was made and not named is the sweep's, as it has ipamd's tags.
    let left: Vec<_> = state.network_interfaces.iter().filter(|it| !it.is_in_use()).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].tags.contains_key(vpc_cni::cloud::TAG_CREATED), "{left:?}");
}

#[tokio::test]
async fn addresses_whose_return_was_not_heard_of_are_nobodys_until_it_is_known() {
    let Some((world, ipamd, _running)) = world("vd", &TWO_WARM).await else { return };
    for pod in 0..4 {
        ipamd.add(&sandbox(pod)).await.unwrap();
    }
    until("two more than pods", || ipamd.snapshot().stock().total == 6).await;
    world.faults.strike("UnassignPrivateIpAddresses", Fault::Lost);
    (0..4).for_each(|pod| drop(ipamd.delete(&sandbox(pod))));
    until("EC2 has them back", || secondary(&world).len() == 2).await;
    for pod in 10..14 {
        let given = ipamd.add(&sandbox(pod)).await.unwrap().address;
        assert!(secondary(&world).contains(&given), "{given} went back to EC2");
    }
}

/// What the client of a node does. EC2 refuses the second call then, as it has carried out the first
/// one: that is no word on what was asked for.
#[tokio::test]
async fn addresses_whose_return_was_repeated_are_nobodys_and_go_to_no_pod() {
    let Some((world, ipamd, _running)) = world_repeating("vh", &TWO_WARM, 5).await else { return };
    for pod in 0..4 {
        ipamd.add(&sandbox(pod)).await.unwrap();
    }
    until("two more than pods", || ipamd.snapshot().stock().total == 6).await;
    for fault in [Fault::Lost, Fault::Denied, Fault::Reset] {
        world.faults.strike("UnassignPrivateIpAddresses", fault);
    }
    (0..4).for_each(|pod| drop(ipamd.delete(&sandbox(pod))));
    until("EC2 has them back", || secondary(&world).len() == 2).await;
    until("it is repeated", || world.faults.calls("UnassignPrivateIpAddresses") > 3).await;
    for pod in 10..14 {
        let given = ipamd.add(&sandbox(pod)).await.unwrap().address;
        assert!(secondary(&world).contains(&given), "{given} went back to EC2");
    }
}

/// How often EC2 is asked for addresses within a second or so.
async fn asked(world: &World) -> usize {
    let before = world.faults.calls("AssignPrivateIpAddresses");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    world.faults.calls("AssignPrivateIpAddresses") - before
}

#[tokio::test]
async fn an_ec2_that_fails_is_asked_less_and_less_often() {
    let Some((world, ipamd, _running)) = world("ve", &TWO_WARM).await else { return };
    world.faults.have(100, &[Fault::Internal]);
    ipamd.add(&sandbox(0)).await.unwrap();
    let asked = asked(&world).await;
    assert!((1..=8).contains(&asked), "{asked} calls");
    world.faults.have(0, &[]);
    until("two are warm again", || ipamd.snapshot().stock().total == 3).await;
}

#[tokio::test]
async fn what_imds_does_not_show_is_not_asked_for_without_end() {
    let Some((world, ipamd, _running)) = world("vf", &TWO_WARM).await else { return };
    world.stop_imds(|_| true);
    let request = AssignPrivateIpAddressesRequest {
        network_interface_id: world.ec2.view().interfaces_of(&world.instance)[0].id.clone(),
        secondary_private_ip_address_count: Some(7),
        ..Default::default()
    };
    world.root().call::<AssignPrivateIpAddresses>(request).await.unwrap();
    ipamd.add(&sandbox(0)).await.unwrap();
    let asked = asked(&world).await;
    assert!((1..=8).contains(&asked), "{asked} calls, all refused");
    world.go_on_with_imds();
    until("what is there is known", || known(&ipamd) == secondary(&world)).await;
}

#[tokio::test]
async fn an_interface_that_imds_leaves_out_for_a_while_gives_nobodys_address_away() {
    let Some(world) = World::new("vg", "192.168.200.0/24").await else { return };
    let clock = Clock::simulated(Clock::system().now());
    let ipamd = world.start_at(&[("WARM_IP_TARGET", "1")], "root", clock).await.unwrap();
    let running = Running::start(&ipamd);
    let mut held = BTreeSet::new();
    for pod in 0..12 {
        held.insert(ipamd.add(&sandbox(pod)).await.unwrap().address);
    }
    drop(running);
    world.stop_imds(|it| it.device_number == 0);
    pass_a_minute().await;
    let running = Running::start(&ipamd);
    until("it is out of sight", || ipamd.snapshot().enis().count() == 1).await;
    drop(running);
    world.go_on_with_imds();
    pass_a_minute().await;
    let _running = Running::start(&ipamd);
    until("all pods have theirs", || ipamd.snapshot().stock().assigned == 12).await;
    for pod in 20..24 {
        let given = ipamd.add(&sandbox(pod)).await.unwrap().address;
        assert!(held.insert(given), "{given} is another pod's");
    }
}
