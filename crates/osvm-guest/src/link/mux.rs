//! The multiplexer: many streams over one serial port.

use std::future::poll_fn;
use std::sync::Arc;

use osvm_wire::link::MUX_SPLIT;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode};

use super::serve_stream;
use crate::agent::Agent;

/// Most streams at a time, each with the multiplexer's first window, which does not grow: together they
/// bound what a link can make the agent hold.
const MAX_STREAMS: usize = 128;

/// Serves every stream the host opens, until the link hangs up.
pub(super) async fn serve<P>(port: P, agent: &Arc<Agent>) -> Result<(), ConnectionError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection::new(port.compat(), config(), Mode::Server);
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        tokio::spawn(serve_stream(stream?.compat(), Arc::clone(agent)));
    }
    Ok(())
}

fn config() -> Config {
    let mut config = Config::default();
    config.set_split_send_size(MUX_SPLIT);
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_STREAMS * yamux::DEFAULT_CREDIT as usize));
    config
}
