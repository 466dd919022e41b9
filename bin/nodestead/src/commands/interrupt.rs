//! `nodestead interrupt`: takes Spot Instances away, as EC2 does when it needs them itself.
//!
//! The same as the action `aws:ec2:send-spot-instance-interruptions` of AWS Fault Injection Service:
//! a rebalance recommendation at once, the warning two minutes before the end, the end.

use serde::{Deserialize, Serialize};

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    layout::Layout,
};

/// What the daemon is asked.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Interruption {
    pub(crate) instances: Vec<String>,
    pub(crate) wait: jiff::SignedDuration,
}

/// What it answers, for each.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct End {
    pub(crate) instance: String,
    pub(crate) at: jiff::Timestamp,
}

pub(crate) async fn run(args: cli::Interrupt) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let admin = Admin::new(layout.admin_socket());
    let status: DaemonStatus = admin.get("/v1/status").await?;
    let mut instances = Vec::new();
    for name in &args.instances {
        instances.push(status.interruptible(name)?.id.clone());
    }
    let asked = Interruption { instances, wait: args.r#in };
    let ends: Vec<End> = admin.post("/v1/interruptions", &asked).await?;
    args.output.print(&ends, |all| rendered(all))
}

fn rendered(ends: &[End]) -> String {
    ends.iter().map(|it| format!("{} ends at {}\n", it.instance, it.at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> DaemonStatus {
        let instance = |id: &str, state: &str, is_spot: bool| {
            serde_json::json!({
                "id": id, "state": state, "isSpot": is_spot, "statusCheck": "ok",
                "instanceType": "m5.large", "zone": "us-east-1a", "privateIp": "",
                "nodeName": format!("node-{id}"), "netns": "", "folder": "/",
            })
        };
        let instances = [
            instance("i-spot", "running", true),
            instance("i-gone", "terminated", true),
            instance("i-bought", "running", false),
        ];
        serde_json::from_value(serde_json::json!({
            "pid": 1, "region": "us-east-1", "account": "", "awsEndpoint": "", "clusters": [],
            "instances": instances, "limits": [],
        }))
        .unwrap()
    }

    #[test]
    fn spot_instances_that_run_can_be_interrupted_and_no_others_are_offered() {
        let status = status();
        for name in ["i-spot", "node-i-spot"] {
            assert_eq!(status.interruptible(name).unwrap().id, "i-spot");
        }
        for (name, why) in [
            ("i-gone", "`i-gone` is terminated"),
            ("i-bought", "`i-bought` is no Spot Instance"),
            ("i-none", "there is no instance `i-none`"),
        ] {
            let failure = status.interruptible(name).unwrap_err();
            assert_eq!(failure.to_string(), why);
            assert_eq!(failure.next(), "use one of: i-spot");
        }
    }

    #[test]
    fn a_name_that_two_instances_had_is_that_of_the_one_that_is_there() {
        let mut status = status();
        status.instances.reverse();
        for it in &mut status.instances {
            "ip-10-0-0-1.ec2.internal".clone_into(&mut it.node_name);
        }
        status.instances.retain(|it| it.is_spot);
        assert_eq!(status.instances[0].id, "i-gone");
        assert_eq!(status.interruptible("ip-10-0-0-1.ec2.internal").unwrap().id, "i-spot");
    }
}
