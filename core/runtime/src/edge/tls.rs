//! TLS whose certificate is read again when its files change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use super::EdgeError;

/// A certificate with its key, and where it comes from.
pub(super) struct Tls {
    resolver: Arc<Resolver>,
    provider: Arc<CryptoProvider>,
    certificate: PathBuf,
    key: PathBuf,
    look_every: Duration,
    seen: Option<Stamp>,
    pub(super) acceptor: TlsAcceptor,
}

/// What changes when a file does.
type Stamp = [(Option<SystemTime>, u64); 2];

#[derive(Debug)]
struct Resolver(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl Tls {
    pub(super) fn open(certificate: &Path, key: &Path, look_every: Duration) -> Result<Self, EdgeError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = stamp(certificate, key);
        let pair = read(&provider, certificate, key)?;
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| EdgeError::Tls(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            resolver,
            provider,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            look_every,
            seen,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Watches the files for good. Connections keep the certificate that they began with.
    pub(super) async fn keep_fresh(mut self) {
        let mut tick = tokio::time::interval(self.look_every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (looked, back) = tokio::task::spawn_blocking(move || {
                let looked = self.look();
                (looked, self)
            })
            .await
            .expect("looking at files does not panic");
            self = back;
            match looked {
                Ok(false) => {}
                Ok(true) => tracing::info!(certificate = %self.certificate.display(), "certificate reloaded"),
                Err(error) => {
                    metrics::counter!("carillon_tls_reload_failures_total").increment(1);
                    tracing::error!(%error, "the changed certificate cannot be used; the old one stays");
                }
            }
        }
    }

    /// Takes the files' new content, if it changed and fits together. A pair of which only one half is there yet fails
    /// and is looked at again when the other half comes.
    fn look(&mut self) -> Result<bool, EdgeError> {
        let now = stamp(&self.certificate, &self.key);
        if now == self.seen {
            return Ok(false);
        }
        self.seen = now;
        let pair = read(&self.provider, &self.certificate, &self.key)?;
        *self.resolver.0.write() = Arc::new(pair);
        Ok(true)
    }
}

fn stamp(certificate: &Path, key: &Path) -> Option<Stamp> {
    let of = |path| {
        std::fs::metadata(path)
            .ok()
            .map(|meta| (meta.modified().ok(), meta.len()))
    };
    Some([of(certificate)?, of(key)?])
}

fn read(provider: &CryptoProvider, certificate: &Path, key: &Path) -> Result<CertifiedKey, EdgeError> {
    let fault =
        |path: &Path, reason: &dyn std::fmt::Display| EdgeError::Tls(format!("{}: {reason}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fault(certificate, &error))?;
    if chain.is_empty() {
        return Err(fault(certificate, &"holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
    // Also checks that the key is the certificate's.
    CertifiedKey::from_der(chain, private, provider).map_err(|error| fault(certificate, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_leaves_the_old_certificate_until_a_whole_pair_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let (first, second) = (made(), made());
        std::fs::write(&certificate, first.cert.pem()).expect("written");
        std::fs::write(&key, first.signing_key.serialize_pem()).expect("written");
        let mut tls = Tls::open(&certificate, &key, Duration::from_secs(1)).expect("a pair");
        let used = |tls: &Tls| tls.resolver.0.read().cert[0].clone();
        // No certificate at all, then one whose key is not there yet.
        let more = format!("{}\n", second.cert.pem());
        for text in ["no certificate", &more] {
            std::fs::write(&certificate, text).expect("written");
            assert!(tls.look().is_err(), "{text}");
            assert_eq!(&used(&tls), first.cert.der());
            assert!(!tls.look().expect("nothing new"), "{text}");
        }
        std::fs::write(&key, format!("{}\n", second.signing_key.serialize_pem())).expect("written");
        assert!(tls.look().expect("a pair again"));
        assert_eq!(&used(&tls), second.cert.der());
    }
}
