//! TLS at the gateway's door, so that nobody on the way reads tokens.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take to agree on keys.
const WITHIN: Duration = Duration::from_secs(10);

/// Who the gateway is to its clients.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("there is no certificate in it")]
    None,
    #[error("a certificate can't be read: {0}")]
    Certificate(pem::Error),
    #[error("the key can't be read: {0}")]
    Key(pem::Error),
    #[error("certificate and key are not used: {0}")]
    Unfit(#[from] rustls::Error),
}

impl Tls {
    /// By a certificate, with those that lead to a known one behind it, and by its key; both in PEM.
    pub fn of(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(TlsError::Certificate)?;
        if chain.is_empty() {
            return Err(TlsError::None);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Nothing of a client that does not get there in time.
    pub(super) async fn agree(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        match tokio::time::timeout(WITHIN, self.0.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS with a client");
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// Certificate and key, in PEM.
    fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[tokio::test]
    async fn a_client_that_knows_the_certificate_agrees_and_one_that_speaks_no_tls_does_not() {
        let (certificate, key) = made();
        let tls = Tls::of(certificate.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tls.agree(stream).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let (plain, _) = listener.accept().await.unwrap();
            tls.agree(plain).await.is_none()
        });
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "hello");
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET /mcp HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(served.await.unwrap());
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let ((certificate, key), (_, other)) = (made(), made());
        let refused = |certificate: &str, key: &str| {
            Tls::of(certificate.as_bytes(), key.as_bytes()).err().unwrap()
        };
        assert!(matches!(refused(&certificate, &other), TlsError::Unfit(_)));
        assert!(matches!(refused(&key, &key), TlsError::None));
        assert!(matches!(refused(&certificate, &certificate), TlsError::Key(_)));
        assert!(matches!(refused("", ""), TlsError::None));
    }
}
