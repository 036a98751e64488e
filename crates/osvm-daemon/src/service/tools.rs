//! What is said of a server's tools, held to and recorded whichever way a call comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use osvm_mcp::{Body, ClientName, Ended, Guard, Mark, OnBehalf, Outcome, Rules, ToolSet};
use osvm_spec::{
    Config, Isolation, Overrides, Secrets, Server, ServerName, looks_secret, tells_secret,
};
use serde_json::value::RawValue;

use super::Daemon;
use super::hidden::redacted;
use super::place::Place;
use crate::api::{ApiError, ErrorKind};
use crate::audit::{self, Caller, Log, Part, Record, Way};

/// Longest reason that is recorded, in characters.
const LONGEST_WHY: usize = 500;

/// Room that is set aside for each call, in bytes: without bodies and with them.
const ROOM: [u64; 2] = [16 << 10, 1 << 20];

/// One client's calls of one server's tools.
pub(super) struct Watch {
    pub(super) rules: Rules,
    pub(super) server: ServerName,
    way: Way,
    place: Place,
    /// Values that are not written down.
    secrets: Vec<String>,
    is_required: bool,
    log: SharedLog,
}

pub(super) type SharedLog = Arc<Mutex<Log>>;

/// A call that is being made. Recorded when it is over, and as cancelled when dropped before.
pub(super) struct Call<'w> {
    watch: &'w Watch,
    tool: String,
    arguments: Body,
    began: Instant,
    is_over: bool,
}

impl Daemon {
    /// What holds now for the tools of a VM's server, for one client.
    pub(super) fn watch(
        &self,
        config: &Config,
        name: &ServerName,
        over: &Overrides,
        secrets: &Secrets,
        way: Way,
    ) -> Result<Watch, ApiError> {
        // A VM that was set apart has another name than the server that it runs.
        let vm = self.fleet.get(name);
        let own = vm.as_ref().and_then(|vm| vm.plan.server.clone());
        // What its tools want is to be seen in it.
        let is_recorded = vm.is_some_and(|vm| vm.plan.record);
        let server = self.resolve_in(config, own.as_ref().unwrap_or(name), over)?;
        let rules = Rules {
            server: server.name.to_string(),
            rates: Some(self.rates.of(&server.name, &server.tool_policy)),
            policy: server.tool_policy.clone(),
            apart: if is_recorded { ToolSet::default() } else { apart(&server) },
            bodies: config.audit.bodies,
            must_be_recorded: config.audit.required,
            ..Rules::default()
        };
        let secrets = hidden(&server, secrets);
        let (is_required, log) = (config.audit.required, Arc::clone(&self.audit));
        let place = Place::default();
        Ok(Watch { rules, server: server.name, way, place, secrets, is_required, log })
    }
}

/// Tools that a session of the server's can't call, since each call needs a VM of its own. A tool that the configuration
/// does not name is as its server.
fn apart(server: &Server) -> ToolSet {
    let needs_own = |tool: &str| {
        server.isolation_of(tool) == Isolation::Ephemeral || server.hosts_of(tool).is_some()
    };
    let named = |apart: bool| {
        server.tools.keys().filter(|tool| needs_own(tool) == apart).cloned().collect()
    };
    match server.isolation {
        Isolation::Ephemeral => ToolSet::AllBut(named(false)),
        Isolation::Microvm | Isolation::None => ToolSet::These(named(true)),
    }
}

/// Values that bodies are kept without: those of secrets, and of variables that look like some.
fn hidden(server: &Server, secrets: &Secrets) -> Vec<String> {
    let looks = |(name, value): &(&String, &String)| looks_secret(name) || tells_secret(value);
    let all = secrets.pairs().chain(server.env.iter().filter(looks)).map(|(_, value)| value);
    all.filter(|value| !value.is_empty()).cloned().collect()
}

impl Watch {
    /// The same for someone who has come through the gateway, if so.
    #[must_use]
    pub(super) fn for_whom(mut self, whom: Option<&OnBehalf>) -> Self {
        if let Some(whom) = whom {
            self.way = Way::Gateway;
            self.rules.on_behalf = Some(whom.clone());
        }
        self
    }

