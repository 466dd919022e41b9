//! Which function serves which operation.

use std::sync::Arc;

use aws_autoscaling as api;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes};

use crate::{AutoScaling, activities, capacity, groups, hooks, members, tags};

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path;)*) => {
        $(impl Handle<api::$module::$operation> for AutoScaling {
            async fn handle(
                &self,
                caller: &Caller,
                request: <api::$module::$operation as Operation>::Request,
            ) -> Result<<api::$module::$operation as Operation>::Response, Fault> {
                $function(self, self.call(caller), request).await
            }
        })*

        fn served(service: &Arc<AutoScaling>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<api::$module::$operation, _>(service.clone());)*
            routes
        }
    };
}

serve! {
    group::CreateAutoScalingGroup: groups::create;
    group::UpdateAutoScalingGroup: groups::update;
    group::DeleteAutoScalingGroup: groups::delete;
    group::DescribeAutoScalingGroups: groups::describe;
    capacity::SetDesiredCapacity: capacity::set_desired;
    capacity::TerminateInstanceInAutoScalingGroup: capacity::terminate;
    capacity::SetInstanceHealth: capacity::set_health;
    capacity::SetInstanceProtection: capacity::set_protection;
    instance::DescribeAutoScalingInstances: members::describe;
    instance::AttachInstances: members::attach;
    instance::DetachInstances: members::detach;
    process::SuspendProcesses: members::suspend;
    process::ResumeProcesses: members::resume;
    process::EnableMetricsCollection: members::enable_metrics;
    process::DisableMetricsCollection: members::disable_metrics;
    activity::DescribeScalingActivities: activities::describe;
    lifecycle_hook::PutLifecycleHook: hooks::put;
    lifecycle_hook::DeleteLifecycleHook: hooks::delete;
    lifecycle_hook::DescribeLifecycleHooks: hooks::describe;
    lifecycle_hook::CompleteLifecycleAction: hooks::complete;
    lifecycle_hook::RecordLifecycleActionHeartbeat: hooks::heartbeat;
    tag::CreateOrUpdateTags: tags::create;
    tag::DeleteTags: tags::delete;
    tag::DescribeTags: tags::describe;
}

/// What a group here never has: the answer is always none.
macro_rules! none {
    ($($operation:ident $($of_group:ident)?;)*) => {
        $(impl Handle<api::other::$operation> for AutoScaling {
            async fn handle(
                &self,
                _caller: &Caller,
                request: <api::other::$operation as Operation>::Request,
            ) -> Result<<api::other::$operation as Operation>::Response, Fault> {
                let _ = &request;
                $(self.group(&request.$of_group)?;)?
                Ok(Default::default())
            }
        })*

        fn empty(service: &Arc<AutoScaling>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<api::other::$operation, _>(service.clone());)*
            routes
        }
    };
}

none! {
    DescribeWarmPool auto_scaling_group_name;
    DescribeInstanceRefreshes auto_scaling_group_name;
    DescribeTrafficSources auto_scaling_group_name;
    DescribeLoadBalancers auto_scaling_group_name;
    DescribeLoadBalancerTargetGroups auto_scaling_group_name;
    DescribeLaunchConfigurations;
    DescribePolicies;
    DescribeScheduledActions;
    DescribeNotificationConfigurations;
}

/// Every operation of the service.
pub fn routes(service: &Arc<AutoScaling>) -> Routes {
    served(service).merge(empty(service))
}
