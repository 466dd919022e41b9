//! Auto repair of managed nodes.

use anyhow::ensure;

use crate::{
    Test,
    missing_rights::Group,
    region::{Region, eventually, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[(
    "a_node_whose_hardware_is_said_to_fail_is_drained_and_replaced",
    a_node_with_failing_hardware_is_replaced,
)];

const NAMES: [&str; 4] = ["--cluster-name", "stead", "--nodegroup-name", "repaired"];
const CONFIG: &str = r#"{"enabled":true,"nodeRepairConfigOverrides":[
    {"nodeMonitoringCondition":"AcceleratedHardwareReady","nodeUnhealthyReason":"NvidiaXID64Error",
     "minRepairWaitTimeMins":1,"repairAction":"Replace"}]}"#;
/// As a node monitoring agent would say it.
const FAILS: &str = r#"{"status":{"conditions":[{"type":"AcceleratedHardwareReady","status":"False",
    "reason":"NvidiaXID64Error","message":"by a test","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;

fn a_node_with_failing_hardware_is_replaced(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &[], "repaired")?;
    let done = replaced(region, &group);
    group.delete()?;
    done
}

fn replaced(region: &Region, group: &Group<'_>) -> anyhow::Result<()> {
    let old = group.node()?;
    active(region)?;
    let update = ["eks", "update-nodegroup-config"];
    region.aws(&[&update[..], &NAMES, &["--node-repair-config", CONFIG]].concat())?;
    active(region)?;
    let described = region.aws(&[&["eks", "describe-nodegroup"][..], &NAMES].concat())?;
    ensure!(described["nodegroup"]["nodeRepairConfig"]["enabled"] == true, "{described}");
    let patch = ["patch", "node", &old, "--subresource=status", "--type=strategic", "-p", FAILS];
    region.kubectl(&patch)?;
    eventually("another node has taken its place", seconds(180), || {
        let label = "eks.amazonaws.com/nodegroup=repaired";
        let nodes = region.kubectl_json(&["get", "nodes", "-l", label])?;
        let names = strings(&nodes, "/metadata/name");
        let is_new = names.len() == 1 && names[0] != old;
        Ok((is_new && nodes.to_string().contains(r#""reason":"KubeletReady""#)).then_some(()))
    })
}

fn active(region: &Region) -> anyhow::Result<()> {
    let describe = [&["eks", "describe-nodegroup"][..], &NAMES].concat();
    eventually("the group is active", seconds(90), || {
        Ok((region.aws(&describe)?["nodegroup"]["status"] == "ACTIVE").then_some(()))
    })
}
