//! A client whose answers have no `managedFields`: no store keeps them, and to read them takes as long as
//! to read the rest of an object.
//!
//! They are cut out of the text as it comes. A text cannot hold what they begin with: its quotes would
//! be escaped.
//!
//! Upstream: `cache.TransformStripManagedFields` of client-go.

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use kube::{Client, client::Body};

const BEGIN: &[u8] = b"\"managedFields\":[";

pub(crate) fn lean(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let response = client.send(request).await?;
            let mut cut = Cut::default();
            let lean =
                |body: Body| body.map_frame(move |frame| frame.map_data(|data| cut.next(&data)));
            Ok::<_, kube::Error>(response.map(lean))
        }
    });
    Client::new(service, namespace)
}

/// Where the text stands that came last.
#[derive(Debug, Default)]
struct Cut {
    /// So much of [`BEGIN`] came already.
    begun: usize,
    /// Lists and objects that are open within the entries; 0: we are not there.
    depth: usize,
    is_text: bool,
    is_escaped: bool,
}

impl Cut {
    /// The next piece of the text without the entries; their list is left, empty.
    fn next(&mut self, data: &Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(data.len());
        let mut kept = 0;
        for (at, byte) in data.iter().enumerate() {
            if self.depth == 0 {
                self.look(*byte);
                if self.depth > 0 {
                    out.put_slice(&data[kept..=at]);
                }
            } else {
                self.pass(*byte);
                kept = at;
            }
        }
        if self.depth == 0 {
            if out.is_empty() && kept == 0 {
                return data.clone();
            }
            out.put_slice(&data[kept..]);
        }
        out.freeze()
    }

    fn look(&mut self, byte: u8) {
        self.begun = match byte {
            it if it == BEGIN[self.begun] => self.begun + 1,
            b'"' => 1,
            _ => 0,
        };
        if self.begun == BEGIN.len() {
            *self = Self { depth: 1, ..Self::default() };
        }
    }

    fn pass(&mut self, byte: u8) {
        if self.is_text {
            (self.is_text, self.is_escaped) = match byte {
                _ if self.is_escaped => (true, false),
                b'\\' => (true, true),
                it => (it != b'"', false),
            };
            return;
        }
        match byte {
            b'"' => self.is_text = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"metadata":{"labels":{"a":"\"managedFields\":[1]"},"managedFields":[{"manager":"]\"","fieldsV1":{"k:{\"name\":\"c\"}":{}}}],"name":"n"},"x":[{"managedFields":[]}]}"#;
    const LEFT: &str = r#"{"metadata":{"labels":{"a":"\"managedFields\":[1]"},"managedFields":[],"name":"n"},"x":[{"managedFields":[]}]}"#;

    #[test]
    fn entries_are_cut_out_wherever_the_text_is_broken() {
        for at in 0..=TEXT.len() {
            let mut cut = Cut::default();
            let (first, second) = TEXT.as_bytes().split_at(at);
            let mut out = cut.next(&Bytes::from_static(first)).to_vec();
            out.extend(cut.next(&Bytes::from_static(second)));
            assert_eq!(String::from_utf8(out).unwrap(), LEFT, "{at}");
        }
    }

    #[test]
    fn what_has_none_is_left_as_it_is() {
        let text = Bytes::from_static(b"{\"metadata\":{\"name\":\"managedFields\"}}");
        assert_eq!(Cut::default().next(&text), text);
    }
}
