//! What stands between a client and its servers, one after the other: what is open, what is known of them, and, where they
//! are of two eras, a bridge. Lines wait here in the order in which they are to be written; nothing is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use osvm_mcp::envelope::{self, Envelope, Kind};
use osvm_mcp::lines::{self, Line};
use osvm_mcp::{Bridge, Discovery, Era, Fate, Heard, Introduction, Ledger, Manifest, Step, Terms};

/// How long a call may wait for what its server wants to know of the client.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines for a server that a server may provoke. It is read on when fewer are left.
const MOST_PROVOKED: usize = 4096;

pub(super) struct Between {
    pub(super) discovery: Discovery,
    ledger: Ledger,
    crossing: Crossing,
    to_client: Vec<Vec<u8>>,
    to_server: VecDeque<Vec<u8>>,
    /// How many of these servers have provoked, at most.
    provoked: usize,
}

#[derive(Default)]
enum Crossing {
    /// The client has asked for nothing yet by which its era could be told; its lines pass as they are.
    #[default]
    Undecided,
    /// Of a client of that era.
    None(Era),
    Bridged(Bridge),
}

/// Whom a line of a server's was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The client, or the bridge before it.
    Client,
    /// The daemon: it answers a handshake that the client has not begun.
    Greeting,
    /// The daemon.
    Daemon,
}

impl Between {
    pub(super) fn new(manifest: Manifest) -> Self {
        Self {
            discovery: Discovery::new(manifest),
            ledger: Ledger::default(),
            crossing: Crossing::default(),
            to_client: Vec::new(),
            to_server: VecDeque::new(),
            provoked: 0,
        }
    }

    /// The era of a client that begins with this line, as long as that is not settled.
    pub(super) fn begins(&self, line: &[u8]) -> Option<Era> {
        matches!(self.crossing, Crossing::Undecided).then(|| Era::of_first(line)).flatten()
    }

    /// Has client and server understand each other from now on, and what one is given be of no use to the holder of
    /// another token. Of a server that nobody knows, nothing is changed.
    pub(super) fn settle(&mut self, client: Era, server: Option<&Introduction>, token: &str) {
        let bridge = server.and_then(|server| {
            let mut key = [0; 32];
            getrandom::fill(&mut key).expect("Linux always has getrandom");
            let server_version = server.protocol_version.clone();
            let binding = token.as_bytes().to_vec();
            let terms = Terms { server_version, binding, key, patience: PATIENCE };
            Bridge::between(client, server.era, terms, Instant::now())
        });
        self.crossing = bridge.map_or(Crossing::None(client), Crossing::Bridged);
    }

    /// Takes a line of the client's.
    pub(super) fn of_client(&mut self, line: Line<'_>) {
        match &mut self.crossing {
            Crossing::Bridged(bridge) => {
                let step = bridge.of_client(line.bytes, Instant::now());
                self.take(step);
            }
            Crossing::Undecided | Crossing::None(_) => self.to_server.push_back(whole(line)),
        }
    }

    /// Takes a line of the server's.
    pub(super) fn of_server(&mut self, line: Line<'_>) -> Whom {
        match self.discovery.heard(line.bytes) {
            Heard::Passes => self.says(line),
            Heard::Own => Whom::Daemon,
            // Such a client is told with each answer that it is good for now alone.
            Heard::Changed(_) if matches!(self.crossing, Crossing::None(Era::Modern)) => {
                Whom::Daemon
            }
            Heard::Changed(method) => {
                let note = envelope::notification(method, None);
                self.says(Line { bytes: note.trim_ascii_end(), complete: true })
            }
        }
    }

    /// Answers a line for a server that is not there, where none is needed.
    pub(super) fn recall(&mut self, line: &[u8]) -> bool {
        let Some(answer) = self.discovery.answer(line) else { return false };
        self.says(Line { bytes: answer.trim_ascii_end(), complete: true });
        true
    }

    /// What a client is told for a line by a server that is not there; nothing where that would have to be.
    pub(super) fn recalled(&mut self, line: &[u8], token: &str) -> Option<Vec<Vec<u8>>> {
        if let Some(era) = self.begins(line) {
            let known = self.discovery.introduction(era)?.clone();
            self.settle(era, Some(&known), token);
        }
        self.of_client(Line { bytes: line, complete: true });
        while let Some(line) = self.for_server() {
            if self.passes(&line) == Fate::Asks && !self.recall(&line) {
                return None;
            }
        }
        Some(self.for_client())
    }

