"""Auto Scaling groups and load balancers."""

from given import until

GROUP = "contract1"


def groups(story):
    do = lambda operation, **it: story.do("autoscaling", operation, **it)
    template = {"LaunchTemplateName": "contract1", "Version": "1"}
    subnets = ",".join(story.of["subnets"][:2])
    tags = [{"Key": it, "Value": "v", "PropagateAtLaunch": True} for it in ("a", "b")]
    for number in "12":
        do("CreateAutoScalingGroup", AutoScalingGroupName=f"contract{number}", MinSize=0,
           MaxSize=9, DesiredCapacity=0, VPCZoneIdentifier=subnets, LaunchTemplate=template,
           Tags=tags)
    name = {"AutoScalingGroupName": GROUP}
    for number in "12":
        do("PutLifecycleHook", LifecycleHookName=f"h{number}", HeartbeatTimeout=60,
           LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING", DefaultResult="CONTINUE",
           **name)
    do("DescribeLifecycleHooks", **name)
    do("CreateOrUpdateTags", Tags=[{"ResourceId": GROUP, "ResourceType": "auto-scaling-group",
                                    "Key": "c", "Value": "d", "PropagateAtLaunch": False}])
    do("DeleteTags", Tags=[{"ResourceId": GROUP, "ResourceType": "auto-scaling-group",
                            "Key": "c"}])
    do("EnableMetricsCollection", Granularity="1Minute", **name)
    do("DisableMetricsCollection", **name)
    do("UpdateAutoScalingGroup", DefaultCooldown=10, **name)
    do("SetDesiredCapacity", DesiredCapacity=3, **name)

    def members():
        group = do("DescribeAutoScalingGroups", AutoScalingGroupNames=[GROUP])
        return group["AutoScalingGroups"][0]["Instances"]

    def are_in_service(number):
        found = [it for it in members() if it["LifecycleState"] == "InService"]
        return len(found) == number

    until(lambda: are_in_service(3), 120)
    ids = [it["InstanceId"] for it in members()]
    do("DescribeAutoScalingInstances")
    do("SetInstanceProtection", InstanceIds=ids[:1], ProtectedFromScaleIn=True, **name)
    do("SetInstanceProtection", InstanceIds=ids[:1], ProtectedFromScaleIn=False, **name)
    do("SetInstanceHealth", InstanceId=ids[0], HealthStatus="Healthy")
    do("DetachInstances", InstanceIds=ids[:1], ShouldDecrementDesiredCapacity=True, **name)
    do("AttachInstances", InstanceIds=ids[:1], **name)
    until(lambda: are_in_service(3))
    do("TerminateInstanceInAutoScalingGroup", InstanceId=ids[2],
       ShouldDecrementDesiredCapacity=True)
    until(lambda: any(it["LifecycleState"] == "Terminating:Wait" for it in members()))
    for number in "12":
        hook = {"LifecycleHookName": f"h{number}", "InstanceId": ids[2], **name}
        do("RecordLifecycleActionHeartbeat", **hook)
        do("CompleteLifecycleAction", LifecycleActionResult="CONTINUE", **hook)
    do("DeleteLifecycleHook", LifecycleHookName="h2", **name)
    do("SuspendProcesses", ScalingProcesses=["Launch"], **name)
    do("ResumeProcesses", **name)
    changes(do)
    sizing(do)
    for what in ("InstanceRefreshes", "WarmPool", "TrafficSources", "LoadBalancers",
                 "LoadBalancerTargetGroups"):
        do(f"Describe{what}", **name)
    for what in ("LaunchConfigurations", "NotificationConfigurations", "Policies",
                 "ScheduledActions", "ScalingActivities", "Tags"):
        do(f"Describe{what}")
    story.of |= name


def changes(do):
    """Standby, a refresh that is taken back and called off, and a warm pool without a machine."""
    name = {"AutoScalingGroupName": "contract2"}
    do("SetDesiredCapacity", DesiredCapacity=1, **name)

    def in_service():
        group = do("DescribeAutoScalingGroups", AutoScalingGroupNames=["contract2"])
        members = group["AutoScalingGroups"][0]["Instances"]
        return [it["InstanceId"] for it in members if it["LifecycleState"] == "InService"]

    until(in_service, 120)
    member = {"InstanceIds": in_service(), **name}
    do("EnterStandby", ShouldDecrementDesiredCapacity=True, **member)
    until(lambda: not in_service())
    do("ExitStandby", **member)
    until(in_service, 120)
    refresh = {"Preferences": {"InstanceWarmup": 300, "MinHealthyPercentage": 0},
               "DesiredConfiguration": {"LaunchTemplate": {
                   "LaunchTemplateName": "contract1", "Version": "2"}}}
    going_on = lambda: [
        it for it in do("DescribeInstanceRefreshes", **name)["InstanceRefreshes"]
        if it["Status"] in ("Pending", "InProgress", "RollbackInProgress")]
    do("StartInstanceRefresh", **refresh, **name)
    do("RollbackInstanceRefresh", **name)
    until(lambda: not going_on(), 120)
    do("StartInstanceRefresh", **refresh, **name)
    do("CancelInstanceRefresh", **name)
    do("PutWarmPool", MaxGroupPreparedCapacity=1, MinSize=0, PoolState="Stopped", **name)
    do("DescribeWarmPool", **name)
    do("DeleteWarmPool", ForceDelete=True, **name)


