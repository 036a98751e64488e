//! The VMs of one test: launched, asked and ended, all under names of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use osvm_daemon::api::{CallAnswer, CallRequest, LaunchRequest, LogSource, LogsQuery, VmStatus};
use osvm_daemon::client::Client;
use osvm_spec::{ImageRef, Overrides, Secrets, ServerName};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::check::{Check, Group, Seen};
use super::host;
use crate::commands::mcp::answer;
use crate::environment;
use crate::error::CliError;
use crate::progress::Progress;

/// The base image's program, which is both servers.
const PROGRAM: &str = "/usr/bin/osvm-demo";

/// Memory of a hostile server's VM, in MiB.
pub(super) const HOSTILE_MIB: u64 = 128;

/// How long the bystander may take over one answer while its neighbour is at work.
const BYSTANDER: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    client: Client,
    /// A word that nobody could have known.
    secret: String,
    progress: Progress,
    launched: Vec<VmStatus>,
    daemon: u32,
}

/// What a VM that did nothing wrong, and the daemon, saw of an attempt on their neighbour.
#[derive(Debug, Default)]
pub(super) struct Bystander {
    answers: u32,
    slowest: Duration,
    failure: Option<String>,
    /// Most memory that the daemon held, in KiB.
    daemon_kib: u64,
    /// Most memory that the attacker's VMM held, in bytes.
    attacker_bytes: u64,
}

impl Stage {
    pub(super) fn new(client: Client) -> Result<Self, CliError> {
        let secret = random()?;
        let progress = Progress::start("testing");
        Ok(Self { client, secret, progress, launched: Vec::new(), daemon: 0 })
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(format!("testing: {text}"));
    }

    /// Pid of the daemon.
    pub(super) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// The demo server, as an unprivileged user with these variables.
    pub(super) async fn launch_demo(
        &mut self,
        env: BTreeMap<String, String>,
    ) -> Result<VmStatus, CliError> {
        self.daemon = self.client.info().await?.pid;
        self.launch("demo", Overrides { env, ..Overrides::default() }).await
    }

    /// The hostile server, as root.
    pub(super) async fn launch_hostile(&mut self, role: &str) -> Result<VmStatus, CliError> {
        let own = Overrides {
            command: Some(vec![PROGRAM.to_owned(), "hostile".to_owned()]),
            user: Some("root".to_owned()),
            memory_mb: Some(HOSTILE_MIB),
            vcpus: Some(1),
            ..Overrides::default()
        };
        self.launch(role, own).await
    }

    async fn launch(&mut self, role: &str, own: Overrides) -> Result<VmStatus, CliError> {
        let image = Some(ImageRef::at(&environment::home()?.default_rootfs()));
        let own = Overrides { image, ..own };
        let name = format!("isolation-test-{}-{role}", std::process::id());
        let name: ServerName = name.parse().expect("words and a number");
        let request = LaunchRequest {
            name,
            overrides: own.or(environment::overrides()?),
            secrets: Secrets::default(),
            record: false,
        };
        self.say(&format!("launching the {role} server"));
        let vm = self.client.launch(&request, |_, _| {}).await?;
        self.launched.push(vm.clone());
        Ok(vm)
    }

    pub(super) async fn call(
        &self,
        name: &ServerName,
        tool: &str,
        arguments: &Value,
    ) -> Result<CallAnswer, CliError> {
        let arguments = RawValue::from_string(arguments.to_string()).expect("a value is JSON");
        let overrides = Overrides::default();
        let request = CallRequest {
            tool: tool.to_owned(),
            arguments,
            timeout_seconds: None,
            confirmed: false,
            overrides,
            secrets: Secrets::default(),
        };
        Ok(self.client.call(name, &request).await?)
    }

    /// The evidence that a tool of the hostile server returned.
    pub(super) async fn attempt(&self, vm: &VmStatus, tool: &str, arguments: Value) -> Seen<Value> {
        let answer = self.call(&vm.name, tool, &arguments).await;
        let answer = answer.map_err(|error| error.message().to_owned())?;
        if answer.is_error {
            return Err(text_of(&answer));
        }
        let mut result: Value =
            serde_json::from_str(answer.result.get()).map_err(|error| error.to_string())?;
        Ok(result["structuredContent"].take())
    }

    pub(super) async fn status(&self, vm: &VmStatus) -> Seen<VmStatus> {
        self.client.vm(&vm.name).await.map_err(|error| error.message)
    }

