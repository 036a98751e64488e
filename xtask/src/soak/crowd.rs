//! Many clients at once, each with several calls open, of all servers in turns.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::{Client, Door, named};
use super::ledger::Fault;
use super::mark::Numbers;
use super::tally::Tally;
use crate::servers::Soak;

/// Calls that a client has open beside each other.
pub(super) const OPEN: usize = 4;
/// How long an answer may take: servers start, and machines are emulated and busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Between two lists.
const PAUSE: Duration = Duration::from_secs(1);
/// Beyond so many faults of a client's there is nothing to learn from more.
const ENOUGH: usize = 10;

/// What is asked of a server.
pub(super) type Asked<'a> = (&'a str, &'a Soak);

/// What one of a client's lanes does.
type Lane<'l, 'a> = dyn Fn(&Client<'a>, usize) -> Result<Tally> + Sync + 'l;

/// What was found.
pub(super) struct Run<T> {
    pub(super) tally: Tally,
    pub(super) seen: T,
    pub(super) faults: Vec<Fault>,
}

pub(super) struct Crowd<'a> {
    clients: Vec<Client<'a>>,
    asked: Vec<Asked<'a>>,
    /// The folder that is lent to servers.
    work: &'a Path,
    numbers: Numbers,
}

impl<'a> Crowd<'a> {
    pub(super) fn gather(
        door: &'a Door,
        count: usize,
        asked: Vec<Asked<'a>>,
        work: &'a Path,
    ) -> Result<Self> {
        let clients = (1..=count).map(|number| Client::open(door, number, PATIENCE));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        for client in &clients {
            listed(client, &asked)?;
        }
        Ok(Self { clients, asked, work, numbers: Numbers::default() })
    }

    /// Calls for so long, and what is then looked at while all are still there. Before times are counted, each client
    /// calls each server once: what serves it has started then.
    pub(super) fn run<T>(
        &self,
        long: Duration,
        look: impl FnOnce() -> Result<T>,
    ) -> Result<Run<T>> {
        let ran = thread::scope(|scope| {
            for client in &self.clients {
                scope.spawn(|| client.listen(long + 10 * PATIENCE));
            }
            let ran = self.call(long).and_then(|tally| Ok((tally, look()?)));
            self.clients.iter().for_each(Client::leave);
            ran
        });
        let (tally, seen) = ran?;
        let faults = self.clients.iter().flat_map(|client| client.ledger.close()).collect();
        Ok(Run { tally, seen, faults })
    }

    fn call(&self, long: Duration) -> Result<Tally> {
        eprintln!("{} clients start {} servers", self.clients.len(), self.asked.len());
        self.in_lanes(1, &|client, lane| self.each_once(client, lane).map(|()| Tally::default()))?;
        eprintln!("they call for {} s", long.as_secs());
        let end = Instant::now() + long;
        self.in_lanes(OPEN, &|client, lane| self.until(end, client, lane))
    }

    /// So many lanes of each client, all at once.
    fn in_lanes(&self, lanes: usize, work: &Lane<'_, 'a>) -> Result<Tally> {
        thread::scope(|scope| {
            let start =
                |client| (0..lanes).map(move |lane| scope.spawn(move || work(client, lane)));
            let running: Vec<_> = self.clients.iter().flat_map(start).collect();
            let ended = running.into_iter().map(|lane| lane.join().expect("a lane does not panic"));
            ended
                .collect::<Result<Vec<_>>>()
                .map(|all| all.into_iter().fold(Tally::default(), Tally::join))
        })
    }

    fn each_once(&self, client: &Client<'_>, lane: usize) -> Result<()> {
        let mut servers = self.in_turns(client, lane).take(self.asked.len());
        servers.try_for_each(|(server, soak)| self.once(client, server, soak).map(drop))
    }

    fn until(&self, end: Instant, client: &Client<'_>, lane: usize) -> Result<Tally> {
        let mut tally = Tally::default();
        for (server, soak) in self.in_turns(client, lane) {
            if Instant::now() > end || client.ledger.faults() > ENOUGH {
                break;
            }
            tally.count(server, self.once(client, server, soak)?);
        }
        Ok(tally)
    }

    fn once(&self, client: &Client<'_>, server: &str, soak: &Soak) -> Result<Duration> {
        client.call(server, soak, self.numbers.mark(client.number), self.work)
    }

    /// Without an end; each lane begins elsewhere.
    fn in_turns(&self, client: &Client<'_>, lane: usize) -> impl Iterator<Item = &Asked<'a>> {
        let first = (client.number + lane * 3) % self.asked.len();
        self.asked.iter().cycle().skip(first)
    }
}

/// Waits until a client is told of all tools. A list leaves out whose server takes too long to start, and the next has
/// it.
fn listed(client: &Client<'_>, asked: &[Asked<'_>]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let tools = client.tools()?;
        let wanted = asked.iter().map(|(server, soak)| named(server, soak));
        let missing: Vec<_> = wanted.filter(|tool| !tools.contains(tool)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "the gateway lists no {}", missing.join(", "));
        thread::sleep(PAUSE);
    }
}
