//! What a signing request asks for, for those who approve it.

use std::net::IpAddr;

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{PkiError, Subject, subject};

/// A signing request's contents. The signature is checked by [`crate::Ca::sign_csr`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrContents {
    pub subject: Subject,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub email_addresses: Vec<String>,
    pub uris: Vec<String>,
}

/// Reads a PEM PKCS#10 request.
pub fn parse_csr(pem: &str) -> Result<CsrContents, PkiError> {
    let malformed = |reason: String| PkiError::MalformedRequest { reason };
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|error| malformed(error.to_string()))?;
    if pem.label != "CERTIFICATE REQUEST" && pem.label != "NEW CERTIFICATE REQUEST" {
        return Err(malformed(format!("PEM block type is `{}`", pem.label)));
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| malformed(error.to_string()))?;
    let info = &request.certification_request_info;
    let mut contents =
        CsrContents { subject: subject::of_name(&info.subject), ..CsrContents::default() };
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            names.general_names.iter().for_each(|name| contents.add(name));
        }
    }
    Ok(contents)
}

impl CsrContents {
    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.email_addresses.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => {
                if let Ok(v4) = <[u8; 4]>::try_from(*octets) {
                    self.ip_addresses.push(v4.into());
                } else if let Ok(v6) = <[u8; 16]>::try_from(*octets) {
                    self.ip_addresses.push(v6.into());
                }
            }
            _ => {}
        }
    }
}
