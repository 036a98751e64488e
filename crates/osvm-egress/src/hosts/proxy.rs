//! The host's own way out, where it has one: an HTTP proxy that makes tunnels (`CONNECT`).
//!
//! Which proxy stands between is told as other programs are told it: `HTTP_PROXY` for port 80, `HTTPS_PROXY` for
//! every other, `ALL_PROXY` where those are not set, none for what `NO_PROXY` lists, and never to the host itself.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::policy::{Host, Target};

/// The values of the variables with those names; empty where they are not set.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    pub http: String,
    pub https: String,
    pub all: String,
    pub no: String,
}

/// What can't be used of them.
#[derive(Debug, Error)]
pub enum ProxySettingsError {
    #[error("proxy {0} is neither a URL nor HOST:PORT")]
    Url(String),
    #[error("proxy {host} is spoken to by {scheme}; only http:// proxies are")]
    Scheme { host: String, scheme: String },
}

#[derive(Debug, Error)]
pub(crate) enum ProxyError {
    #[error("the proxy speaks no HTTP: {0}")]
    Speech(#[from] hyper::Error),
    #[error("the proxy refuses the connection: {0}")]
    Refused(StatusCode),
    #[error("the host can't be named to a proxy: {0}")]
    Name(#[from] hyper::http::Error),
}

pub(crate) struct Proxies {
    matcher: Matcher,
}

/// One that stands between.
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxies {
    pub(crate) fn new(settings: &ProxySettings) -> Result<Self, ProxySettingsError> {
        let ProxySettings { http, https, all, no } = settings;
        [http, https, all].into_iter().try_for_each(|text| check(text))?;
        let (http, https) = (http.as_str(), https.as_str());
        let builder = Matcher::builder().http(http).https(https).all(all.as_str());
        Ok(Self { matcher: builder.no(no.as_str()).build() })
    }

    pub(crate) fn between(&self, target: &Target) -> Option<Proxy> {
        if target.host == Host::Own {
            return None;
        }
        let scheme = if target.port == 80 { "http" } else { "https" };
        let url: Uri = format!("{scheme}://{target}/").parse().ok()?;
        Proxy::new(&self.matcher.intercept(&url)?)
    }
}

/// Without the password that a URL may contain.
fn check(text: &str) -> Result<(), ProxySettingsError> {
    if text.is_empty() {
        return Ok(());
    }
    let shown = text.rsplit('@').next().unwrap_or_default();
    let found = Matcher::builder().all(text).build().intercept(&Uri::from_static("http://a/"));
    let found = found.ok_or_else(|| ProxySettingsError::Url(shown.to_owned()))?;
    match found.uri().scheme_str() {
        Some("http") => Ok(()),
        scheme => Err(ProxySettingsError::Scheme {
            host: found.uri().host().unwrap_or_default().to_owned(),
            scheme: scheme.unwrap_or_default().to_owned(),
        }),
    }
}

impl Proxy {
    fn new(found: &Intercept) -> Option<Self> {
        let host = found.uri().host()?.trim_matches(['[', ']']).to_owned();
        let port = found.uri().port_u16().unwrap_or(80);
        Some(Self { host, port, authorization: found.basic_auth().cloned() })
    }

    /// Has the proxy connect to the target, and returns what then is a connection to it.
    pub(crate) async fn tunnel(
        &self,
        stream: TcpStream,
        target: &Target,
    ) -> Result<TokioIo<Upgraded>, ProxyError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request(target)?;
        let ask = async move {
            let answer = sender.send_request(request).await?;
            match answer.status() {
                status if status.is_success() => Ok(hyper::upgrade::on(answer).await?),
                status => Err(ProxyError::Refused(status)),
            }
        };
        let mut ask = std::pin::pin!(ask);
        let tunnel = tokio::select! {
            tunnel = &mut ask => tunnel?,
            ended = connection.with_upgrades() => {
                ended?;
                ask.await?
            }
        };
        Ok(TokioIo::new(tunnel))
    }

    fn request(&self, target: &Target) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let place = target.to_string();
        let mut request = Request::builder().method(Method::CONNECT).uri(&place);
        request = request.header(HOST, &place);
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        request.body(Empty::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(https: &str, no: &str) -> Proxies {
        let settings = ProxySettings { https: https.into(), no: no.into(), ..Default::default() };
        Proxies::new(&settings).unwrap()
    }

    fn between(proxies: &Proxies, host: &str, port: u16) -> Option<(String, u16)> {
        let proxy = proxies.between(&Target::new(host, port).unwrap())?;
        Some((proxy.host, proxy.port))
    }

    #[test]
    fn https_proxy_stands_before_every_port_but_that_of_http() {
        let proxies = proxies("http://proxy.corp:3128", "");
        for (host, port) in [("a.example", 443), ("a.example", 5432), ("2001:db8::1", 443)] {
            let found = between(&proxies, host, port);
            assert_eq!(found, Some(("proxy.corp".to_owned(), 3128)), "{host} {port}");
        }
        assert_eq!(between(&proxies, "a.example", 80), None);
        assert_eq!(between(&proxies, "host.osvm.internal", 443), None);
    }

    #[test]
    fn no_proxy_stands_before_what_is_listed() {
        let proxies = proxies("proxy.corp:3128", "b.example,203.0.113.0/24");
        assert!(between(&proxies, "a.example", 443).is_some());
        for host in ["b.example", "a.b.example", "203.0.113.7"] {
            assert_eq!(between(&proxies, host, 443), None, "{host}");
        }
    }

    #[test]
    fn a_name_and_password_are_told_to_the_proxy_alone() {
        let target = Target::new("a.example", 443).unwrap();
        let proxy = proxies("http://me:p%40ss@proxy.corp", "").between(&target).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 80));
        let request = proxy.request(&target).unwrap();
        let told = request.headers()[PROXY_AUTHORIZATION].to_str().unwrap();
        // "me:p@ss"
        assert_eq!(told, "Basic bWU6cEBzcw==");
        assert_eq!(request.uri(), "a.example:443");
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_without_its_password() {
        let refused = |text: &str| {
            let settings = ProxySettings { all: text.into(), ..Default::default() };
            Proxies::new(&settings).map(|_| ()).unwrap_err().to_string()
        };
        let socks = refused("socks5://me:secret@proxy.corp:1080");
        assert_eq!(socks, "proxy proxy.corp is spoken to by socks5; only http:// proxies are");
        let scheme = refused("ftp://me:secret@proxy.corp");
        assert_eq!(scheme, "proxy proxy.corp is neither a URL nor HOST:PORT");
    }
}
