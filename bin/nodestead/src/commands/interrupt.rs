//! `nodestead interrupt`: takes Spot Instances away, as EC2 does when it needs them itself.
//!
//! The same as the action `aws:ec2:send-spot-instance-interruptions` of AWS Fault Injection Service:
//! a rebalance recommendation at once, the warning two minutes before the end, the end.

use serde::{Deserialize, Serialize};

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    failure::Failure,
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
        instances.push(status.instance(name)?.id.clone());
    }
    let asked = Interruption { instances, wait: duration(&args.r#in)? };
    let ends: Vec<End> = admin.post("/v1/interruptions", &asked).await?;
    args.output.print(&ends, |all| rendered(all))
}

fn rendered(ends: &[End]) -> String {
    ends.iter().map(|it| format!("{} ends at {}\n", it.instance, it.at)).collect()
}

/// `2m`, `150s`, or as ISO 8601 has it.
fn duration(text: &str) -> anyhow::Result<jiff::SignedDuration> {
    text.parse().map_err(|_| {
        let next = "write it as 2m, 150s or PT5M, from two minutes to fifteen";
        Failure::usage(format!("`{text}` is no duration"), next).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_both_ways_of_writing_them() {
        for (text, seconds) in [("2m", 120), ("150s", 150), ("PT5M", 300)] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        assert!(duration("soon").is_err());
    }
}
