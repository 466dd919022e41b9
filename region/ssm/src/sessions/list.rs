//! Sessions as lists show them.

use aws_ssm::session::{self, DescribeSessionsRequest, DescribeSessionsResponse, SessionFilter};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::Caller;

use super::Session;
use crate::{Ssm, faults, pages, parameters::epoch};

pub(crate) fn describe(
    ssm: &Ssm,
    _caller: &Caller,
    request: DescribeSessionsRequest,
) -> Result<DescribeSessionsResponse, Fault> {
    let wants_active = match request.state.as_str() {
        "Active" => true,
        "History" => false,
        other => {
            return Err(faults::validation(format!(
                "1 validation error detected: Value '{other}' at 'state' failed to satisfy \
                 constraint: Member must satisfy enum value set: [Active, History]"
            )));
        }
    };
    let mut found = Vec::new();
    for session in ssm.sessions().list() {
        let item = shape(ssm, &session);
        if session.ended.is_none() == wants_active && passes(&session, &item, &request.filters)? {
            found.push((session.started, item));
        }
    }
    // The newest first; a page's key has to grow.
    found.sort_by_key(|(started, _)| std::cmp::Reverse(*started));
    let key = |(started, item): &(Timestamp, session::Session)| {
        let age = i64::MAX - started.as_microsecond();
        format!("{age:020}/{}", item.session_id.as_deref().unwrap_or_default())
    };
    let (size, token) = (request.max_results, request.next_token.as_deref());
    let page = pages::cut(found, size, token, 200, key)?;
    let sessions = page.items.into_iter().map(|(_, item)| item).collect();
    Ok(DescribeSessionsResponse { sessions, next_token: page.next })
}

fn shape(ssm: &Ssm, session: &Session) -> session::Session {
    let present = ssm.present().lock().get(&session.id).map(|it| it.status());
    session::Session {
        session_id: Some(session.id.clone()),
        target: Some(session.target.clone()),
        status: Some(present.unwrap_or("Terminated").to_owned()),
        start_date: Some(epoch(session.started)),
        end_date: session.ended.map(epoch),
        document_name: Some(session.document.clone()),
        owner: Some(session.owner.clone()),
        reason: session.reason.clone(),
        details: session.details.clone(),
        max_session_duration: None,
    }
}

fn passes(
    session: &Session,
    item: &session::Session,
    filters: &[SessionFilter],
) -> Result<bool, Fault> {
    for SessionFilter { key, value } in filters {
        let date = || {
            value
                .parse::<Timestamp>()
                .map_err(|_| faults::validation(format!("The filter value {value} is not valid.")))
        };
        let is_met = match key.as_str() {
            "Target" => session.target == *value,
            "Owner" => session.owner == *value,
            "SessionId" => session.id == *value,
            "Status" => item.status.as_ref() == Some(value),
            "InvokedAfter" => session.started > date()?,
            "InvokedBefore" => session.started < date()?,
            other => return Err(faults::filter_key(other)),
        };
        if !is_met {
            return Ok(false);
        }
    }
    Ok(true)
}
