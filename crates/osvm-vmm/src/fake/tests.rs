//! The fake keeps the promises of the traits: these tests read as what any driver must do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{BootProtocol, Exit, Kernel};

const LONG: Duration = Duration::from_secs(30);

/// A guest that answers each stream with its port.
async fn answer(mut guest: Guest) {
    while let Some((port, mut stream)) = guest.accept().await {
        let _ = stream.write_all(&port.to_le_bytes()).await;
    }
}

fn machine() -> (Machine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine {
        id: "one".to_owned(),
        dir: dir.path().to_owned(),
        logs: dir.path().to_owned(),
        kernel: Kernel {
            path: "/nowhere/vmlinux".into(),
            boot: BootProtocol::default(),
            args: String::new(),
        },
        initramfs: "/nowhere/initramfs".into(),
        disk: None,
        resources: osvm_spec::Resources::default(),
        cpu_template: osvm_spec::CpuTemplate::None,
        guest_ports: vec![7],
    };
    (machine, dir)
}

async fn ask(link: &Link, port: u32) -> u32 {
    let mut stream = link.open(port).await.unwrap();
    stream.read_u32_le().await.unwrap()
}

#[tokio::test]
async fn a_machine_starts_answers_and_is_killed() {
    let (machine, _dir) = machine();
    let running = Fake::new(answer).start(&machine).await.unwrap();
    let link = running.connect(LONG).await.unwrap();
    assert_eq!(ask(&link, 5252).await, 5252);
    running.kill().unwrap();
    assert_eq!(running.exited().await, Exit::Signal(9));
    link.closed().await;
    assert!(matches!(running.connect(LONG).await, Err(LinkError::Ended)));
}

#[tokio::test]
async fn after_a_hang_up_the_same_guest_is_connected_to_again() {
    let (machine, _dir) = machine();
    let running = Fake::new(answer).start(&machine).await.unwrap();
    for port in 1..4 {
        let link = running.connect(LONG).await.unwrap();
        assert_eq!(ask(&link, port).await, port);
        link.hang_up();
    }
    running.kill().unwrap();
}

#[tokio::test]
async fn a_machine_is_adopted_with_its_guest_and_not_once_it_has_ended() {
    let (machine, _dir) = machine();
    let fake = Fake::new(answer);
    let started = fake.start(&machine).await.unwrap();
    let saved = serde_json::to_string(&started.saved()).unwrap();
    let saved: Saved = serde_json::from_str(&saved).unwrap();
    drop(started);
    let adopted = fake.adopt(&saved).await.unwrap();
    let link = adopted.connect(LONG).await.unwrap();
    assert_eq!(ask(&link, 9).await, 9);
    adopted.terminate().unwrap();
    assert_eq!(adopted.exited().await, Exit::Signal(15));
    assert!(matches!(fake.adopt(&saved).await, Err(VmmError::Gone { .. })));
}

#[tokio::test]
async fn a_machine_of_another_driver_is_not_adopted() {
    let (machine, _dir) = machine();
    let fake = Fake::new(answer);
    let running = fake.start(&machine).await.unwrap();
    let saved = Saved { driver: "qemu".to_owned(), ..running.saved() };
    let error = fake.adopt(&saved).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "adopt machine one: it was started by driver qemu, this one is fake"
    );
    running.kill().unwrap();
}

#[tokio::test]
async fn a_guest_opens_streams_on_the_ports_it_may_use() {
    let (machine, _dir) = machine();
    let guest = |mut guest: Guest| async move {
        guest.accept().await;
        assert!(guest.open(8).await.is_none());
        let mut stream = guest.open(7).await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        guest.power_off();
    };
    let running = Fake::new(guest).start(&machine).await.unwrap();
    let link = running.connect(LONG).await.unwrap();
    let _go = link.open(1).await.unwrap();
    let (port, _stream) = link.accept().await.unwrap();
    assert_eq!(port, 7);
    assert_eq!(running.exited().await, Exit::Signal(15));
}

#[tokio::test]
async fn faults_befall_the_machines_started_next() {
    let (machine, _dir) = machine();
    let fake = Fake::new(answer);
    fake.inject(Fault::StartFails("no memory".to_owned()));
    fake.inject(Fault::NeverAnswers);
    fake.inject(Fault::DiesAfter(Duration::from_millis(10)));
    let error = fake.start(&machine).await.err().unwrap();
    assert_eq!(error.to_string(), "start fake: no memory");
    let deaf = fake.start(&machine).await.unwrap();
    let silent = deaf.connect(Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(LinkError::Silent { .. })));
    deaf.kill().unwrap();
    deaf.exited().await;
    let dying = fake.start(&machine).await.unwrap();
    assert_eq!(dying.exited().await, Exit::Signal(9));
}

#[tokio::test]
async fn a_paused_machine_can_still_be_killed() {
    let (machine, _dir) = machine();
    let running = Fake::new(answer).start(&machine).await.unwrap();
    running.pause().await.unwrap();
    running.resume().await.unwrap();
    running.pause().await.unwrap();
    running.kill().unwrap();
    assert_eq!(running.exited().await, Exit::Signal(9));
}
