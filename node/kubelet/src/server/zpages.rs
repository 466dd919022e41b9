//! `/flagz` and `/statusz`: for people who look at one kubelet.
//!
//! Upstream: `component-base/zpages`.

use std::fmt::Write;

use http::{Response, StatusCode};
use transport::Body;

use super::{Server, text};
use crate::settings::VERSION;

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

impl Server {
    pub(super) fn flagz(&self) -> Response<Body> {
        let mut page = format!("\nkubelet flagz\n{WARNING}\n\n");
        for (flag, value) in &self.context.settings.flags {
            add(&mut page, format_args!("{flag}={value}\n"));
        }
        text(StatusCode::OK, page)
    }

    pub(super) fn statusz(&self) -> Response<Body> {
        let up = self.context.clock.now().as_second() - self.started.as_second();
        let mut page = format!("\nkubelet statusz\n{WARNING}\n\n");
        let started = self.started.strftime("%a %b %e %H:%M:%S UTC %Y");
        add(&mut page, format_args!("Started: {started}\n"));
        let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
        add(&mut page, format_args!("Up: {hours} hr {minutes:02} min {seconds:02} sec\n"));
        add(&mut page, format_args!("Binary version: {VERSION}\n"));
        add(&mut page, format_args!("Paths: /configz /healthz /metrics /pods\n"));
        text(StatusCode::OK, page)
    }
}

fn add(page: &mut String, line: std::fmt::Arguments<'_>) {
    let written = page.write_fmt(line);
    debug_assert!(written.is_ok(), "writing into memory");
}
