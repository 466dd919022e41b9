//! A server that shows one host's clients another identity than all others, which may change while it
//! serves.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Identity, install_provider, parts};

/// See the module.
#[derive(Debug)]
pub struct Named {
    host: String,
    of_host: RwLock<Arc<CertifiedKey>>,
    of_others: Arc<CertifiedKey>,
}

impl Named {
    pub fn new(host: &str, of_host: &Identity, of_others: &Identity) -> io::Result<Arc<Self>> {
        let (of_host, of_others) = (RwLock::new(certified(of_host)?), certified(of_others)?);
        Ok(Arc::new(Self { host: host.to_owned(), of_host, of_others }))
    }

    /// Shows the host's clients another identity, from the next connection on.
    pub fn replace(&self, of_host: &Identity) -> io::Result<()> {
        let of_host = certified(of_host)?;
        *self.of_host.write().unwrap_or_else(PoisonError::into_inner) = of_host;
        Ok(())
    }

    pub fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        install_provider();
        let builder = ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_host = hello.server_name().is_some_and(|it| it.eq_ignore_ascii_case(&self.host));
        let of_host = || self.of_host.read().unwrap_or_else(PoisonError::into_inner).clone();
        Some(if is_host { of_host() } else { self.of_others.clone() })
    }
}

fn certified(identity: &Identity) -> io::Result<Arc<CertifiedKey>> {
    let (chain, key) = parts(identity)?;
    let provider = aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(io::Error::other)?;
    Ok(Arc::new(certified))
}
