//! How we trust a relay.

use std::{net::IpAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use super::EmailError;

/// TLS to one relay, whose certificate must be for its name and signed by somebody whom we trust.
pub(super) struct RelayTls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl RelayTls {
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, EmailError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        if let Some(path) = ca_file {
            let wrong = |reason: String| EmailError::File {
                key: "ca_file",
                path: path.to_owned(),
                reason,
            };
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("holds no certificate".to_owned()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(EmailError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| EmailError::Setting("host"))?,
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}
