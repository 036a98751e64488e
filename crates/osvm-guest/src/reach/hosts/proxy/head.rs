//! The head of a request to the proxy, as bytes. No I/O.

use httparse::{EMPTY_HEADER, Header, Request, Status};

use crate::reach::hosts::allowed::plain;

/// Longest head.
pub(super) const MAX_HEAD: usize = 16 * 1024;

const MAX_HEADERS: usize = 100;

/// What a program asks the proxy for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) way: Way,
    /// How many bytes the head took.
    pub(super) length: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A connection and nothing else.
    Tunnel,
    /// This head instead, to be sent to the host itself.
    Forward(Vec<u8>),
}

/// Why a request can't be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad(pub(super) &'static str);

/// What the bytes so far ask for; `None` until the head is complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Wanted>, Bad> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) => return Err(Bad("the request's head is too long")),
        Err(_) => return Err(Bad("this is no HTTP request")),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Ok(None) };
    let (authority, default, way) = if method == "CONNECT" {
        (target, None, Way::Tunnel)
    } else {
        let (authority, path) = split_target(target)?;
        let head = rewrite(method, authority, path, request.headers);
        (authority, Some(80), Way::Forward(head))
    };
    let (host, port) = split_authority(authority, default)
        .ok_or(Bad("the request names no host, or no port that there is"))?;
    Ok(Some(Wanted { host, port, way, length }))
}

/// Authority and path of an absolute target.
fn split_target(target: &str) -> Result<(&str, &str), Bad> {
    const SCHEME: &str = "http://";
    let scheme = target.get(..SCHEME.len());
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
        return Err(Bad("this is a proxy: ask for http://HOST/ or CONNECT HOST:PORT"));
    }
    let rest = &target[SCHEME.len()..];
    Ok(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
}

/// `host`, `host:port`, `192.0.2.7:port`, `[2001:db8::1]:port`, each with or without a user before it.
fn split_authority(authority: &str, default: Option<u16>) -> Option<(String, u16)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
        None if port.is_empty() => default?,
        None => return None,
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Some((address.to_string(), port)),
        Err(_) => Some((plain(host)?, port)),
    }
}

/// The head as the host itself expects it. One request for each connection: the next may be for another host.
fn rewrite(method: &str, authority: &str, path: &str, headers: &[Header<'_>]) -> Vec<u8> {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\n").into_bytes();
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        head.extend(format!("Host: {host}\r\n").into_bytes());
    }
    for header in headers.iter().filter(|header| !is_for_proxies(header.name)) {
        head.extend(header.name.as_bytes());
        head.extend(b": ");
        head.extend(header.value);
        head.extend(b"\r\n");
    }
    head.extend(b"Connection: close\r\n\r\n");
    head
}

fn is_for_proxies(name: &str) -> bool {
    let ours = ["connection", "keep-alive", "proxy-connection", "proxy-authorization"];
    ours.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Host, port and the head's length, and the head to be sent instead where there is one, for the fuzzing crate.
pub type Fuzzed = (String, u16, usize, Option<Vec<u8>>);

/// What a head asks for, for the fuzzing crate.
pub fn fuzz(bytes: &[u8]) -> Result<Option<Fuzzed>, &'static str> {
    let told = |Wanted { host, port, length, way }: Wanted| match way {
        Way::Tunnel => (host, port, length, None),
        Way::Forward(head) => (host, port, length, Some(head)),
    };
    parse(bytes).map(|wanted| wanted.map(told)).map_err(|Bad(why)| why)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn wanted(head: &str) -> (String, u16, Way) {
        let wanted = parse(head.as_bytes()).unwrap().unwrap();
        assert_eq!(wanted.length, head.len());
        (wanted.host, wanted.port, wanted.way)
    }

    #[test]
    fn a_tunnel_is_asked_for_by_host_and_port() {
        let tunnel = |host: &str, port| (host.to_owned(), port, Way::Tunnel);
        let connect = |to| wanted(&format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(connect("API.Example.com:443"), tunnel("api.example.com", 443));
        assert_eq!(connect("192.0.2.7:22"), tunnel("192.0.2.7", 22));
        assert_eq!(connect("[2001:DB8::1]:443"), tunnel("2001:db8::1", 443));
    }

    #[test]
    fn a_plain_request_is_rewritten_for_the_host_itself() {
        let (host, port, way) = wanted(
            "GET http://me:pw@a.example:8080/x?y=1#z HTTP/1.1\r\nHost: a.example:8080\r\n\
             Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\n\
             Accept: */*\r\n\r\n",
        );
        let head = "GET /x?y=1 HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!((host.as_str(), port), ("a.example", 8080));
        assert_eq!(way, Way::Forward(head.into()));
    }

    #[test]
    fn a_target_without_path_or_port_means_the_usual_ones() {
        let (host, port, way) = wanted("GET HTTP://a.example?q HTTP/1.0\r\n\r\n");
        let head = "GET /?q HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        assert_eq!((host.as_str(), port, way), ("a.example", 80, Way::Forward(head.into())));
    }

    #[test]
    fn a_head_is_waited_for_but_not_without_end() {
        let head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n";
        for end in 0..head.len() {
            assert_eq!(parse(&head[..end]), Ok(None), "{end}");
        }
        let long = [head.as_slice(), b"X: ", &[b'a'; MAX_HEAD]].concat();
        assert!(parse(&long).is_err());
    }

    #[test]
    fn what_is_no_request_to_a_proxy_is_refused() {
        for line in [
            "GET / HTTP/1.1",
            "GET https://a.example/ HTTP/1.1",
            "CONNECT a.example HTTP/1.1",
            "CONNECT a.example:0 HTTP/1.1",
            "CONNECT a.example:70000 HTTP/1.1",
            "CONNECT [::1 HTTP/1.1",
            "CONNECT a..b:443 HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "\u{1}\u{2}",
        ] {
            assert!(parse(format!("{line}\r\n\r\n").as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"CONNECT ", bytes.as_slice(), b" HTTP/1.1\r\n\r\n"].concat());
            let _ = parse(&[b"GET http://", bytes.as_slice(), b" HTTP/1.1\r\n\r\n"].concat());
        }

        #[test]
        fn no_text_does_harm(text in "[a-z0-9:@/?#\\[\\].é-]{0,30}") {
            let _ = parse(format!("GET http://{text} HTTP/1.1\r\n\r\n").as_bytes());
            let _ = parse(format!("CONNECT {text} HTTP/1.1\r\n\r\n").as_bytes());
        }
    }
}
