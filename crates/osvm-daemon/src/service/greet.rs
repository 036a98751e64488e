//! Proves for the fleet that a server answers: by holding an MCP conversation with it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use osvm_fleet::state::Cause;
use osvm_fleet::{GreetError, Greeter, Greeting, Meeting, Pipes, Plan};
use osvm_image::Image;
use osvm_mcp::{Client, ClientInfo, Limits, McpError, ServerInfo};

use super::accepted::Accepted;

/// Meets servers as the client that `osvm mcp call` speaks through, and has them be as they were accepted.
#[derive(Clone)]
pub(crate) struct McpGreeter(pub(super) Arc<Accepted>);

impl Greeter for McpGreeter {
    type Conversation = Client;

    /// Legacy first, since a server may take its first message for its era. Some of the modern era
    /// end when they are met like that.
    async fn greet(
        &self,
        Pipes { stdin, stdout }: Pipes,
        meeting: Meeting<'_>,
    ) -> Result<Client, GreetError> {
        let (start, limit) = (Instant::now(), meeting.limit);
        let limits = Limits { handshake: limit, ..Limits::default() };
        let met = match meeting.greeting {
            Greeting::Usual => Client::connect(stdout, stdin, myself(), limits).await,
            Greeting::Other => Client::connect_modern(stdout, stdin, myself(), limits).await,
        };
        let client = met.map_err(|error| unanswered(&error))?;
        if meeting.plan.locked.is_some() {
            let listed = client.list_tools(limit.saturating_sub(start.elapsed())).await;
            let listed = listed.map_err(|error| unanswered(&error))?;
            let checked = self.0.tools(meeting.plan, meeting.image, &listed);
            checked.map_err(GreetError::Unwelcome)?;
        }
        Ok(client)
    }

    fn admit(&self, plan: &Plan, image: &Image) -> Result<(), Cause> {
        self.0.image(plan, image)
    }

    fn resume(&self, pipes: Pipes, note: &str) -> Result<Client, String> {
        let server: ServerInfo = serde_json::from_str(note)
            .map_err(|error| format!("the note about it can't be read: {error}"))?;
        let limits = Limits::default();
        Ok(Client::resume(pipes.stdout, pipes.stdin, myself(), server, limits, beyond_any_id()))
    }

    fn note(&self, client: &Client) -> String {
        serde_json::to_string(client.server()).expect("what a server says of itself is plain data")
    }

    fn is_open(&self, client: &Client) -> bool {
        client.is_open()
    }

    fn ended(&self, client: &Client) -> impl Future<Output = Option<String>> + Send + 'static {
        let end = client.end();
        async move { end.await.map(|error| error.to_string()) }
    }
}

pub(super) fn myself() -> ClientInfo {
    ClientInfo { name: "osvm".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Milliseconds since 1970: more than the requests that any client could have made since then.
fn beyond_any_id() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

fn unanswered(error: &McpError) -> GreetError {
    GreetError::Unanswered {
        message: error.to_string(),
        timed_out: matches!(error, McpError::Timeout { .. }),
        try_other: matches!(error, McpError::Refused(_)),
    }
}
