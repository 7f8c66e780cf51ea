//! The HTTP client: trust compiled in, no redirects, no proxy from the environment, no delay for small packets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Longest time until a connection stands. A provider that takes longer is not reachable.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept: below the 60 s after which load balancers drop theirs without a word.
const KEEP_IDLE: Duration = Duration::from_secs(55);

/// How often a quiet connection is probed, so that a dead one is found before the idle limit.
const PROBE: Duration = Duration::from_secs(20);

/// A client that trusts Mozilla's authorities and those in `bundle`.
///
/// # Errors
/// When the bundle cannot be read or holds no certificate.
pub fn client(bundle: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls(bundle)?)
        .no_proxy()
        // A redirected POST would carry the key and the conversation to an address that nobody configured.
        .redirect(Policy::none())
        .referer(false)
        // The caller's one bounded retry is the only one.
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .tcp_keepalive(PROBE)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(KEEP_IDLE)
        .user_agent(concat!("nachos/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot make the HTTP client")
}

/// Roots are compiled in: the image holds one program and no certificate store.
fn tls(bundle: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = bundle {
        add(&mut roots, file).with_context(|| format!("cannot use the ca_bundle {}", file.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    anyhow::ensure!(roots.len() > before, "it holds no certificate");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_needs_no_certificate_store() {
        assert!(client(None).is_ok());
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        let error = client(Some(Path::new("Cargo.toml"))).unwrap_err();
        assert!(format!("{error:#}").contains("holds no certificate"), "{error:#}");
        assert!(client(Some(Path::new("/nonexistent.pem"))).is_err());
    }
}
