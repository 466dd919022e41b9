//! A client of the guestbook that never stops asking, from an instance's network, through the Service.
//!
//! It needs neither the daemon nor the API server: only the data path.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::region::{Region, eventually, seconds};

/// Asks while it lives.
pub(crate) struct Traffic {
    is_over: Arc<AtomicBool>,
    asking: Option<JoinHandle<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    good: usize,
    bad: Vec<String>,
}

impl Traffic {
    /// From the last instance of the list; the tests kill on the first.
    pub(crate) fn start(region: &Region) -> anyhow::Result<Self> {
        Self::from(region, |_| true, "guestbook", "/messages")
    }

    /// To a Service, from the last running instance that is meant.
    pub(crate) fn from(
        region: &Region,
        is_meant: impl Fn(&Value) -> bool,
        service: &str,
        path: &str,
    ) -> anyhow::Result<Self> {
        let status = region.status()?;
        let instances = status["instances"].as_array().context("a list of instances")?;
        let running = instances.iter().rfind(|it| it["state"] == "running" && is_meant(it));
        let pid = running.and_then(|it| it["pid"].as_i64()).context("a running instance")?;
        let service = region.kubectl_json(&["get", "service", service])?;
        let address = service["spec"]["clusterIP"].as_str().context("a Service's address")?;
        let url = format!("http://{address}{path}");
        eventually("the page answers", seconds(60), || Ok(Some(ask(pid, &url)?)))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        let asking = std::thread::spawn(move || {
            let mut answers = Answers::default();
            while !until.load(Ordering::Relaxed) {
                match ask(pid, &url) {
                    Ok(()) => answers.good += 1,
                    Err(error) => answers.bad.push(format!("{error:#}")),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            answers
        });
        Ok(Self { is_over, asking: Some(asking) })
    }

    /// Every request was answered.
    pub(crate) fn ensure_unbroken(mut self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        let asking = self.asking.take().context("it is asked once")?;
        let answers = asking.join().ok().context("the client panicked")?;
        ensure!(answers.good > 0 && answers.bad.is_empty(), "{answers:?}");
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn ask(pid: i64, url: &str) -> anyhow::Result<()> {
    let mut curl = Command::new("nsenter");
    curl.args(["--target", &pid.to_string(), "--net", "--"]);
    curl.args(["curl", "-sS", "--fail", "--max-time", "5", url]).stdin(Stdio::null());
    let output = curl.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
