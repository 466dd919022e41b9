//! Which function serves which operation, and what IAM is asked about.
//!
//! Source: Service Authorization Reference, "Amazon EventBridge".

use std::sync::Arc;

use aws_events::{event as e, rule as r, tag as t, target as g};
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{EventBridge, buses, pattern::Pattern, put, records::Rule, rules, tags, targets};

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path,
       |$service:ident, $request:ident| $targets:expr;)*) => {
        $(impl Handle<$module::$operation> for EventBridge {
            fn targets(
                &self,
                _caller: &Caller,
                $request: &<$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let ($service, _) = (self, $request);
                $targets
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <$module::$operation as Operation>::Request,
            ) -> Result<<$module::$operation as Operation>::Response, Fault> {
                $function(self, caller, request)
            }
        })*

        /// Every operation of the service.
        pub fn routes(service: &Arc<EventBridge>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<$module::$operation, _>(service.clone());)*
            routes
        }
    };
}

fn any() -> Vec<Target> {
    vec![Target::any()]
}

/// A rule, with the tags that it has.
fn rule(service: &EventBridge, name: &str) -> Target {
    of_rule(service.rule_arn(name), service.find_rule(name).as_deref())
}

fn of_rule(arn: String, rule: Option<&Rule>) -> Target {
    let tags = rule.into_iter().flat_map(|it| &it.tags);
    Target::resource(arn)
        .with_tags("aws:ResourceTag", tags.map(|(key, value)| (key.as_str(), value.as_str())))
}

/// A rule by its ARN.
fn tagged(service: &EventBridge, arn: &str) -> Target {
    of_rule(arn.to_owned(), tags::found(service, arn).as_deref())
}

fn with_request_tags(target: Target, tags: &[t::Tag]) -> Target {
    target.with_tags("aws:RequestTag", tags.iter().map(|it| (it.key.as_str(), it.value.as_str())))
}

fn put_rule(service: &EventBridge, request: &r::PutRuleRequest) -> Vec<Target> {
    let mut target = with_request_tags(rule(service, &request.name), &request.tags);
    let tagged = target.right_to_tag("events:TagResource", &*target.resource);
    let pattern = request.event_pattern.as_deref().and_then(|it| Pattern::parse(it).ok());
    for (key, field) in [("events:source", "source"), ("events:detail-type", "detail-type")] {
        let listed = pattern.as_ref().map(|it| it.listed(field)).unwrap_or_default();
        if !listed.is_empty() {
            target = target.with(key, listed);
        }
    }
    let role = request.role_arn.as_deref().filter(|it| !it.is_empty());
    let passed = role.map(|it| Target::pass_role(it, "events.amazonaws.com"));
    [target].into_iter().chain(tagged).chain(passed).collect()
}

fn put_targets(service: &EventBridge, request: &g::PutTargetsRequest) -> Vec<Target> {
    let arns = request.targets.iter().map(|it| it.arn.clone());
    let target = rule(service, &request.rule).with("events:TargetArn", arns);
    let roles = request.targets.iter().filter_map(|it| it.role_arn.as_deref());
    let passed = roles.map(|it| Target::pass_role(it, "events.amazonaws.com"));
    [target].into_iter().chain(passed).collect()
}

fn put_events(service: &EventBridge, request: &e::PutEventsRequest) -> Vec<Target> {
    let one = |entry: &e::PutEventsRequestEntry| {
        let mut target = Target::resource(service.bus_arn());
        let keys = [("events:source", &entry.source), ("events:detail-type", &entry.detail_type)];
        for (key, value) in keys {
            if let Some(value) = value {
                target = target.with(key, [value.clone()]);
            }
        }
        target
    };
    request.entries.iter().map(one).collect()
}

serve! {
    r::PutRule: rules::put, |service, it| put_rule(service, it);
    r::DescribeRule: rules::describe, |service, it| vec![rule(service, &it.name)];
    r::ListRules: rules::list, |_service, _it| any();
    r::EnableRule: rules::enable, |service, it| vec![rule(service, &it.name)];
    r::DisableRule: rules::disable, |service, it| vec![rule(service, &it.name)];
    r::DeleteRule: rules::delete, |service, it| vec![rule(service, &it.name)];
    r::ListRuleNamesByTarget: rules::by_target, |_service, _it| any();
    r::TestEventPattern: rules::test, |_service, _it| any();
    g::PutTargets: targets::put, |service, it| put_targets(service, it);
    g::ListTargetsByRule: targets::list, |service, it| vec![rule(service, &it.rule)];
    g::RemoveTargets: targets::remove, |service, it| vec![rule(service, &it.rule)];
    e::PutEvents: put::put, |service, it| put_events(service, it);
    e::DescribeEventBus: buses::describe,
        |service, _it| vec![Target::resource(service.bus_arn())];
    e::ListEventBuses: buses::list, |_service, _it| any();
    t::TagResource: tags::add,
        |service, it| vec![with_request_tags(tagged(service, &it.resource_arn), &it.tags)];
    t::UntagResource: tags::remove, |service, it| {
        let target = tagged(service, &it.resource_arn);
        vec![target.with("aws:TagKeys", it.tag_keys.iter().cloned())]
    };
    t::ListTagsForResource: tags::list, |service, it| vec![tagged(service, &it.resource_arn)];
}