    pub(super) fn guard(&self) -> Guard {
        Guard::new(self.rules.clone())
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Why no call may be made now, if none that is not recorded may be.
    pub(super) fn obstacle(&self, open_calls: usize) -> Option<String> {
        if !self.is_required {
            return None;
        }
        let room = ROOM[usize::from(self.rules.bodies)] * (open_calls as u64 + 1);
        let error = self.log().reserve(room).err()?;
        Some(format!("policy refuses calls that can't be recorded: {error}"))
    }

    /// A call that is about to be made, unless it is refused.
    pub(super) fn begin(&self, tool: &str, arguments: &RawValue) -> Result<Call<'_>, ApiError> {
        let call = Call {
            watch: self,
            tool: tool.to_owned(),
            arguments: Body::of(Some(arguments), self.rules.bodies),
            began: Instant::now(),
            is_over: false,
        };
        if let Some(why) = self.rules.refusal(tool).or_else(|| self.obstacle(0)) {
            return Err(call.refused(None, why));
        }
        if self.rules.wants_confirmation(tool) {
            let why = self.rules.refusing(tool, &"it is to be confirmed");
            return Err(call.refused(None, why).hint("--yes confirms it"));
        }
        if let Some(why) = self.rules.exceeds(tool) {
            return Err(call.refused(None, why));
        }
        Ok(call)
    }

    /// Writes a line for a call that is over, and was made there. The call goes on without one where there is no room for
    /// it.
    pub(super) fn record(&self, ended: Ended, client: Option<&ClientName>, place: &Place) {
        let record = self.line(ended, client, place);
        if let Err(error) = self.log().add(record) {
            tracing::error!(server = %self.server, "a tool call is not recorded: {error}");
        }
    }

