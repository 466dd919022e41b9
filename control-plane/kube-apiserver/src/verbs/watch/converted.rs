//! Events of custom resources that are selected by what their version shows, not by what is stored.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mvcc::{Event, Record};

use super::Stream;
use crate::{status::Status, verbs::get};

impl Stream {
    /// As [`Stream::push_event`]; both states are looked at in the version that was asked for.
    pub(super) async fn push_shown(&mut self, chunk: &mut BytesMut, event: &Event) {
        let before = self.selected(event.previous.as_ref(), event.revision).await;
        let after = match before {
            Ok(_) => self.selected(event.record.as_ref(), event.revision).await,
            Err(_) => Ok(None),
        };
        let (kind, bytes) = match (before, after) {
            (Err(status), _) | (_, Err(status)) => return self.fail(chunk, &status),
            (Ok(None), Ok(None)) => return,
            (Ok(None), Ok(Some(after))) => ("ADDED", after),
            (Ok(Some(_)), Ok(Some(after))) => ("MODIFIED", after),
            (Ok(Some(before)), Ok(None)) => ("DELETED", before),
        };
        self.push_bytes(chunk, kind, bytes);
    }

    /// The state as it is shown, if it is selected.
    async fn selected(
        &self,
        record: Option<&Arc<Record>>,
        revision: u64,
    ) -> Result<Option<Bytes>, Status> {
        let Some(record) = record else { return Ok(None) };
        let bytes = get::shown(&self.server, &self.resource, record, revision).await?;
        let object = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(self.selection.matches_shown(&object).then_some(bytes))
    }
}
