//! The life of VMs, fast: the fake driver's machines are real processes, and the guest's agent is a
//! few lines that speak the wire protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod memory;
mod rehearsals;
mod spares;
mod started;
mod stops;
mod suspend;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osvm_fleet::drivers::Drivers;
use osvm_fleet::state::{Cause, CauseKind, State};
use osvm_fleet::{
    Fleet, GreetError, Greeter, Idle, Launch, Meeting, Pipes, Plan, Preparer, Purpose, Rootfs,
    Settings, StartedBy,
};
use osvm_image::base::{self, File};
use osvm_image::initramfs::{Agent, Assembler};
use osvm_image::{Image, Store};
use osvm_spec::{Hosts, Hypervisor, Resources, Secrets, TemplateLevel};
use osvm_vmm::fake::{Fake, Fault, Guest};
use osvm_vmm::{Driver, Stream};
use osvm_wire::frame::{self, Decoder, Message};
use osvm_wire::message::{Channel, Hello, Refusal, Reply, Request, SessionFrame};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};

/// A fleet in folders of its own.
struct Trial {
    folder: TempDir,
    fake: Fake,
    fleet: Arc<Fleet<Echo>>,
}

impl Trial {
    async fn new() -> Self {
        Self::with(Fake::new(agent)).await
    }

    async fn with(fake: Fake) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["runtime", "logs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/proc", folder.path().join("proc")).unwrap();
        fs::write(folder.path().join("vmlinux"), kernel()).unwrap();
        let server = File { path: "/bin/server", mode: 0o755, bytes: b"x" };
        base::write(&folder.path().join("base.cpio"), &[server]).unwrap();
        let fleet = open(folder.path(), &fake).await;
        Self { folder, fake, fleet }
    }

    fn plan(&self, name: &str) -> Plan {
        Plan {
            name: name.parse().unwrap(),
            resources: Resources::default(),
            hypervisor: Hypervisor::Auto,
            cpu_template: osvm_spec::CpuTemplate::None,
            template: TemplateLevel::None,
            kernel: self.folder.path().join("vmlinux"),
            rootfs: Rootfs::Path(self.folder.path().join("base.cpio")),
            purpose: Purpose::Serve,
            args: Vec::new(),
            command: Vec::new(),
            env: Vec::new(),
            secrets: Secrets::default(),
            hosts: Hosts::default(),
            folders: Vec::new(),
            user: None,
            working_dir: None,
            start_timeout: Duration::from_secs(20),
            started_by: StartedBy::Auto,
            locked: None,
            record: false,
            server: None,
            once: false,
        }
    }

    /// A launch whose VM boots, and never answers.
    async fn boots_in_vain(&self, name: &str) -> Launch<Spoken> {
        self.fake.inject(Fault::NeverAnswers);
        let launch = self.fleet.launch(self.plan(name)).await.unwrap();
        launch.vm().states().wait_for(|state| *state == State::Booting).await.unwrap();
        launch
    }

    fn run_dirs(&self) -> usize {
        fs::read_dir(self.folder.path().join("runtime")).unwrap().count()
    }
}

async fn open(folder: &Path, fake: &Fake) -> Arc<Fleet<Echo>> {
    open_with(folder, Arc::new(fake.clone())).await
}

async fn open_with(folder: &Path, driver: Arc<dyn Driver>) -> Arc<Fleet<Echo>> {
    let settings = Settings {
        home: folder.to_owned(),
        runtime_dir: folder.join("runtime"),
        logs_dir: folder.join("logs"),
        parallel_launches: 2,
        proc: folder.join("proc"),
        asleep_after: Duration::from_secs(1),
        relay: None,
    };
    let store = Store::open(&folder.join("images")).unwrap();
    let assembler = Assembler::new(&folder.join("cache"), Agent { bytes: b"agent", digest: "1" });
    let drivers = Drivers::fixed(driver);
    Fleet::open(settings, drivers, Preparer::new(store.clone(), assembler, store), Echo).await
}

/// A conversation is one line that came back.
struct Echo;

/// Why it has ended, once it has.
struct Spoken(watch::Sender<Option<String>>);

impl Greeter for Echo {
    type Conversation = Spoken;

    fn admit(&self, plan: &Plan, _: &Image) -> Result<(), Cause> {
        match &plan.locked {
            Some(name) => Err(Cause::new(CauseKind::Refused, format!("{name} is another"))),
            None => Ok(()),
        }
    }

