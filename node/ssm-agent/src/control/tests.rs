//! The agent against a gateway that opens and refuses as it is told.

use aws_wire::{CallError, Fault};
use futures::future::BoxFuture;
use http::StatusCode;

use super::*;
use crate::gateway::Opening;

/// What it answers, one after the other; then it hangs.
struct Told(Mutex<Vec<Answer>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Refuses,
    IsAway,
    /// And hangs up at once.
    Opens,
}

impl Gateway for Told {
    fn tell(&self, _: UpdateInstanceInformationRequest) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Ok(()) })
    }

    fn control<'a>(&'a self, _: &'a str) -> Opening<'a> {
        let next = self.0.lock().pop();
        Box::pin(async move {
            match next {
                Some(Answer::Opens) => {
                    let (to, _) = mpsc::channel(1);
                    let (_, from) = mpsc::channel(1);
                    Ok(Channel { to, from })
                }
                Some(Answer::Refuses) => {
                    let (service, action) = ("ssmmessages", "CreateControlChannel");
                    let fault = Fault::new("AccessDeniedException", "not authorized");
                    Err(CallError::Service { service, action, fault }.into())
                }
                Some(Answer::IsAway) => {
                    Err(ChannelError::Refused { status: StatusCode::BAD_GATEWAY })
                }
                None => std::future::pending().await,
            }
        })
    }

    fn data<'a>(&'a self, _: &'a str, _: &'a str) -> Opening<'a> {
        Box::pin(std::future::pending())
    }
}

/// Whether the agent ends, and what the gateway did not get to say.
async fn ends(mut answers: Vec<Answer>) -> (bool, Vec<Answer>) {
    answers.reverse();
    let gateway = Arc::new(Told(Mutex::new(answers)));
    let facts = UpdateInstanceInformationRequest::default();
    let (clock, scope) = (Clock::system(), Scope::new());
    let (agent, reports) = Agent::new(gateway.clone(), clock, scope, facts, PathBuf::new());
    let ended = tokio::time::timeout(LONGEST_REFUSED * 10, agent.run(reports)).await.is_ok();
    let left = gateway.0.lock().clone();
    (ended, left)
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_role_has_no_rights_ends_and_one_that_was_connected_asks_again() {
    use Answer::{IsAway, Opens, Refuses};
    assert_eq!(ends(vec![Refuses, Opens]).await, (true, vec![Opens]));
    assert_eq!(ends(vec![IsAway, Refuses]).await, (true, vec![]), "a region that comes up late");
    assert_eq!(ends(vec![Opens, Refuses, Refuses, Opens]).await, (false, vec![]));
}