def sizing(do):
    """Scheduled actions, scaling policies, and what there is at all."""
    name = {"AutoScalingGroupName": GROUP}
    later = "2099-01-0{}T00:00:00Z"
    for number in "12":
        do("PutScheduledUpdateGroupAction", ScheduledActionName=f"s{number}",
           StartTime=later.format(number), MinSize=0, MaxSize=9, **name)
    do("BatchPutScheduledUpdateGroupAction", ScheduledUpdateGroupActions=[
        {"ScheduledActionName": "s3", "Recurrence": "0 8 1 1 *", "TimeZone": "Europe/Berlin",
         "DesiredCapacity": 3},
        {"ScheduledActionName": "s4", "Recurrence": "never", "DesiredCapacity": 3}], **name)
    do("DescribeScheduledActions", **name)
    do("BatchDeleteScheduledAction", ScheduledActionNames=["s3", "s4"], **name)
    change = {"AdjustmentType": "ChangeInCapacity", **name}
    for number in "12":
        do("PutScalingPolicy", PolicyName=f"p{number}", PolicyType="SimpleScaling",
           ScalingAdjustment=0, Cooldown=1, **change)
    do("PutScalingPolicy", PolicyName="p3", PolicyType="StepScaling", StepAdjustments=[
        {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}], **change)
    do("DescribePolicies", **name)
    do("DeleteScheduledAction", ScheduledActionName="s2", **name)
    do("ExecutePolicy", PolicyName="p1", HonorCooldown=True, **name)
    do("DeletePolicy", PolicyName="p3", **name)
    for what in ("AccountLimits", "AdjustmentTypes", "AutoScalingNotificationTypes",
                 "LifecycleHookTypes", "MetricCollectionTypes", "ScalingProcessTypes",
                 "TerminationPolicyTypes"):
        do(f"Describe{what}")


def balancers(story):
    do = lambda operation, **it: story.do("elasticloadbalancing", operation, **it)
    listener = {"Protocol": "TCP", "LoadBalancerPort": 80, "InstancePort": 8080}
    names = ["contract1", "contract2"]
    for name in names:
        do("CreateLoadBalancer", LoadBalancerName=name, Listeners=[listener],
           Subnets=story.of["subnets"][:1], SecurityGroups=story.of["groups"][:1],
           Tags=[{"Key": "a", "Value": "b"}])
    one = {"LoadBalancerName": names[0]}
    do("AddTags", LoadBalancerNames=names[:1], Tags=[{"Key": "c", "Value": "d"}])
    do("DescribeTags", LoadBalancerNames=names)
    do("RemoveTags", LoadBalancerNames=names[:1], Tags=[{"Key": "c"}])
    do("ApplySecurityGroupsToLoadBalancer", SecurityGroups=story.of["groups"], **one)
    do("AttachLoadBalancerToSubnets", Subnets=story.of["subnets"][1:2], **one)
    do("DetachLoadBalancerFromSubnets", Subnets=story.of["subnets"][1:2], **one)
    do("ConfigureHealthCheck", HealthCheck={"Target": "TCP:8080", "Interval": 10, "Timeout": 5,
                                            "UnhealthyThreshold": 2, "HealthyThreshold": 2}, **one)
    do("CreateLoadBalancerListeners", Listeners=[listener | {"LoadBalancerPort": 81}], **one)
    do("DeleteLoadBalancerListeners", LoadBalancerPorts=[81], **one)
    policy = {"PolicyName": "p", **one}
    do("CreateLoadBalancerPolicy", PolicyTypeName="ProxyProtocolPolicyType", PolicyAttributes=[
        {"AttributeName": "ProxyProtocol", "AttributeValue": "true"}], **policy)
    do("DescribeLoadBalancerPolicies", **one)
    backend = {"InstancePort": 8080, **one}
    do("SetLoadBalancerPoliciesForBackendServer", PolicyNames=["p"], **backend)
    do("SetLoadBalancerPoliciesForBackendServer", PolicyNames=[], **backend)
    do("SetLoadBalancerPoliciesOfListener", LoadBalancerPort=80, PolicyNames=[], **one)
    do("DeleteLoadBalancerPolicy", **policy)
    do("DescribeLoadBalancerAttributes", **one)
    do("ModifyLoadBalancerAttributes",
       LoadBalancerAttributes={"CrossZoneLoadBalancing": {"Enabled": True}}, **one)
    instances = [{"InstanceId": it} for it in story.of["InstanceIds"][:2]]
    do("RegisterInstancesWithLoadBalancer", Instances=instances, **one)
    do("DescribeInstanceHealth", **one)
    do("DeregisterInstancesFromLoadBalancer", Instances=instances[1:], **one)
    story.of |= {"LoadBalancerNames": names}