    async fn greet(&self, pipes: Pipes, meeting: Meeting<'_>) -> Result<Spoken, GreetError> {
        let Pipes { mut stdin, stdout } = pipes;
        let answer = async {
            stdin.write_all(b"hello\n").await.ok()?;
            BufReader::new(stdout).lines().next_line().await.ok()?
        };
        match tokio::time::timeout(meeting.limit, answer).await {
            Ok(Some(line)) if line == "hello" => Ok(Spoken(watch::Sender::new(None))),
            Ok(other) => Err(unfit(&format!("{other:?}"), false)),
            Err(_) => Err(unfit("silence", true)),
        }
    }

    fn resume(&self, _pipes: Pipes, note: &str) -> Result<Spoken, String> {
        assert_eq!(note, "met");
        Ok(Spoken(watch::Sender::new(None)))
    }

    fn note(&self, _: &Spoken) -> String {
        "met".to_owned()
    }

    fn is_open(&self, spoken: &Spoken) -> bool {
        spoken.0.borrow().is_none()
    }

    fn ended(&self, spoken: &Spoken) -> impl Future<Output = Option<String>> + Send + 'static {
        let mut end = spoken.0.subscribe();
        async move { end.wait_for(Option::is_some).await.ok()?.clone() }
    }
}

fn unfit(message: &str, timed_out: bool) -> GreetError {
    GreetError::Unanswered { message: message.to_owned(), timed_out, try_other: false }
}

/// The guest: answers what a launch asks, and runs "servers" that return their input.
async fn agent(mut guest: Guest) {
    let (power_off, mut asked) = mpsc::channel(1);
    loop {
        tokio::select! {
            stream = guest.accept() => {
                let Some((_, stream)) = stream else { return };
                tokio::spawn(answer(stream, power_off.clone()));
            }
            _ = asked.recv() => guest.power_off(),
        }
    }
}

async fn answer(stream: Stream, power_off: mpsc::Sender<()>) {
    let mut talk = Talk { stream, decoder: Decoder::default() };
    let Some(request) = talk.receive::<Request>().await else { return };
    let reply = match &request {
        Request::Hello => Reply::Hello(Hello {
            agent: "test".to_owned(),
            kernel: "6".to_owned(),
            boot_id: "b".to_owned(),
        }),
        Request::Prepare(_) | Request::GoOn(_) => Reply::Prepared,
        Request::Spawn(_) => Reply::Spawned { pid: 2 },
        Request::Sessions => Reply::Sessions(Vec::new()),
        Request::Close(_) => Reply::Closed,
        Request::PowerOff => Reply::PoweringOff,
        Request::Grant(_) => Reply::Granted,
        Request::Attach(attach) => Reply::Refused(Refusal::NoSuchSession(attach.session)),
        other => panic!("not expected: {other:?}"),
    };
    talk.send(&reply).await;
    match request {
        Request::Spawn(_) => talk.echo().await,
        Request::PowerOff => power_off.send(()).await.unwrap(),
        _ => {}
    }
}

struct Talk {
    stream: Stream,
    decoder: Decoder,
}

impl Talk {
    async fn echo(&mut self) {
        while let Some(frame) = self.receive::<SessionFrame>().await {
            if let SessionFrame::Data { channel: Channel::Stdin, offset, bytes } = frame {
                let end = offset + bytes.len() as u64;
                self.send(&SessionFrame::Ack { channel: Channel::Stdin, offset: end }).await;
                self.send(&SessionFrame::Data { channel: Channel::Stdout, offset, bytes }).await;
            }
        }
    }

    async fn receive<M: Message>(&mut self) -> Option<M> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.decode().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut buffer).await {
                Ok(count @ 1..) => self.decoder.push(&buffer[..count]),
                _ => return None,
            }
        }
    }

    async fn send(&mut self, message: &impl Message) {
        let _ = self.stream.write_all(&frame::encode(message).unwrap()).await;
        let _ = self.stream.flush().await;
    }
}

/// The least that passes for a kernel: an ELF file of x86-64 with one segment, which says that it
/// is Linux.
fn kernel() -> Vec<u8> {
    const BANNER: &[u8] = b"Linux version 6.0.0 (test)";
    let mut elf = vec![0; 64 + 56];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16..21].copy_from_slice(&[2, 0, 62, 0, 1]);
    // Program headers: where, and how large and how many.
    elf[32] = 64;
    (elf[52], elf[54], elf[56]) = (64, 56, 1);
    // The one that there is: loaded, the whole file.
    let size = u8::try_from(elf.len() + BANNER.len()).unwrap();
    (elf[64], elf[64 + 32], elf[64 + 40]) = (1, size, size);
    elf.extend_from_slice(BANNER);
    elf
}