    fn says(&mut self, line: Line<'_>) -> Whom {
        let passes = self.ledger.of_server(line.bytes);
        match &mut self.crossing {
            _ if !passes => return Whom::Greeting,
            Crossing::Bridged(bridge) => {
                let step = bridge.of_server(line.bytes, Instant::now());
                self.provoked += step.to_server.len();
                self.take(step);
            }
            Crossing::Undecided | Crossing::None(_) => self.to_client.push(whole(line)),
        }
        Whom::Client
    }

    /// The server is gone: what is open is answered.
    pub(super) fn lost(&mut self, why: &str) {
        self.discovery.lost();
        let mut steps = self.answers(why);
        if let Crossing::Bridged(bridge) = &mut self.crossing {
            // To the bridge they are open, and it answers them: none may reach another server. What else waits may be what
            // has another be met.
            self.to_server.retain(|line| !is_request(line));
            steps.push(bridge.lost(why));
        }
        for Step { to_client, .. } in steps {
            self.take(Step { to_client, ..Step::default() });
        }
    }

    /// The server is there, and can't be asked now: what is open is answered.
    pub(super) fn put_off(&mut self, why: &str) {
        self.answers(why).into_iter().for_each(|step| self.take(step));
    }

    /// What comes of it where all that the server has not answered is answered.
    fn answers(&mut self, why: &str) -> Vec<Step> {
        let answers = self.ledger.lost(why);
        let lines = answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let told = |line: &[u8]| Step { to_client: vec![line.to_vec()], ..Step::default() };
        match &mut self.crossing {
            Crossing::Bridged(bridge) => {
                lines.map(|line| bridge.of_server(line, Instant::now())).collect()
            }
            Crossing::Undecided | Crossing::None(_) => lines.map(told).collect(),
        }
    }

    /// When there is something to [`expire`](Self::expire).
    pub(super) fn expires(&self) -> Option<Instant> {
        match &self.crossing {
            Crossing::Bridged(bridge) => bridge.expires(),
            Crossing::Undecided | Crossing::None(_) => None,
        }
    }

    pub(super) fn expire(&mut self) {
        if let Crossing::Bridged(bridge) = &mut self.crossing {
            let step = bridge.expire(Instant::now());
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        self.to_client.extend(step.to_client.into_iter().map(ended));
        self.to_server.extend(step.to_server.into_iter().map(ended));
    }

    /// What is to be written to the client now.
    pub(super) fn for_client(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.to_client)
    }

    /// What is to be written to the server next.
    pub(super) fn for_server(&mut self) -> Option<Vec<u8>> {
        let line = self.to_server.pop_front();
        self.provoked = self.provoked.saturating_sub(1).min(self.to_server.len());
        line
    }

    /// Lines that are to be written to the server.
    pub(super) fn waiting(&self) -> usize {
        self.to_server.len()
    }

    /// Whether there is more for a server to be told than was written to it, though the client says no more.
    pub(super) fn is_unsaid(&self) -> bool {
        let is_meeting = matches!(&self.crossing, Crossing::Bridged(bridge) if bridge.is_meeting());
        is_meeting || !self.to_server.is_empty()
    }

    /// Whether neither waits for the other, as far as can be told.
    pub(super) fn is_still(&self) -> bool {
        let is_listening =
            matches!(&self.crossing, Crossing::Bridged(bridge) if bridge.is_listening());
        self.ledger.is_still() && !self.is_unsaid() && !is_listening && self.expires().is_none()
    }

    /// Whether what a server says may be for the server to be answered.
    pub(super) fn is_bridged(&self) -> bool {
        matches!(self.crossing, Crossing::Bridged(_))
    }

    /// Whether a server has provoked so much that it should not be listened to.
    pub(super) fn is_full(&self) -> bool {
        self.provoked > MOST_PROVOKED
    }

    /// Notes a line that is to be written to a server.
    pub(super) fn passes(&mut self, line: &[u8]) -> Fate {
        self.ledger.of_client(line.strip_suffix(b"\n").unwrap_or(line))
    }

    /// What a new server is told before anything else, after which its answer is to be waited for.
    pub(super) fn replay(&mut self) -> Option<Vec<u8>> {
        let hello = self.ledger.replay()?;
        self.discovery.asked(&hello);
        Some(ended(hello))
    }