    fn line(&self, ended: Ended, client: Option<&ClientName>, place: &Place) -> Record {
        let seen = place.seen();
        let egress = ended.mark.and_then(|mark| place.reached(mark));
        let (outcome, why) = told(ended.outcome);
        // Each may be what a stranger wrote, and have been cut off.
        let hide = |text: &str| {
            redacted(text.to_owned(), CUT.contains(&text.chars().count()), &self.secrets)
        };
        Record {
            number: 0,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            caller: Caller {
                user: rustix::process::getuid().as_raw(),
                way: self.way,
                token: self.rules.on_behalf.as_ref().and_then(|whom| whom.token.clone()),
                client: client.map(|client| hide(&client.name)),
                version: client.and_then(|client| client.version.as_deref()).map(hide),
            },
            server: self.server.clone(),
            tool: hide(&ended.tool),
            image: seen.as_ref().and_then(|seen| seen.image.clone()),
            vm: seen.map(|seen| seen.vm),
            arguments: self.part(ended.arguments),
            result: ended.result.map(|result| self.part(result)),
            outcome,
            why: why.map(|why| hide(&why).chars().take(LONGEST_WHY).collect()),
            egress,
            ms: u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX),
            previous: String::new(),
        }
    }

    fn part(&self, body: Body) -> Part {
        let is_cut = body.text.as_ref().is_some_and(|text| (text.len() as u64) < body.bytes);
        let kept = body.text.map(|text| redacted(text, is_cut, &self.secrets));
        Part { sha256: body.sha256, bytes: body.bytes, body: kept }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Texts of so many characters may have been longer.
const CUT: [usize; 2] = [120, 256];

fn told(outcome: Outcome) -> (audit::Outcome, Option<String>) {
    match outcome {
        Outcome::Ok => (audit::Outcome::Ok, None),
        Outcome::InputRequired => (audit::Outcome::InputRequired, None),
        Outcome::ToolError => (audit::Outcome::ToolError, None),
        Outcome::Refused(why) => (audit::Outcome::Refused, Some(why)),
        Outcome::Failed(why) => (audit::Outcome::Failed, Some(why)),
        Outcome::TimedOut => (audit::Outcome::TimedOut, None),
        Outcome::Cancelled => (audit::Outcome::Cancelled, None),
    }
}

impl Call<'_> {
    /// How long it may take, if it is not to take `usual`.
    pub(super) fn limit(&self, usual: Duration) -> Duration {
        self.watch.rules.policy.limits_of(&self.tool).within(usual)
    }

    /// The server has answered: refused if it has said too much.
    pub(super) fn answered(self, result: &RawValue, is_error: bool) -> Result<(), ApiError> {
        let bytes = result.get().len() as u64;
        let limit = self.watch.rules.policy.limits_of(&self.tool).max_result_bytes;
        if let Some(limit) = limit.filter(|limit| bytes > *limit) {
            let why = osvm_mcp::too_long(&self.tool, bytes, limit);
            return Err(self.refused(Some(result), why));
        }
        let outcome = if is_error { Outcome::ToolError } else { Outcome::Ok };
        self.over(Some(result), outcome);
        Ok(())
    }

    /// It was not made, or has no answer.
    pub(super) fn failed(self, error: &ApiError) {
        let why = error.message.clone();
        self.over(
            None,
            match error.kind {
                ErrorKind::TimedOut => Outcome::TimedOut,
                // Arguments that do not fit: the server has not heard of the call.
                ErrorKind::Refused | ErrorKind::ToolError => Outcome::Refused(why),
                _ => Outcome::Failed(why),
            },
        );
    }

    fn refused(self, result: Option<&RawValue>, why: String) -> ApiError {
        let hint = format!("osvm mcp show {}", self.watch.server);
        self.over(result, Outcome::Refused(why.clone()));
        ApiError::new(ErrorKind::Refused, why).hint(hint)
    }

    fn over(mut self, result: Option<&RawValue>, outcome: Outcome) {
        self.record(result, outcome);
    }

    fn record(&mut self, result: Option<&RawValue>, outcome: Outcome) {
        self.is_over = true;
        let ended = Ended {
            tool: self.tool.chars().take(256).collect(),
            arguments: self.arguments.clone(),
            result: result.map(|result| Body::of(Some(result), self.watch.rules.bodies)),
            outcome,
            took: self.began.elapsed(),
            apart: None,
            // Its VM is this call's from where it was found.
            mark: Some(Mark::default()),
        };
        self.watch.record(ended, None, &self.watch.place);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.record(None, Outcome::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use osvm_spec::Places;

    use super::*;

    fn server(keys: &str) -> Server {
        let text = format!("[[servers]]\nid = \"s\"\n{keys}");
        let config = Config::parse(&text, "f").unwrap();
        let places = Places { home: None, base: Path::new("/home/u/.osvm") };
        config.resolve(&"s".parse().unwrap(), &Overrides::default(), &places).unwrap()
    }

    fn tools(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    const TOOLS: &str = "[[servers.tools]]\nname = \"confirmed\"\nconfirm = true\n\
         [[servers.tools]]\nname = \"far\"\nallow = [\"a.example\"]\n";

    #[test]
    fn a_session_makes_no_call_of_a_tool_that_is_stricter_than_its_server_or_has_hosts_of_its_own()
    {
        let strict = "[[servers.tools]]\nname = \"rm\"\nisolation = \"ephemeral\"\n";
        let server = server(&format!("{TOOLS}{strict}"));
        assert_eq!(apart(&server), ToolSet::These(tools(&["far", "rm"])));
    }

    #[test]
    fn a_session_of_an_ephemeral_server_makes_no_call_whether_its_tool_is_named_or_not() {
        let server = server(&format!("isolation_mode = \"ephemeral\"\n{TOOLS}"));
        assert_eq!(apart(&server), ToolSet::AllBut(BTreeSet::new()));
    }

    #[test]
    fn a_session_of_an_ephemeral_server_makes_the_calls_of_a_tool_that_needs_no_vm_of_its_own() {
        let mut server = server(&format!("isolation_mode = \"ephemeral\"\n{TOOLS}"));
        for tool in server.tools.values_mut() {
            tool.isolation = Isolation::Microvm;
        }
        // The other has hosts that the session's VM has not.
        assert_eq!(apart(&server), ToolSet::AllBut(tools(&["confirmed"])));
    }
}
