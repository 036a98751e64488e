//! The first message of a TLS connection, and whether it asks for the host that was granted.
//!
//! One address often serves thousands of names. Without this, a guest that may reach one of them says another
//! in its hello and reaches that. What is encrypted stays so: a client that hides the name of its wish (ECH)
//! shows the name of the server that knows it, and that one is compared; and what a client asks for inside a
//! connection, such as another host on the same HTTP/2 connection, is for the server to refuse.

use std::io;

use osvm_spec::plain_host_name;
use rustls::server::Acceptor;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::log::Escaped;

/// Most bytes that are kept before it is known what the hello asks for: the longest handshake message that
/// `rustls` takes, and the heads of its records.
const MOST: usize = 80 * 1024;

/// "Access denied" (RFC 8446, 6.2), in a record that a client reads before there is any key.
pub(crate) const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Why a connection on the port of HTTPS is not carried.
#[derive(Debug, Error)]
pub(crate) enum HelloError {
    #[error("it begins with no TLS hello, and port 443 carries nothing else ({0})")]
    NotTls(rustls::Error),
    #[error("its TLS hello is longer than {MOST} bytes")]
    TooLong,
    #[error("its TLS hello names no host")]
    NoName,
    #[error("its TLS hello asks for {}", Escaped(.0))]
    OtherName(String),
    #[error("it ended before its TLS hello did")]
    Ended,
    #[error("the guest's stream broke ({0})")]
    Broken(#[from] io::Error),
}

/// Takes the hello out of a stream that arrives in pieces of any size.
#[derive(Default)]
struct Hello {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

/// Reads until the hello has shown that it asks for `granted`, or for anything where that is `None`. Returns
/// all that was read, which is to be passed on as it is.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    granted: Option<&str>,
) -> Result<Vec<u8>, HelloError> {
    let mut hello = Hello::default();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Err(HelloError::Ended);
        }
        if let Some(name) = hello.push(&piece[..length])? {
            granted.map_or(Ok(()), |granted| compare(name, granted))?;
            return Ok(hello.bytes);
        }
    }
}

impl Hello {
    /// The name that the hello asks for, if any, once all of it has arrived.
    fn push(&mut self, mut bytes: &[u8]) -> Result<Option<Option<String>>, HelloError> {
        if self.bytes.len() + bytes.len() > MOST {
            return Err(HelloError::TooLong);
        }
        self.bytes.extend_from_slice(bytes);
        while !bytes.is_empty() {
            self.acceptor.read_tls(&mut bytes).map_err(|_| HelloError::TooLong)?;
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
                }
                Err((error, _alert)) => return Err(HelloError::NotTls(error)),
            }
        }
        Ok(None)
    }
}

fn compare(name: Option<String>, granted: &str) -> Result<(), HelloError> {
    let name = name.ok_or(HelloError::NoName)?;
    let is_same = plain_host_name(&name).is_some_and(|plain| plain == granted);
    is_same.then_some(()).ok_or(HelloError::OtherName(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a client sends first.
    fn client_hello(name: &str) -> Vec<u8> {
        let config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    async fn check(mut bytes: &[u8], granted: Option<&str>) -> Result<Vec<u8>, HelloError> {
        read(&mut bytes, granted).await
    }

    #[tokio::test]
    async fn a_hello_for_the_granted_name_is_passed_on_as_it_is() {
        let mut bytes = client_hello("API.example.com");
        bytes.extend_from_slice(b"and what follows");
        assert_eq!(check(&bytes, Some("api.example.com")).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_hello_for_another_name_is_refused() {
        let bytes = client_hello("evil.com");
        let error = check(&bytes, Some("api.example.com")).await.unwrap_err();
        assert_eq!(error.to_string(), "its TLS hello asks for evil.com");
        assert!(check(&bytes, None).await.is_ok(), "an address was granted, whatever its names");
    }

    #[tokio::test]
    async fn a_hello_without_a_name_is_refused_where_one_was_granted() {
        let bytes = client_hello("192.0.2.7");
        let error = check(&bytes, Some("api.example.com")).await.unwrap_err();
        assert!(matches!(error, HelloError::NoName), "{error}");
        assert!(check(&bytes, None).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_tls_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0; 64]] {
            let error = check(bytes, None).await.unwrap_err();
            assert!(matches!(error, HelloError::NotTls(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_hello_that_never_ends_is_given_up() {
        let record = |fragment: &[u8]| {
            let head = [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes()].concat();
            [head, fragment.to_vec()].concat()
        };
        let mut bytes = record(&[1, 0, 0xff, 0xff]);
        while bytes.len() < 2 * MOST {
            bytes.extend(record(&[0; 1]));
        }
        check(&bytes, None).await.unwrap_err();
        let half = &client_hello("a.example")[..40];
        assert!(matches!(check(half, None).await.unwrap_err(), HelloError::Ended));
    }

    #[test]
    fn the_alert_is_the_one_that_a_client_understands() {
        let config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = "a.example".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        client.read_tls(&mut &ALERT[..]).unwrap();
        let error = client.process_new_packets().unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    }

    proptest! {
        #[test]
        fn a_hello_is_found_in_pieces_of_any_size(sizes in prop::collection::vec(1..64usize, 1..64)) {
            let bytes = client_hello("api.example.com");
            let (mut rest, mut hello) = (&bytes[..], Hello::default());
            let mut sizes = sizes.iter().cycle();
            let mut found = None;
            while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
                prop_assert!(found.is_none());
                let (piece, after) = rest.split_at(rest.len().min(*size));
                found = hello.push(piece).unwrap();
                rest = after;
            }
            prop_assert_eq!(found, Some(Some("api.example.com".to_owned())));
        }

        #[test]
        fn any_bytes_are_decided_about(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Hello::default().push(&bytes);
        }
    }
}
