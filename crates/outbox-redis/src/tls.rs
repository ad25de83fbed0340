//! Encrypted connections (feature `tls`): rustls, with its `ring` provider and nobody else's.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use fred::rustls::crypto::ring::default_provider;
use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore};
use fred::rustls_native_certs::load_native_certs;
use fred::types::config::{Config, TlsConfig, TlsConnector, TlsHostMapping};

/// Makes all connections of `config` encrypted ones, to servers whose certificates were signed by an
/// authority in the file, or else by one that the system trusts; what keeps that from being, in words.
pub(crate) fn encrypt(config: &mut Config, authorities: Option<&Path>) -> Result<(), String> {
    let roots = match authorities {
        Some(file) => from_file(file)?,
        None => from_system(),
    };
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.tls = Some(TlsConfig {
        connector: TlsConnector::from(client),
        hostnames: host_mapping(config),
    });
    Ok(())
}

/// Nodes of a cluster name each other by address: where the cluster is known by a name, its
/// certificates are for that.
fn host_mapping(config: &Config) -> TlsHostMapping {
    let hosts = config.server.hosts();
    let by_address = hosts
        .iter()
        .any(|server| server.host.parse::<IpAddr>().is_ok());
    if by_address {
        TlsHostMapping::None
    } else {
        TlsHostMapping::DefaultHost
    }
}

fn from_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(load_native_certs().certs);
    if roots.is_empty() || unusable > 0 {
        tracing::warn!(
            usable = roots.len(),
            unusable,
            "certificates of the system's authorities"
        );
    }
    roots
}

fn from_file(file: &Path) -> Result<RootCertStore, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("`{}`: {why}", file.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() {
        return Err(cannot(&"there is no certificate in it"));
    }
    Ok(roots)
}
