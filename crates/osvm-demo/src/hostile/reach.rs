//! Reaches out: files that may be the host's, and addresses that may lead to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

use super::outcome;

/// How long one address may stay silent.
const SILENCE: Duration = Duration::from_secs(2);

/// As much of a file as is shown.
const SHOWN: u64 = 200;

/// Above those that only root may take.
const FIRST_PORT: u32 = 10_000;

const NO_VSOCK: Option<i32> = Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Targets {
    targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Knocks {
    count: u32,
    seconds: u64,
}

/// The beginning of each file, by its path.
pub(super) fn read(Files { paths }: Files) -> Value {
    let tried = |path: String| {
        let got = outcome(beginning(&path));
        (path, got)
    };
    Value::Object(paths.into_iter().map(tried).collect())
}

fn beginning(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SHOWN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What became of each target, by its name.
pub(super) fn reach(Targets { targets }: Targets) -> Value {
    // All at once: a machine that drops what is sent to it says so only by silence.
    let attempts: Vec<_> = targets
        .into_iter()
        .map(|target| std::thread::spawn(move || (outcome(try_one(&target)), target)))
        .collect();
    let done = attempts.into_iter().filter_map(|attempt| attempt.join().ok());
    Value::Object(done.map(|(got, target)| (target, got)).collect::<Map<_, _>>())
}

/// How often each outcome was had. A kernel without vsock is asked once.
pub(super) fn knock(Knocks { count, seconds }: Knocks) -> Value {
    let (start, within) = (Instant::now(), Duration::from_secs(seconds));
    let mut outcomes = BTreeMap::new();
    let ports = FIRST_PORT..FIRST_PORT.saturating_add(count);
    for port in ports.take_while(|_| start.elapsed() < within) {
        let got = try_one(&format!("vsock:{VMADDR_CID_HOST}:{port}"));
        let has_none = got.as_ref().is_err_and(|error| error.raw_os_error() == NO_VSOCK);
        let outcome = got.map_or_else(|error| error.to_string(), str::to_owned);
        *outcomes.entry(outcome).or_insert(0) += 1;
        if has_none {
            break;
        }
    }
    json!(outcomes)
}

fn try_one(target: &str) -> io::Result<&'static str> {
    let (kind, address) = target.split_once(':').unwrap_or((target, ""));
    match kind {
        "tcp" => TcpStream::connect_timeout(&parse(address)?, SILENCE).map(|_| "connected"),
        "udp" => send_datagram(parse(address)?),
        "icmp" => send_raw(parse(address)?),
        "frame" => send_frame(),
        "unix" => UnixStream::connect(address).map(|_| "connected"),
        "vsock" => VsockStream::connect(&vsock_address(address)?).map(|_| "connected"),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no such kind of target")),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such address"))
}

fn vsock_address(address: &str) -> io::Result<VsockAddr> {
    let (cid, port) = address.split_once(':').unwrap_or_default();
    Ok(VsockAddr::new(parse(cid)?, parse(port)?))
}

fn send_datagram(to: SocketAddr) -> io::Result<&'static str> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))?.send_to(b"out", to)?;
    Ok("sent")
}

/// An echo request, past everything that knows ports.
fn send_raw(to: Ipv4Addr) -> io::Result<&'static str> {
    const ECHO_REQUEST: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let (family, kind) = (AddressFamily::INET, SocketType::RAW);
    let socket = rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::ICMP),
    )?;
    rustix::net::sendto(&socket, &ECHO_REQUEST, SendFlags::empty(), &SocketAddrV4::new(to, 0))?;
    Ok("sent")
}

/// A socket for whole Ethernet frames. A kernel that has them sends on interfaces, of which it has none.
fn send_frame() -> io::Result<&'static str> {
    let every =
        Protocol::from_raw(std::num::NonZeroU32::new(u32::from(3u16.to_be())).expect("not 0"));
    let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(every))?;
    rustix::net::send(&socket, &[0xff; 60], SendFlags::empty())?;
    Ok("sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_and_nobody_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = format!("tcp:{address}");
        let tried = reach(Targets { targets: vec![open.clone(), "unix:/no/such".to_owned()] });
        assert_eq!(tried[open]["got"], "connected");
        assert!(tried["unix:/no/such"]["error"].as_str().unwrap().contains("No such file"));
    }

    #[test]
    fn what_is_no_target_is_said_so() {
        let tried =
            reach(Targets { targets: vec!["pigeon:home".to_owned(), "vsock:2".to_owned()] });
        assert_eq!(tried["pigeon:home"]["error"], "no such kind of target");
        assert_eq!(tried["vsock:2"]["error"], "no such address");
    }

    #[test]
    fn every_knock_is_counted_until_time_is_over() {
        let outcomes = knock(Knocks { count: 3, seconds: 60 });
        let total: u64 = outcomes.as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert!(total == 3 || total == 1, "{outcomes}");
        assert_eq!(knock(Knocks { count: 0, seconds: 60 }), json!({}));
        assert_eq!(knock(Knocks { count: 3, seconds: 0 }), json!({}));
    }

    #[test]
    fn the_beginning_of_a_file_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(1000)).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let tried = read(Files { paths: vec![path.clone()] });
        assert_eq!(tried[path]["got"].as_str().unwrap().len(), 200);
    }
}