#[tokio::test]
async fn a_vm_goes_from_launch_to_ready_and_leaves_nothing_but_logs() {
    let trial = Trial::new().await;
    let vm = trial.fleet.launch(trial.plan("a")).await.unwrap().ready().await.unwrap();
    assert_eq!(vm.state(), State::Ready);
    assert_eq!(trial.run_dirs(), 1);
    assert_eq!(vm.facts().unwrap().command, ["/bin/server"]);
    trial.fleet.stop(&vm.plan.name).await.unwrap();
    assert_eq!(vm.state(), State::Stopped);
    assert_eq!(trial.run_dirs(), 0);
    assert!(trial.fleet.list().is_empty());
    let log = trial.folder.path().join("logs/a").join(vm.id.as_str()).join("agent.log");
    assert!(fs::read_to_string(log).unwrap().contains("ended"));
}

#[tokio::test]
async fn vms_of_one_server_have_their_logs_in_one_place_whatever_their_names() {
    let trial = Trial::new().await;
    for number in 0..7 {
        let server = Some("a".parse().unwrap());
        let plan = Plan { server, ..trial.plan(&format!("a.{number}")) };
        let vm = trial.fleet.ensure(plan).await.unwrap();
        trial.fleet.stop(&vm.plan.name).await.unwrap();
    }
    let folders = |path: &str| fs::read_dir(trial.folder.path().join(path)).unwrap().count();
    assert_eq!((folders("logs"), folders("logs/a")), (1, 5));
}

#[tokio::test]
async fn a_second_launch_of_a_name_is_refused_and_ensure_shares_the_first() {
    let trial = Trial::new().await;
    let first = trial.fleet.launch(trial.plan("a")).await.unwrap();
    let refused = trial.fleet.launch(trial.plan("a")).await.err().unwrap();
    assert_eq!(refused.kind, CauseKind::Conflict);
    let shared = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!(shared.id, first.vm().id);
}

