//! Rules: made, changed, switched on and off, listed, deleted.

use aws_events::rule::{
    DeleteRuleRequest, DeleteRuleResponse, DescribeRuleRequest, DescribeRuleResponse,
    DisableRuleRequest, DisableRuleResponse, EnableRuleRequest, EnableRuleResponse,
    ListRuleNamesByTargetRequest, ListRuleNamesByTargetResponse, ListRulesRequest,
    ListRulesResponse, PutRuleRequest, PutRuleResponse, Rule as Shown, TestEventPatternRequest,
    TestEventPatternResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{
    EventBridge, faults,
    pattern::Pattern,
    records::{BUS, Rule},
    tags,
};

const MOST_RULES: usize = 300;
const LONGEST_PATTERN: usize = 2048;

/// A rule of that name is replaced, but for its targets and tags.
pub(crate) fn put(
    service: &EventBridge,
    _caller: &Caller,
    request: PutRuleRequest,
) -> Result<PutRuleResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    check_name(&request.name)?;
    if request.schedule_expression.as_ref().is_some_and(|it| !it.is_empty()) {
        return Err(faults::parameter(
            "ScheduleExpression",
            "This region runs no schedules: a rule here has an event pattern.",
        ));
    }
    let pattern = request.event_pattern.filter(|it| !it.is_empty()).ok_or_else(|| {
        faults::invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    })?;
    if pattern.len() > LONGEST_PATTERN {
        return Err(faults::limit(format!(
            "An event pattern has {LONGEST_PATTERN} characters at the most."
        )));
    }
    Pattern::parse(&pattern).map_err(|error| faults::bad_pattern(&error))?;
    let is_enabled = match request.state.as_deref() {
        None | Some("ENABLED") => true,
        Some("DISABLED") => false,
        Some(other) => {
            return Err(faults::parameter("State", &format!("{other} is not served here.")));
        }
    };
    let given = tags::checked(&request.tags)?;
    service.change_rules(|transaction, rules| {
        let known = transaction.get(rules, &request.name);
        if known.is_none() && transaction.list(rules).len() >= MOST_RULES {
            return Err(faults::limit(
                "The requested resource exceeds the maximum number allowed.",
            ));
        }
        let (tags, targets) = match known {
            Some(known) => (known.tags.clone(), known.targets.clone()),
            None => (given, Default::default()),
        };
        let rule = Rule {
            name: request.name.clone(),
            pattern,
            is_enabled,
            description: request.description.filter(|it| !it.is_empty()),
            role_arn: request.role_arn.filter(|it| !it.is_empty()),
            tags,
            targets,
        };
        transaction.put(rules, request.name.clone(), rule);
        Ok(())
    })?;
    Ok(PutRuleResponse { rule_arn: Some(service.rule_arn(&request.name)) })
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_word = |it: u8| it.is_ascii_alphanumeric() || b".-_".contains(&it);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_word) {
        return Err(faults::invalid(format!(
            "1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [\\.\\-_A-Za-z0-9]+"
        )));
    }
    Ok(())
}

fn state(rule: &Rule) -> String {
    if rule.is_enabled { "ENABLED" } else { "DISABLED" }.to_owned()
}

pub(crate) fn describe(
    service: &EventBridge,
    _caller: &Caller,
    request: DescribeRuleRequest,
) -> Result<DescribeRuleResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    let rule = service.rule(&request.name)?;
    Ok(DescribeRuleResponse {
        name: Some(rule.name.clone()),
        arn: Some(service.rule_arn(&rule.name)),
        event_pattern: Some(rule.pattern.clone()),
        state: Some(state(&rule)),
        description: rule.description.clone(),
        role_arn: rule.role_arn.clone(),
        event_bus_name: Some(BUS.to_owned()),
        created_by: Some(service.config().account.clone()),
        ..Default::default()
    })
}

