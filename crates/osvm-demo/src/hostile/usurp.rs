//! Takes the agent's place: freezes it, takes its end of the link out of its hands, and lies to the host.

mod lies;
mod link;

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{later, outcome, testify};
use link::Link;

/// How long the host is lied to.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Usurp {
    how: String,
}

/// Begins when the answer has left; the outcome is told on the console.
pub(super) fn usurp(Usurp { how }: Usurp) -> Value {
    later(move || {
        let got = if how == "reboot" { reboot() } else { freeze().and_then(|()| lie(&how)) };
        testify(&json!({ "usurp": how, "outcome": outcome(got) }));
    });
    json!({ "begins": "after this answer" })
}

/// Ends the VM without asking anybody.
fn reboot() -> io::Result<Value> {
    testify(&json!({ "usurp": "reboot", "outcome": { "got": "begun" } }));
    rustix::system::reboot(rustix::system::RebootCommand::Restart)?;
    Ok(Value::Null)
}

/// Process 1 can't be killed or stopped by a signal, but it can be put into a group that is frozen.
fn freeze() -> io::Result<()> {
    const WITHIN: Duration = Duration::from_secs(10);
    let groups = Path::new("/tmp/groups");
    fs::create_dir_all(groups)?;
    mount("groups", groups, "cgroup2", MountFlags::empty(), None)?;
    let ice = groups.join("ice");
    fs::create_dir_all(&ice)?;
    fs::write(ice.join("cgroup.procs"), "1")?;
    fs::write(ice.join("cgroup.freeze"), "1")?;
    let deadline = Instant::now() + WITHIN;
    while !fs::read_to_string(ice.join("cgroup.events"))?.contains("frozen 1") {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the agent does not freeze"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn lie(how: &str) -> io::Result<Value> {
    let mut link = Link::steal()?;
    testify(&json!({ "usurp": how, "agent": "frozen", "link": link.name() }));
    let until = Instant::now() + PATIENCE;
    match how {
        "silence" => Ok(json!("nothing is said any more")),
        "garbage" => {
            link.garbage(Instant::now() + Duration::from_secs(5)).map(|count| json!(count))
        }
        "flap" => link.break_again_and_again(until).map(|count| json!(count)),
        "lie" => link.answer_with(&lies::broken_checksum(), until).map(|count| json!(count)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no such lie")),
    }
}
