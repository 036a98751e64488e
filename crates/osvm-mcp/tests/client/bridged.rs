//! The client of one era against rmcp's server of the other, with a bridge between them.

use std::time::{Duration, Instant};

use osvm_mcp::lines::LineReader;
use osvm_mcp::{Bridge, Client, Era, Limits, Step, Terms};
use rmcp::model::ProtocolVersion;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};

use crate::peer::info;
use crate::sdk::{start, use_it};

const LONGEST: usize = 1 << 20;

/// A client's streams to a server of those versions.
fn bridged(
    client: Era,
    server: Era,
    versions: &'static [ProtocolVersion],
) -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server_version = versions[0].to_string();
    let patience = Duration::from_secs(60);
    let terms = Terms { server_version, binding: Vec::new(), key: [1; 32], patience };
    let bridge = Bridge::between(client, server, terms, Instant::now()).unwrap();
    tokio::spawn(carry(bridge, far, start(versions)));
    split(near)
}

async fn carry(
    mut bridge: Bridge,
    client: DuplexStream,
    (from_server, mut to_server): (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>),
) {
    let (from_client, mut to_client) = split(client);
    let mut said = LineReader::new(from_client, LONGEST);
    let mut answered = LineReader::new(from_server, LONGEST);
    loop {
        let step = tokio::select! {
            line = said.next() => match line {
                Ok(Some(line)) => bridge.of_client(line.bytes, Instant::now()),
                _ => return,
            },
            line = answered.next() => match line {
                Ok(Some(line)) => bridge.of_server(line.bytes, Instant::now()),
                _ => return,
            },
        };
        let Step { to_client: for_client, to_server: for_server } = step;
        for line in for_client {
            to_client.write_all(&[line, b"\n".to_vec()].concat()).await.unwrap();
        }
        for line in for_server {
            to_server.write_all(&[line, b"\n".to_vec()].concat()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_modern_client_uses_servers_of_each_legacy_version() {
    const VERSIONS: [&[ProtocolVersion]; 4] = [
        &[ProtocolVersion::V_2024_11_05],
        &[ProtocolVersion::V_2025_03_26],
        &[ProtocolVersion::V_2025_06_18],
        &[ProtocolVersion::V_2025_11_25],
    ];
    for versions in VERSIONS {
        let (reader, writer) = bridged(Era::Modern, Era::Legacy, versions);
        let client = Client::connect_modern(reader, writer, info(), Limits::default());
        let client = client.await.unwrap();
        assert_eq!(client.server().era, Era::Modern);
        use_it(&client).await;
    }
}

#[tokio::test]
async fn a_legacy_client_uses_a_modern_server() {
    const MODERN: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];
    let (reader, writer) = bridged(Era::Legacy, Era::Modern, MODERN);
    let client = Client::connect(reader, writer, info(), Limits::default()).await.unwrap();
    assert_eq!(client.server().era, Era::Legacy);
    assert_eq!(client.server().protocol_version, "2025-11-25");
    use_it(&client).await;
}