pub(crate) fn list(
    service: &EventBridge,
    _caller: &Caller,
    request: ListRulesRequest,
) -> Result<ListRulesResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    let prefix = request.name_prefix.unwrap_or_default();
    let all = service.rules();
    let found = all.iter().filter(|it| it.name.starts_with(&prefix)).map(|it| (&*it.name, it));
    let (found, next_token) = page(found, request.limit, request.next_token.as_deref())?;
    let shown = found.into_iter().map(|rule| Shown {
        name: Some(rule.name.clone()),
        arn: Some(service.rule_arn(&rule.name)),
        event_pattern: Some(rule.pattern.clone()),
        state: Some(state(rule)),
        description: rule.description.clone(),
        role_arn: rule.role_arn.clone(),
        event_bus_name: Some(BUS.to_owned()),
        ..Default::default()
    });
    Ok(ListRulesResponse { rules: shown.collect(), next_token })
}

/// Those that come next, in the order of their names: a page's token is the last name given.
pub(crate) fn page<'a, T>(
    all: impl Iterator<Item = (&'a str, T)>,
    limit: Option<i64>,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), Fault> {
    let limit = limit.map_or(Ok(100), usize::try_from).unwrap_or(0);
    if !(1..=100).contains(&limit) {
        return Err(faults::parameter("Limit", "It must be between 1 and 100."));
    }
    let mut rest = all.skip_while(|(name, _)| token.is_some_and(|token| *name <= token));
    let (mut found, mut last) = (Vec::new(), None);
    for (name, it) in rest.by_ref().take(limit) {
        found.push(it);
        last = Some(name.to_owned());
    }
    let token = rest.next().and(last);
    Ok((found, token))
}

pub(crate) fn by_target(
    service: &EventBridge,
    _caller: &Caller,
    request: ListRuleNamesByTargetRequest,
) -> Result<ListRuleNamesByTargetResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    let all = service.rules();
    let has_it = |it: &Rule| it.targets.values().any(|it| it.arn == request.target_arn);
    let found = all.iter().filter(|it| has_it(it)).map(|it| (&*it.name, it.name.clone()));
    let (rule_names, next_token) = page(found, request.limit, request.next_token.as_deref())?;
    Ok(ListRuleNamesByTargetResponse { rule_names, next_token })
}

pub(crate) fn enable(
    service: &EventBridge,
    _caller: &Caller,
    request: EnableRuleRequest,
) -> Result<EnableRuleResponse, Fault> {
    switch(service, &request.name, request.event_bus_name.as_deref(), true)?;
    Ok(EnableRuleResponse {})
}

pub(crate) fn disable(
    service: &EventBridge,
    _caller: &Caller,
    request: DisableRuleRequest,
) -> Result<DisableRuleResponse, Fault> {
    switch(service, &request.name, request.event_bus_name.as_deref(), false)?;
    Ok(DisableRuleResponse {})
}

fn switch(
    service: &EventBridge,
    name: &str,
    bus: Option<&str>,
    is_enabled: bool,
) -> Result<(), Fault> {
    service.check_bus(bus)?;
    service.update_rule(name, |rule| {
        rule.is_enabled = is_enabled;
        Ok(())
    })
}

/// One that is not there is deleted already.
pub(crate) fn delete(
    service: &EventBridge,
    _caller: &Caller,
    request: DeleteRuleRequest,
) -> Result<DeleteRuleResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    service.change_rules(|transaction, rules| {
        let known = transaction.get(rules, &request.name);
        if known.is_some_and(|it| !it.targets.is_empty()) {
            return Err(faults::invalid("Rule can't be deleted since it has targets."));
        }
        transaction.delete(rules, &request.name);
        Ok(())
    })?;
    Ok(DeleteRuleResponse {})
}

pub(crate) fn test(
    _service: &EventBridge,
    _caller: &Caller,
    request: TestEventPatternRequest,
) -> Result<TestEventPatternResponse, Fault> {
    let pattern =
        Pattern::parse(&request.event_pattern).map_err(|error| faults::bad_pattern(&error))?;
    let event: serde_json::Value = serde_json::from_str(&request.event)
        .map_err(|_| faults::parameter("Event", "It is not JSON."))?;
    const MANDATORY: [&str; 7] =
        ["id", "account", "source", "time", "region", "resources", "detail-type"];
    if let Some(missing) = MANDATORY.iter().find(|it| event.get(**it).is_none()) {
        return Err(faults::parameter("Event", &format!("{missing} is not in it.")));
    }
    Ok(TestEventPatternResponse { result: Some(pattern.matches(&event)) })
}
