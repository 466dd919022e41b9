//! A certificate authority: make, load, issue, sign.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};
use transport::tls::Identity;

use crate::{PkiError, csr, subject_of_pem};

/// 2024-01-01: tolerates any clock that is not absurd.
const LEAF_NOT_BEFORE: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// What the key of a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    /// RSA's old way to exchange keys; beside one of the others.
    KeyEncipherment,
}

/// What to put in a certificate that is issued with a fresh key.
#[derive(Clone, Debug)]
pub struct Profile {
    pub cn: String,
    /// At most one (see the crate's deviation).
    pub organizations: Vec<String>,
    /// DNS names and IP addresses, each told apart by its form.
    pub sans: Vec<String>,
    pub usages: Vec<Usage>,
    pub not_after: Timestamp,
}

/// A self-signed authority with its key.
#[derive(Debug)]
pub struct Ca {
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes an authority, valid from 2024 to 2124: outliving the region that it belongs to spares
    /// a rotation that nothing here would perform.
    pub fn new(cn: &str) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Make { name: cn.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(cn, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2124, 1, 1);
        let certificate_pem = params.self_signed(&key).map_err(failed)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Self { certificate_pem, key_pem, issuer: Issuer::new(params, key) })
    }

    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let failed = |source| PkiError::BadAuthority { source };
        let key = KeyPair::from_pem(key_pem).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(failed)?;
        let (certificate_pem, key_pem) = (certificate_pem.to_owned(), key_pem.to_owned());
        Ok(Self { certificate_pem, key_pem, issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a certificate with a fresh key, valid from 2024 on.
    pub fn issue(&self, profile: &Profile) -> Result<Identity, PkiError> {
        let failed = |source| PkiError::Make { name: profile.cn.clone(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(profile.sans.clone()).map_err(failed)?;
        params.distinguished_name = distinguished_name(&profile.cn, &profile.organizations)?;
        set_validity(&mut params, LEAF_NOT_BEFORE, profile.not_after);
        restrict(&mut params, &profile.usages);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// A certificate of another authority's name and key, in PEM: who trusts this authority believes
    /// through it what the other one says of `domain` and the names below it, and nothing else.
    pub fn vouch_for(&self, other: &Self, domain: &str) -> Result<String, PkiError> {
        let subject = subject_of_pem(&other.certificate_pem)?;
        let failed = |source| PkiError::Make { name: subject.common_name.clone(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name =
            distinguished_name(&subject.common_name, &subject.organizations)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.use_authority_key_identifier_extension = true;
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2124, 1, 1);
        let certificate = params.signed_by(other.issuer.key(), &self.issuer).map_err(failed)?;
        Ok(certificate.pem())
    }

    /// Signs a PEM PKCS#10 request: its subject, names and key, but the caller's usages and dates.
    ///
    /// Whether the requester may have that subject is the caller's to decide first.
    pub fn sign_csr(
        &self,
        csr_pem: &str,
        usages: &[Usage],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, PkiError> {
        let contents = csr::parse_csr(csr_pem)?;
        let subject = contents.subject;
        if subject.organizations.len() > 1 {
            let count = subject.organizations.len();
            return Err(PkiError::ManyOrganizations { name: subject.common_name, count });
        }
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|source| PkiError::BadRequest { source })?;
        let sans = std::mem::take(&mut request.params.subject_alt_names);
        request.params = CertificateParams::default();
        request.params.subject_alt_names = sans;
        request.params.distinguished_name =
            distinguished_name(&subject.common_name, &subject.organizations)?;
        set_validity(&mut request.params, not_before, not_after);
        restrict(&mut request.params, usages);
        let signed = request.signed_by(&self.issuer);
        Ok(signed.map_err(|source| PkiError::Make { name: subject.common_name, source })?.pem())
    }
}

fn restrict(params: &mut CertificateParams, usages: &[Usage]) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = Vec::new();
    for usage in usages {
        match usage {
            Usage::Server => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
            Usage::Client => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
            Usage::KeyEncipherment => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
        }
    }
}

fn distinguished_name(cn: &str, organizations: &[String]) -> Result<DistinguishedName, PkiError> {
    let mut name = DistinguishedName::new();
    match organizations {
        [] => {}
        [organization] => name.push(DnType::OrganizationName, organization.as_str()),
        many => {
            return Err(PkiError::ManyOrganizations { name: cn.to_owned(), count: many.len() });
        }
    }
    name.push(DnType::CommonName, cn);
    Ok(name)
}

/// Sets both dates; rcgen's own date type is of a crate that nothing else here needs.
fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let since_epoch =
        |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
}

#[cfg(test)]
mod tests;
