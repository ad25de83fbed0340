//! A server that speaks TLS, with certificates that are made for it.

use std::path::PathBuf;

use outbox_core::OutboxError;
use outbox_redis_harness::{RedisServer, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::*;

/// An authority, and a server whose certificate it signed.
struct Encrypted {
    folder: TempDir,
    _server: RedisServer,
    plain: u16,
    port: u16,
}

impl Encrypted {
    /// A server that calls itself `names`.
    async fn start(names: &[&str]) -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let mut authority = CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        let files = [
            ("authority.pem", authority.pem()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ];
        for (file, text) in files {
            std::fs::write(folder.path().join(file), text)?;
        }
        let path = |file: &str| folder.path().join(file).display().to_string();
        let port = free_port().await?;
        let server = RedisServer::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("authority.pem"),
            "--tls-auth-clients",
            "no",
        ])
        .await?;
        let plain = server.port();
        Ok(Self {
            folder,
            _server: server,
            plain,
            port,
        })
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.port)
    }
}

/// The error that opening ends with, which is to come soon.
async fn refused(options: RedisOptions) -> Result<OutboxError, BoxError> {
    let asked = Instant::now();
    let opened = RedisStore::open_with(options).await;
    assert!(asked.elapsed() < SECOND * 5, "{:?}", asked.elapsed());
    Ok(opened.err().ok_or("it was opened")?)
}

#[tokio::test]
async fn a_server_whose_authority_is_known_is_opened() -> Tested {
    let server = Encrypted::start(&["127.0.0.1", "localhost"]).await?;
    for host in ["127.0.0.1", "localhost"] {
        let options = options(server.url(host)).certificate_authorities(server.authority());
        let store = RedisStore::open_with(options).await?;
        let cache = RedisDeduplicationCache::open(&store, host).await?;
        assert!(process(&cache, ids(1)[0]).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_whose_authority_is_not_known_is_refused() -> Tested {
    let server = Encrypted::start(&["127.0.0.1"]).await?;
    let other = Encrypted::start(&["127.0.0.1"]).await?;
    let by_another = options(server.url("127.0.0.1")).certificate_authorities(other.authority());
    for options in [options(server.url("127.0.0.1")), by_another] {
        let error = refused(options).await?;
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() -> Tested {
    let server = Encrypted::start(&["redis.example"]).await?;
    let options = options(server.url("localhost")).certificate_authorities(server.authority());
    let error = refused(options).await?;
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("redis.example"), "{error}");
    Ok(())
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_in_time() -> Tested {
    let server = Encrypted::start(&["127.0.0.1"]).await?;
    let plain = format!("rediss://127.0.0.1:{}", server.plain);
    refused(options(plain).certificate_authorities(server.authority())).await?;
    refused(options(format!("redis://127.0.0.1:{}", server.port))).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_without_certificates_is_named() -> Tested {
    let folder = tempfile::tempdir()?;
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing here")?;
    let missing = folder.path().join("missing.pem");
    for file in [empty, missing] {
        let options = options("rediss://127.0.0.1:1").certificate_authorities(&file);
        let error = refused(options).await?;
        assert!(matches!(error, OutboxError::Config(_)), "{error}");
        assert!(
            error.to_string().contains(&file.display().to_string()),
            "{error}"
        );
    }
    let plain = options("redis://127.0.0.1:1").certificate_authorities(folder.path());
    assert!(matches!(refused(plain).await?, OutboxError::Config(_)));
    Ok(())
}
