//! Which function serves which operation, and what IAM is asked before.

use std::sync::Arc;

use aws_autoscaling as api;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{
    AutoScaling, activities, capacity, groups, hooks, kinds, members, policies, refreshes,
    scheduled, standby, tags, targets, warm_pools,
};

macro_rules! targets {
    ($service:ident, $caller:ident, $request:ident, any) => {
        vec![Target::any()]
    };
    ($service:ident, $caller:ident, $request:ident, group) => {
        vec![targets::group($service, &$request.auto_scaling_group_name)]
    };
    ($service:ident, $caller:ident, $request:ident, member) => {
        vec![targets::group_of($service, &$request.instance_id)]
    };
    ($service:ident, $caller:ident, $request:ident, by $function:path) => {
        $function($service, $caller, $request)
    };
}

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path, [$($target:tt)*];)*) => {
        $(impl Handle<api::$module::$operation> for AutoScaling {
            fn targets(
                &self,
                caller: &Caller,
                request: &<api::$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let (_, _) = (caller, request);
                targets!(self, caller, request, $($target)*)
            }

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
    group::CreateAutoScalingGroup: groups::create, [by targets::create];
    group::UpdateAutoScalingGroup: groups::update, [by targets::update];
    group::DeleteAutoScalingGroup: groups::delete, [group];
    group::DescribeAutoScalingGroups: groups::describe, [any];
    capacity::SetDesiredCapacity: capacity::set_desired, [group];
    capacity::TerminateInstanceInAutoScalingGroup: capacity::terminate, [member];
    capacity::SetInstanceHealth: capacity::set_health, [member];
    capacity::SetInstanceProtection: capacity::set_protection, [group];
    instance::DescribeAutoScalingInstances: members::describe, [any];
    instance::AttachInstances: members::attach, [group];
    instance::DetachInstances: members::detach, [group];
    standby::EnterStandby: standby::enter, [group];
    standby::ExitStandby: standby::exit, [group];
    warm_pool::PutWarmPool: warm_pools::put, [group];
    warm_pool::DeleteWarmPool: warm_pools::delete, [group];
    warm_pool::DescribeWarmPool: warm_pools::describe, [any];
    instance_refresh::StartInstanceRefresh: refreshes::start, [by targets::start_refresh];
    instance_refresh::CancelInstanceRefresh: refreshes::cancel, [group];
    instance_refresh::RollbackInstanceRefresh: refreshes::rollback, [group];
    instance_refresh::DescribeInstanceRefreshes: refreshes::describe, [any];
    process::SuspendProcesses: members::suspend, [group];
    process::ResumeProcesses: members::resume, [group];
    process::EnableMetricsCollection: members::enable_metrics, [group];
    process::DisableMetricsCollection: members::disable_metrics, [group];
    activity::DescribeScalingActivities: activities::describe, [any];
    lifecycle_hook::PutLifecycleHook: hooks::put, [by targets::put_hook];
    lifecycle_hook::DeleteLifecycleHook: hooks::delete, [group];
    lifecycle_hook::DescribeLifecycleHooks: hooks::describe, [any];
    lifecycle_hook::CompleteLifecycleAction: hooks::complete, [group];
    lifecycle_hook::RecordLifecycleActionHeartbeat: hooks::heartbeat, [group];
    tag::CreateOrUpdateTags: tags::create, [by targets::create_tags];
    tag::DeleteTags: tags::delete, [by targets::delete_tags];
    tag::DescribeTags: tags::describe, [any];
    scheduled_action::PutScheduledUpdateGroupAction: scheduled::put, [by targets::put_scheduled];
    scheduled_action::DeleteScheduledAction: scheduled::delete, [group];
    scheduled_action::BatchPutScheduledUpdateGroupAction: scheduled::put_some, [group];
    scheduled_action::BatchDeleteScheduledAction: scheduled::delete_some, [group];
    scheduled_action::DescribeScheduledActions: scheduled::describe, [any];
    policy::PutScalingPolicy: policies::put, [group];
    policy::DeletePolicy: policies::delete, [by targets::delete_policy];
    policy::ExecutePolicy: policies::execute, [by targets::execute_policy];
    policy::DescribePolicies: policies::describe, [any];
    kinds::DescribeAccountLimits: kinds::limits, [any];
    kinds::DescribeAdjustmentTypes: kinds::adjustments, [any];
    kinds::DescribeAutoScalingNotificationTypes: kinds::notifications, [any];
    kinds::DescribeLifecycleHookTypes: kinds::hooks, [any];
    kinds::DescribeMetricCollectionTypes: kinds::metrics, [any];
    kinds::DescribeScalingProcessTypes: kinds::processes, [any];
    kinds::DescribeTerminationPolicyTypes: kinds::termination_policies, [any];
    launch_configuration::CreateLaunchConfiguration: kinds::create_configuration, [any];
    launch_configuration::DeleteLaunchConfiguration: kinds::delete_configuration, [any];
}

/// What a group here never has: the answer is always none.
macro_rules! none {
    ($($module:ident::$operation:ident $($of_group:ident)?;)*) => {
        $(impl Handle<api::$module::$operation> for AutoScaling {
            async fn handle(
                &self,
                _caller: &Caller,
                request: <api::$module::$operation as Operation>::Request,
            ) -> Result<<api::$module::$operation as Operation>::Response, Fault> {
                let _ = &request;
                $(self.group(&request.$of_group)?;)?
                Ok(Default::default())
            }
        })*

        fn empty(service: &Arc<AutoScaling>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<api::$module::$operation, _>(service.clone());)*
            routes
        }
    };
}

none! {
    other::DescribeTrafficSources auto_scaling_group_name;
    other::DescribeLoadBalancers auto_scaling_group_name;
    other::DescribeLoadBalancerTargetGroups auto_scaling_group_name;
    launch_configuration::DescribeLaunchConfigurations;
    other::DescribeNotificationConfigurations;
}

/// Every operation of the service.
pub fn routes(service: &Arc<AutoScaling>) -> Routes {
    served(service).merge(empty(service))
}
