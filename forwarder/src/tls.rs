//! TLS to the destination: public roots are compiled in, a company's own are read from a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The client's settings.
pub(crate) fn client(bundle: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = bundle {
        let certificates =
            CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read {}", file.display()))?;
        for certificate in certificates {
            let certificate = certificate.with_context(|| format!("{} is no PEM file", file.display()))?;
            roots.add(certificate).with_context(|| format!("a certificate in {}", file.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.context("no version of TLS")?.with_root_certificates(roots).with_no_client_auth())
}