    /// Waits until the VM is in that state.
    pub(super) async fn wait_for(
        &self,
        vm: &VmStatus,
        within: Duration,
        reached: impl Fn(&VmStatus) -> bool,
    ) -> Seen<VmStatus> {
        const LOOK: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + within;
        loop {
            let status = self.status(vm).await?;
            if reached(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let (state, seconds) = (&status.state, within.as_secs());
                return Err(format!("after {seconds} s the VM was still {state}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops one VM; how long that took.
    pub(super) async fn stop(&self, vm: &VmStatus) -> Seen<Duration> {
        let start = Instant::now();
        self.client.stop(&vm.name).await.map_err(|error| error.message)?;
        Ok(start.elapsed())
    }

    pub(super) async fn log(&self, vm: &VmStatus, source: LogSource) -> Seen<String> {
        let query = LogsQuery { source, follow: false };
        let body = self.client.logs(&vm.name, &query).await.map_err(|error| error.message);
        let mut bytes = Vec::new();
        body?.read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the hostile server said of its attempt on the console.
    pub(super) async fn testimony(&self, vm: &VmStatus) -> Seen<Vec<Value>> {
        let console = self.log(vm, LogSource::Console).await?;
        let said = console.lines().filter_map(|line| line.split_once("osvm-hostile: "));
        Ok(said.filter_map(|(_, evidence)| serde_json::from_str(evidence.trim()).ok()).collect())
    }

    /// Makes an attempt while the demo server in the VM next to it is asked again and again.
    pub(super) async fn meanwhile<T>(
        &self,
        demo: &VmStatus,
        attacker: &VmStatus,
        attempt: impl Future<Output = T>,
    ) -> (T, Bystander) {
        let mut seen = Bystander::default();
        let done = {
            let mut attempt = std::pin::pin!(attempt);
            loop {
                tokio::select! {
                    done = &mut attempt => break done,
                    () = self.look(demo, attacker, &mut seen) => {}
                }
            }
        };
        // At least once, however short the attempt was.
        self.look(demo, attacker, &mut seen).await;
        (done, seen)
    }

    async fn look(&self, demo: &VmStatus, attacker: &VmStatus, seen: &mut Bystander) {
        const BEAT: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let sum = json!({ "a": 2, "b": 40 });
        let asked = self.call(&demo.name, "add", &sum);
        match tokio::time::timeout(BYSTANDER, asked).await {
            Ok(Ok(answer)) if text_of(&answer) == "42" => {
                seen.answers += 1;
                seen.slowest = seen.slowest.max(start.elapsed());
            }
            Ok(Ok(answer)) => seen.failure = Some(text_of(&answer)),
            Ok(Err(error)) => seen.failure = Some(error.message().to_owned()),
            Err(_) => seen.failure = Some(format!("no answer in {} s", BYSTANDER.as_secs())),
        }
        if let Ok(status) = self.status(attacker).await {
            let held = status.memory_used_bytes.unwrap_or_default();
            seen.attacker_bytes = seen.attacker_bytes.max(held);
        }
        let daemon = host::figure(self.daemon, "VmRSS").unwrap_or_default();
        seen.daemon_kib = seen.daemon_kib.max(daemon);
        tokio::time::sleep(BEAT).await;
    }

    /// Ends every VM of the test.
    pub(super) async fn clear(&mut self) -> Result<Check, CliError> {
        self.say("stopping the VMs");
        for vm in &self.launched {
            match self.client.stop(&vm.name).await {
                Ok(_) => {}
                // Stopped by its own check.
                Err(error) if error.kind == osvm_daemon::api::ErrorKind::NoSuch => {}
                Err(error) => return Err(error.into()),
            }
        }
        let left: Vec<_> = self.launched.iter().filter_map(left_of).collect();
        let evidence = match left.is_empty() {
            true => format!("{} VMs, no process and no folder of them", self.launched.len()),
            false => left.join(", "),
        };
        Ok(Group("afterwards").check("nothing is left", left.is_empty(), evidence))
    }
}

/// A run directory that still exists, or a process that still writes to the VM's log.
fn left_of(vm: &VmStatus) -> Option<String> {
    let writes = |pid: &u32| {
        let log = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
        log.to_string_lossy().contains(&vm.id)
    };
    if vm.run_dir.exists() {
        return Some(vm.run_dir.display().to_string());
    }
    vm.pid.filter(writes).map(|pid| format!("process {pid}"))
}

impl Bystander {
    /// Whether the neighbour answered all the time.
    pub(super) fn check(&self, group: &Group) -> Check {
        let Self { answers, slowest, failure, .. } = self;
        let name = "other VMs and the daemon keep answering";
        match failure {
            Some(failure) => group.check(name, false, format!("the demo server: {failure}")),
            None => {
                let slowest = slowest.as_millis();
                let evidence = format!("{answers} calls meanwhile, the slowest took {slowest} ms");
                group.check(name, *answers > 0, evidence)
            }
        }
    }

    pub(super) fn daemon_kib(&self) -> u64 {
        self.daemon_kib
    }

    pub(super) fn attacker_bytes(&self) -> u64 {
        self.attacker_bytes
    }
}

pub(super) fn text_of(answer: &CallAnswer) -> String {
    answer::text(&answer.result).trim_end().to_owned()
}

fn random() -> Result<String, CliError> {
    let uuid = fs::read_to_string(Path::new("/proc/sys/kernel/random/uuid"));
    let uuid =
        uuid.map_err(|error| CliError::failed(format!("can't read a random id: {error}")))?;
    Ok(uuid.trim().to_owned())
}