#[tokio::test]
async fn a_launch_that_nobody_waits_for_is_undone() {
    let trial = Trial::new().await;
    let launch = trial.boots_in_vain("a").await;
    let vm = Arc::clone(launch.vm());
    drop(launch);
    assert_eq!(vm.ended().await, State::Stopped);
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn an_image_that_is_not_admitted_starts_no_vmm() {
    let trial = Trial::new().await;
    let mut plan = trial.plan("a");
    plan.locked = Some(plan.name.clone());
    let cause = trial.fleet.ensure(plan).await.err().unwrap();
    assert_eq!((cause.kind, cause.message.as_str()), (CauseKind::Refused, "a is another"));
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_host_that_has_no_memory_left_starts_no_vmm() {
    let trial = Trial::new().await;
    let proc = trial.folder.path().join("proc");
    fs::remove_file(&proc).unwrap();
    fs::create_dir(&proc).unwrap();
    fs::write(proc.join("meminfo"), "MemTotal: 8388608 kB\nMemAvailable: 532480 kB\n").unwrap();
    let launched = trial.fleet.launch(trial.plan("a")).await.err().unwrap();
    assert!(launched.message.contains(": 8 MiB of memory are available"), "{launched}");
    assert_eq!(trial.fleet.ensure(trial.plan("a")).await.err().unwrap(), launched);
    assert!(trial.fleet.list().is_empty());
}

#[tokio::test]
async fn a_vmm_that_does_not_start_says_why() {
    let trial = Trial::new().await;
    trial.fake.inject(Fault::StartFails("no room".to_owned()));
    let cause = trial.fleet.ensure(trial.plan("a")).await.err().unwrap();
    assert_eq!(cause.kind, CauseKind::Machine);
    assert!(cause.message.contains("no room"), "{cause}");
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_vmm_that_dies_is_a_failed_vm_until_its_name_is_used_again() {
    let trial = Trial::new().await;
    trial.fake.inject(Fault::DiesAfter(Duration::from_millis(300)));
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let State::Failed(cause) = vm.ended().await else { panic!("{}", vm.state()) };
    assert!(cause.message.contains("ended by itself"), "{cause}");
    assert_eq!(trial.run_dirs(), 0);
    assert_eq!(trial.fleet.list().len(), 1);
    let next = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_ne!(next.id, vm.id);
    assert_eq!(trial.fleet.list().len(), 1);
}

#[tokio::test]
async fn a_guest_that_never_answers_is_given_up_at_the_deadline() {
    let trial = Trial::new().await;
    trial.fake.inject(Fault::NeverAnswers);
    let plan = Plan { start_timeout: Duration::from_millis(200), ..trial.plan("a") };
    let cause = trial.fleet.ensure(plan).await.err().unwrap();
    assert_eq!(cause.kind, CauseKind::Deadline);
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn the_first_vm_makes_a_template_and_goes_on_as_a_clone_of_it_as_the_next_ones_do() {
    let trial = Trial::new().await;
    for name in ["a", "b"] {
        let plan = Plan { template: TemplateLevel::Booted, ..trial.plan(name) };
        let vm = trial.fleet.ensure(plan).await.unwrap();
        assert!(vm.facts().unwrap().cloned, "{name}");
    }
    let made = fs::read_dir(trial.folder.path().join("templates")).unwrap().count();
    assert_eq!(made, 1);
    let plain = trial.fleet.ensure(trial.plan("c")).await.unwrap();
    assert!(!plain.facts().unwrap().cloned);
}

#[tokio::test]
async fn a_vmm_of_another_version_has_a_template_of_its_own() {
    let trial = Trial::new().await;
    let made = || fs::read_dir(trial.folder.path().join("templates")).unwrap().count();
    for (version, name, templates) in [("1", "a", 1), ("2", "b", 2), ("1", "c", 2)] {
        let fleet = open(trial.folder.path(), &trial.fake.clone().of_version(version)).await;
        let plan = Plan { template: TemplateLevel::Booted, ..trial.plan(name) };
        assert!(fleet.ensure(plan).await.unwrap().facts().unwrap().cloned, "{name}");
        assert_eq!(made(), templates, "{name}");
        fleet.stop(&name.parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_template_that_nothing_comes_to_be_from_is_made_once_more_and_then_done_without() {
    let trial = Trial::new().await;
    let well = || Fault::DiesAfter(Duration::from_secs(900));
    let no_clone = || Fault::StartFails("it is no good".to_owned());
    for fault in [well(), no_clone(), well(), no_clone(), well()] {
        trial.fake.inject(fault);
    }
    let plan = Plan { template: TemplateLevel::Booted, ..trial.plan("a") };
    let vm = trial.fleet.ensure(plan).await.unwrap();
    assert!(!vm.facts().unwrap().cloned);
    // The next one does not try again, and boots at once.
    trial.fake.inject(well());
    trial.fake.inject(no_clone());
    let plan = Plan { template: TemplateLevel::Booted, ..trial.plan("b") };
    assert!(!trial.fleet.ensure(plan).await.unwrap().facts().unwrap().cloned);
    let left = fs::read_dir(trial.folder.path().join("templates")).unwrap().count();
    assert_eq!(left, 0);
    for name in ["a", "b"] {
        trial.fleet.stop(&name.parse().unwrap()).await.unwrap();
    }
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_guest_that_falls_asleep_while_it_boots_is_started_once_more() {
    let trial = Trial::new().await;
    trial.fake.inject(Fault::NeverAnswers);
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!(*vm.states().borrow(), State::Ready);
    let log = trial.folder.path().join(format!("runtime/microvm-{}/logs/agent.log", vm.id));
    assert!(fs::read_to_string(log).unwrap().contains("starting it once more"));
    trial.fleet.stop(&"a".parse().unwrap()).await.unwrap();
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn only_unused_vms_that_a_call_started_are_stopped_when_idle() {
    let trial = Trial::new().await;
    let auto = trial.fleet.ensure(trial.plan("auto")).await.unwrap();
    let busy = trial.fleet.ensure(trial.plan("busy")).await.unwrap();
    let plan = Plan { started_by: StartedBy::User, ..trial.plan("user") };
    let user = trial.fleet.ensure(plan).await.unwrap();
    let _visit = busy.visit();
    let now = Some(Duration::ZERO);
    trial.fleet.settle_idle(&Idle { stop: now, ..Idle::default() });
    assert_eq!(auto.ended().await, State::Stopped);
    assert_eq!((busy.state(), user.state()), (State::Ready, State::Ready));
}

#[tokio::test]
async fn a_half_made_vm_of_an_earlier_daemon_is_cleared_away() {
    let trial = Trial::new().await;
    let launch = trial.boots_in_vain("a").await;
    let copy = tempfile::tempdir().unwrap();
    // What a daemon that is killed now would leave.
    let dir = fs::read_dir(trial.folder.path().join("runtime")).unwrap().next().unwrap().unwrap();
    fs::copy(dir.path().join("state.json"), copy.path().join("state.json")).unwrap();
    drop(launch);
    while trial.run_dirs() > 0 {
        tokio::task::yield_now().await;
    }
    fs::create_dir_all(dir.path().join("logs")).unwrap();
    fs::copy(copy.path().join("state.json"), dir.path().join("state.json")).unwrap();
    let next = open(trial.folder.path(), &trial.fake).await;
    assert!(next.list().is_empty());
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_damaged_record_is_not_trusted_and_not_touched() {
    let trial = Trial::new().await;
    let dir = trial.folder.path().join("runtime/microvm-0000000000000000");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("state.json"), "{\"magic\":\"osvm-vm\",\"version\":1,").unwrap();
    let next = open(trial.folder.path(), &trial.fake).await;
    assert!(next.list().is_empty());
    assert!(dir.join("state.json").exists());
}
