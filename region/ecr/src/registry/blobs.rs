//! Blobs: `HEAD` and `GET`, whole or from one byte to another.

use std::io::SeekFrom;

use bytes::Bytes;
use http::{
    Method, Response, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc::{self, Sender},
};
use transport::Body;

use super::{
    Call,
    answer::{self, Refusal},
};
use crate::Digest;

const CHUNK: usize = 256 * 1024;
const CHUNKS_AHEAD: usize = 4;

impl Call<'_> {
    pub(super) async fn blob(&self, digest: &str) -> Result<Response<Body>, Refusal> {
        let is_head = match self.parts.method {
            Method::GET => false,
            Method::HEAD => true,
            _ => return Err(Refusal::method()),
        };
        // A pusher looks for what is there already with a right of its own.
        let allowed = self.require("GetDownloadUrlForLayer");
        match (is_head, allowed) {
            (true, Err(refusal)) => {
                self.require("BatchCheckLayerAvailability").map_err(|_| refusal)?;
            }
            (_, allowed) => allowed?,
        }
        self.repository()?;
        let parsed = Digest::parse(digest);
        let parsed = parsed.ok_or_else(|| Refusal::bad_digest("provided digest is invalid"))?;
        let layer = self.ecr.catalog.layer(&self.id, &parsed);
        let size = layer.ok_or_else(|| Refusal::no_blob(digest))?.size;
        let range = self.parts.headers.get(RANGE).and_then(|it| it.to_str().ok());
        let part = match range.filter(|_| !is_head) {
            None => None,
            Some(range) => Some(parse_range(range, size).ok_or_else(|| {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                Refusal::new(status, "RANGE_INVALID", "the range is not of this blob")
            })?),
        };
        let (from, to) = part.unwrap_or((0, size.saturating_sub(1)));
        let length = if size == 0 { 0 } else { to - from + 1 };
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut response = answer::with_status(status, String::new());
        if !is_head && length > 0 {
            *response.body_mut() = self.read(&parsed, from, length).await?;
        }
        answer::set(&mut response, CONTENT_TYPE.as_str(), "application/octet-stream");
        answer::set(&mut response, CONTENT_LENGTH.as_str(), &length.to_string());
        answer::set(&mut response, ACCEPT_RANGES.as_str(), "bytes");
        if part.is_some() {
            let shown = format!("bytes {from}-{to}/{size}");
            answer::set(&mut response, CONTENT_RANGE.as_str(), &shown);
        }
        answer::set_digest(&mut response, &parsed);
        Ok(response)
    }

    async fn read(&self, digest: &Digest, from: u64, length: u64) -> Result<Body, Refusal> {
        let failed = |error: std::io::Error| Refusal::internal(&error);
        let mut file = File::open(self.ecr.blobs.path(digest)).await.map_err(failed)?;
        file.seek(SeekFrom::Start(from)).await.map_err(failed)?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        drop(self.ecr.config.scope.spawn("download", pump(file, length, sender)));
        Ok(transport::stream(chunks))
    }
}

/// A body that ends too early shows in its length, and the client asks again.
async fn pump(mut file: File, mut left: u64, sender: Sender<Bytes>) {
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; wanted];
        if let Err(error) = file.read_exact(&mut chunk).await {
            tracing::warn!(%error, "a blob could not be read to its end");
            return;
        }
        left -= wanted as u64;
        if sender.send(chunk.into()).await.is_err() {
            return;
        }
    }
}

/// The first and last byte of `bytes=A-B`, `bytes=A-` or `bytes=-N`.
fn parse_range(header: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = header.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1)?;
    let (from, to) = match (from, to) {
        ("", count) => (size.saturating_sub(count.parse().ok()?), last),
        (from, "") => (from.parse().ok()?, last),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.min(last)),
    };
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stays_inside_of_the_blob() {
        let cases = [
            ("bytes=0-3", Some((0, 3))),
            ("bytes=4-", Some((4, 9))),
            ("bytes=-3", Some((7, 9))),
            ("bytes=5-100", Some((5, 9))),
            ("bytes=10-", None),
            ("bytes=3-2", None),
            ("bytes=-0", None),
            ("items=0-1", None),
            ("bytes=a-b", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
    }
}
