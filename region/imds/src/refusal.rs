//! Refusals: IMDS answers errors as a small XHTML page, whatever was asked for.

use http::{Response, StatusCode, header};
use transport::Body;

/// Why a request gets no metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The time to live is missing or wrong, or the request makes no sense.
    BadRequest,
    /// A token is needed, or the one that was given is wrong or over.
    Unauthorized,
    /// Metadata is disabled for this instance, or somebody forwards for somebody else.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Internal,
}

impl Refusal {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn response(self) -> Response<Body> {
        let status = self.status();
        let title = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or(""));
        let page = format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" \
             xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  \
             <h1>{title}</h1>\n </body>\n</html>\n"
        );
        let mut response = Response::new(transport::full(page));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("text/html");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