    /// What it is told once it has answered; or why it can't take the place of the one that the client knows.
    pub(super) fn initialized(&self) -> Result<Vec<u8>, String> {
        let line = self.ledger.initialized().map_err(str::to_owned)?;
        Ok(line.map_or_else(Vec::new, |line| ended(line.to_vec())))
    }
}

fn is_request(line: &[u8]) -> bool {
    let text = lines::text(line);
    Envelope::parse(&text).is_ok_and(|message| message.kind() == Kind::Request)
}

/// With its end, so that it is sent at once.
pub(super) fn whole(line: Line<'_>) -> Vec<u8> {
    let end: &[u8] = if line.complete { b"\n" } else { b"" };
    [line.bytes, end].concat()
}

fn ended(mut line: Vec<u8>) -> Vec<u8> {
    line.reserve_exact(1);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line { bytes: text.as_bytes(), complete: true }
    }

    /// A server that nobody needs to have met.
    fn server(era: Era) -> Introduction {
        Introduction { era, protocol_version: "2025-06-18".to_owned() }
    }

    const MODERN: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

    fn modern() -> Between {
        let mut between = Between::new(Manifest::default());
        assert_eq!(between.begins(MODERN.as_bytes()), Some(Era::Modern));
        between.settle(Era::Modern, Some(&server(Era::Legacy)), "");
        assert_eq!(between.begins(MODERN.as_bytes()), None);
        between.of_client(line(MODERN));
        between
    }

    #[test]
    fn lines_pass_as_they_are_where_no_bridge_is_needed_or_known_to_be() {
        for known in [None, Some(server(Era::Modern))] {
            let mut between = Between::new(Manifest::default());
            between.of_client(line("\u{1} first"));
            between.settle(Era::Modern, known.as_ref(), "");
            between.of_client(line(MODERN));
            assert_eq!(between.of_server(Line { bytes: b"half", complete: false }), Whom::Client);
            assert_eq!(between.for_server().as_deref(), Some(&b"\x01 first\n"[..]));
            assert_eq!(between.for_server(), Some(format!("{MODERN}\n").into_bytes()));
            assert_eq!(between.for_client(), [b"half"]);
        }
    }

    /// The bridge's handshake, answered.
    fn meets(between: &mut Between) -> Vec<u8> {
        let hello = between.for_server().unwrap();
        assert_eq!(between.passes(&hello), Fate::Asks);
        let id = serde_json::from_slice::<serde_json::Value>(&hello).unwrap()["id"].clone();
        let answer = r#""result":{"protocolVersion":"2025-06-18","capabilities":{}}"#;
        assert_eq!(
            between.of_server(line(&format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#))),
            Whom::Client
        );
        hello
    }

    #[test]
    fn another_server_hears_the_handshake_of_the_bridge() {
        let mut between = modern();
        let hello = meets(&mut between);
        let ready = between.for_server().unwrap();
        assert_eq!(between.passes(&ready), Fate::Passes);
        let asked = between.for_server().unwrap();
        assert!(asked.starts_with(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list""#));
        assert_eq!(between.passes(&asked), Fate::Asks);
        between.lost("gone");
        let told = between.for_client().concat();
        assert!(String::from_utf8(told).unwrap().starts_with(r#"{"jsonrpc":"2.0","id":1,"error""#));
        assert_eq!(between.replay(), Some(hello));
        assert_eq!(between.initialized(), Ok(ready));
    }

    #[test]
    fn a_server_that_can_not_be_asked_now_is_asked_the_next_time() {
        let mut bridged = modern();
        meets(&mut bridged);
        let ready = bridged.for_server().unwrap();
        bridged.passes(&ready);
        let mut plain = Between::new(Manifest::default());
        plain.settle(Era::Modern, Some(&server(Era::Modern)), "");
        plain.of_client(line(MODERN));
        for mut between in [bridged, plain] {
            for _ in 0..2 {
                let asked = between.for_server().unwrap();
                assert_eq!(between.passes(&asked), Fate::Asks);
                between.put_off("no memory");
                let told = String::from_utf8(between.for_client().concat()).unwrap();
                let is_refused = told.starts_with(r#"{"jsonrpc":"2.0","id":1,"error""#);
                assert!(is_refused && told.contains("no memory"), "{told}");
                assert!(between.is_still() && between.for_server().is_none());
                between.of_client(line(MODERN));
            }
            let asked = between.for_server().unwrap();
            assert_eq!(between.passes(&asked), Fate::Asks);
            let id = serde_json::from_slice::<serde_json::Value>(&asked).unwrap()["id"].clone();
            let tools = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[]}}}}"#);
            between.of_server(line(&tools));
            let told = String::from_utf8(between.for_client().concat()).unwrap();
            assert!(told.contains(r#""tools":[]"#), "{told}");
        }
    }

    /// Of a server of that era that a client has listed the tools of, in this many requests.
    fn known(server: Era, asks: &[&str]) -> Manifest {
        let mut discovery = Discovery::new(Manifest::default());
        discovery.begins(false);
        discovery.introduced(Era::of_first(asks[0].as_bytes()).unwrap(), self::server(server));
        for ask in asks {
            discovery.asked(ask.as_bytes());
            let id = serde_json::from_str::<serde_json::Value>(ask).unwrap()["id"].clone();
            let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"tools":[{"name":"t"}]}"#;
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            discovery.heard(answer.as_bytes());
        }
        let mut manifest = Manifest::default();
        discovery.take_news().into_iter().for_each(|news| manifest.add(news));
        manifest
    }

    #[test]
    fn what_is_known_is_recalled_across_the_eras_too_and_nothing_else_is() {
        let plain = known(Era::Modern, &[MODERN]);
        let told = Between::new(plain.clone()).recalled(MODERN.as_bytes(), "").unwrap();
        assert_eq!(told.len(), 1);
        assert!(String::from_utf8_lossy(&told[0]).contains(r#""tools":[{"name":"t"}]"#));
        let prompts = MODERN.replace("tools/list", "prompts/list");
        assert_eq!(Between::new(plain).recalled(prompts.as_bytes(), ""), None);
        assert_eq!(Between::new(Manifest::default()).recalled(MODERN.as_bytes(), ""), None);

        // What the bridge asks in the client's place is known, too.
        let mut learning = modern();
        let (hello, mut asked) = (meets(&mut learning), Vec::new());
        while let Some(line) = learning.for_server() {
            asked.push(String::from_utf8(line).unwrap());
        }
        let hello = String::from_utf8(hello).unwrap();
        let asks: Vec<_> =
            [hello.as_str()].into_iter().chain(asked.last().map(String::as_str)).collect();
        let mut manifest = known(Era::Legacy, &asks);
        let mut met = Discovery::new(Manifest::default());
        met.introduced(Era::Modern, server(Era::Legacy));
        met.take_news().into_iter().for_each(|news| manifest.add(news));
        let told = Between::new(manifest).recalled(MODERN.as_bytes(), "").unwrap();
        assert!(
            String::from_utf8_lossy(&told[0]).contains(r#""resultType":"complete""#),
            "{told:?}"
        );
    }

    #[test]
    fn a_server_that_is_lost_in_the_handshake_is_answered_for() {
        let mut between = modern();
        let hello = between.for_server().unwrap();
        between.passes(&hello);
        between.lost("gone");
        let told: Vec<_> = between.for_client();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(between.replay(), None);
        between.of_client(line(MODERN));
        meets(&mut between);
    }

    #[test]
    fn what_was_answered_for_a_lost_server_is_done_by_no_other() {
        let mut between = modern();
        meets(&mut between);
        between.lost("gone");
        let told = between.for_client();
        assert_eq!(told.len(), 1, "{told:?}");
        // What has another be met is not lost with it.
        let ready = between.for_server().unwrap();
        assert_eq!(between.for_server(), None);
        between.passes(&ready);
        assert!(between.replay().is_some());
    }

    #[test]
    fn a_call_that_waits_for_its_client_has_an_end() {
        let mut between = modern();
        meets(&mut between);
        assert_eq!(between.expires(), None);
        let capabilities = r#"clientCapabilities":{"elicitation":{}}"#;
        let call = MODERN.replace("tools/list", "tools/call").replace(r#""id":1"#, r#""id":2"#);
        between.of_client(line(&call.replace(r#"clientCapabilities":{}"#, capabilities)));
        let asks = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#;
        between.of_server(line(asks));
        let until = between.expires().unwrap();
        assert!(until > Instant::now() && until <= Instant::now() + PATIENCE);
    }

    #[test]
    fn a_server_that_provokes_much_is_not_listened_to_until_it_is_written() {
        let mut between = modern();
        meets(&mut between);
        for id in 0..=MOST_PROVOKED {
            between.of_server(line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)));
        }
        assert!(between.is_full());
        while between.for_server().is_some() {}
        assert!(!between.is_full());
    }
}
