//! With the real QEMU, where it is installed. The guests are kernels of a few bytes, so nothing has
//! to be built or fetched; guests with an agent are the business of the tests crate.

use super::*;
use crate::jail::tests::jail;
use crate::{BootProtocol, Exit, Kernel};

const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";

/// Halts for good.
const HALT: &[u8] = b"\xFA\xF4\xEB\xFC";
/// Writes `x` to the serial port (0x3F8) for ever.
const FLOOD: &[u8] = b"\x66\xBA\xF8\x03\xB0x\xEE\xEB\xFD";
/// Loads an empty interrupt table and divides by zero: a triple fault, which resets the machine.
const RESET: &[u8] = b"\x31\xC0\x50\x50\x0F\x01\x1C\x24\xF7\xF0";

/// Counts in memory, from zero, and writes each count to the serial port: `mov dx,0x3F8`, then for ever
/// `inc byte [0x200000]`, `mov al,[0x200000]`, `out dx,al`.
const COUNT: &[u8] = b"\x66\xBA\xF8\x03\xFE\x05\0\0\x20\0\xA0\0\0\x20\0\xEE\xEB\xF2";

/// A kernel as small as can be: 32-bit code, entered by the note that PVH kernels have.
fn kernel(code: &[u8]) -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    const NOTE: u64 = 0x100;
    const CODE: u64 = 0x200;
    let segment = |kind: u64, offset: u64, size: usize| {
        let size = size as u64;
        let executable = 5 << 32;
        [kind | executable, offset, ENTRY, ENTRY, size, size, 4].map(u64::to_le_bytes).concat()
    };
    let note = [[4_u32, 8, 18].map(u32::to_le_bytes).concat(), b"Xen\0".to_vec()].concat();
    let note = [note, ENTRY.to_le_bytes().to_vec()].concat();
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3E\0\x01\0\0\0".to_vec();
    file.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0_u16, 0, 64, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend(segment(4, NOTE, note.len()));
    file.extend(segment(1, CODE, code.len()));
    file.resize(NOTE as usize, 0);
    file.extend(note);
    file.resize(CODE as usize, 0);
    file.extend(code);
    // As long as the header that QEMU looks for a Linux kernel in.
    file.resize(8192, 0);
    file
}

/// The driver, or `None` where the tests can't run.
async fn qemu() -> Option<Qemu> {
    match Qemu::open(Path::new(PROGRAM), Accelerator::Tcg, &jail().await).await {
        Ok(qemu) => Some(qemu),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn machine(kernel: &[u8]) -> (Machine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // A comma ends a value on QEMU's command line, where no path may stand therefore.
    let (image, initramfs) =
        (dir.path().join("kernel, with a comma"), dir.path().join("initramfs"));
    std::fs::write(&image, kernel).unwrap();
    std::fs::write(&initramfs, [0; 512]).unwrap();
    let machine = Machine {
        id: "one".to_owned(),
        dir: dir.path().to_owned(),
        logs: dir.path().to_owned(),
        kernel: Kernel { path: image, boot: BootProtocol::default(), args: String::new() },
        disk: Some(initramfs.clone()),
        initramfs,
        resources: osvm_spec::Resources::new(64, 2).unwrap(),
        cpu_template: osvm_spec::CpuTemplate::None,
        guest_ports: Vec::new(),
    };
    (machine, dir)
}

/// Waits until the console's log has that many bytes.
async fn wait_for_console(machine: &Machine, bytes: u64) {
    let path = machine.logs.join(logs::CONSOLE);
    let grown = async {
        while std::fs::metadata(&path).map_or(0, |log| log.len()) < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), grown).await.expect("the guest writes");
}

#[tokio::test]
async fn a_guest_that_floods_its_console_fills_the_log_and_not_the_disk() {
    let Some(qemu) = qemu().await else { return };
    let (machine, _dir) = machine(&kernel(FLOOD));
    let running = qemu.start(&machine).await.unwrap();
    wait_for_console(&machine, LOG_LIMIT).await;
    running.pause().await.unwrap();
    running.resume().await.unwrap();
    assert_eq!(running.process().try_exited(), None, "the machine goes on");
    let log = std::fs::metadata(machine.logs.join(logs::CONSOLE)).unwrap();
    assert_eq!(log.len(), LOG_LIMIT);
    running.kill().unwrap();
    assert_eq!(running.exited().await, Exit::Signal(9));
}

#[tokio::test]
async fn a_machine_is_adopted_controlled_and_ended() {
    let Some(qemu) = qemu().await else { return };
    let (machine, _dir) = machine(&kernel(HALT));
    let saved = qemu.start(&machine).await.unwrap().saved();
    let running = qemu.adopt(&saved).await.unwrap();
    assert_eq!(running.process().identity(), saved.process);
    running.pause().await.unwrap();
    let mut qmp = Qmp::connect(&machine.dir.join(QMP_SOCKET)).await.unwrap();
    assert_eq!(qmp.status().await.unwrap(), "paused");
    drop(qmp);
    running.resume().await.unwrap();
    let silent = running.connect(Duration::from_millis(300)).await;
    assert!(matches!(silent, Err(LinkError::Silent { .. })));
    running.terminate().unwrap();
    running.exited().await;
    assert!(matches!(running.connect(Duration::from_secs(9)).await, Err(LinkError::Ended)));
    assert!(matches!(running.resume().await, Err(VmmError::Control { .. })));
    assert!(matches!(qemu.adopt(&saved).await, Err(VmmError::Gone { .. })));
}

#[tokio::test]
async fn a_machine_whose_sockets_are_gone_already_has_ended() {
    let Some(qemu) = qemu().await else { return };
    let (machine, _dir) = machine(&kernel(HALT));
    let running = qemu.start(&machine).await.unwrap();
    std::fs::remove_file(machine.dir.join(LINK_SOCKET)).unwrap();
    let connect = running.connect(Duration::from_secs(60));
    let end = async {
        tokio::time::sleep(ENDS_WITHIN / 10).await;
        running.kill().unwrap();
    };
    let (ended, ()) = tokio::join!(connect, end);
    assert!(matches!(ended, Err(LinkError::Ended)), "{ended:?}");
}

/// What the guest has counted up to, from one on without a gap.
fn counted(machine: &Machine) -> Vec<u8> {
    let counts = std::fs::read(machine.logs.join(logs::CONSOLE)).unwrap();
    assert!(counts.windows(2).all(|pair| pair[0].wrapping_add(1) == pair[1]), "{counts:?}");
    counts
}

#[tokio::test]
async fn clones_go_on_where_the_saved_machine_was_each_for_itself_and_without_its_files() {
    let Some(qemu) = qemu().await else { return };
    let (original, _dir) = machine(&kernel(COUNT));
    let running = qemu.start(&original).await.unwrap();
    wait_for_console(&original, 1000).await;
    let folder = tempfile::tempdir().unwrap();
    running.save(folder.path()).await.unwrap();
    let last = *counted(&original).last().unwrap();
    running.kill().unwrap();
    running.exited().await;
    let template = qemu.load(folder.path()).await.unwrap();
    drop(folder);

    let mut clones = Vec::new();
    for _ in 0..3 {
        let (clone, dir) = machine(&kernel(COUNT));
        let running = template.restore(&clone).await.unwrap();
        assert_eq!(counted(&clone), [0; 0], "it is paused");
        clones.push((clone, dir, running));
    }
    // One after the other: the first has changed its memory long before the last begins.
    for (clone, _, running) in &clones {
        running.resume().await.unwrap();
        wait_for_console(clone, 1000).await;
        running.pause().await.unwrap();
        assert_eq!(counted(clone)[0], last.wrapping_add(1));
    }
    let (_, _, first) = &clones[0];
    let elsewhere = tempfile::tempdir().unwrap();
    let refused = first.save(elsewhere.path()).await.unwrap_err();
    assert!(refused.to_string().contains("is its own"), "{refused}");
    for (_, _, running) in clones {
        running.kill().unwrap();
    }
}

/// With what it has come from, or as if nobody knew that. How many bytes were written in the end.
async fn is_suspended_and_woken_again_and_again(qemu: &Qemu, has_template: bool) -> u64 {
    let (original, _dir) = machine(&kernel(COUNT));
    let started = qemu.start(&original).await.unwrap();
    wait_for_console(&original, 1000).await;
    let saved = tempfile::tempdir().unwrap();
    started.save(saved.path()).await.unwrap();
    started.end().await;
    let template = qemu.load(saved.path()).await.unwrap();
    let (machine, _dir) = machine(&kernel(COUNT));
    let mut running = template.restore(&machine).await.unwrap();
    running.resume().await.unwrap();
    let (from, name) = match has_template {
        true => (Some(saved.path()), "changes"),
        false => (None, "state"),
    };
    let mut bytes = 0;
    // First it is a clone, and then what became of one.
    for round in 1..=3 {
        wait_for_console(&machine, round * 1000).await;
        let missing = running.suspend(Path::new("/nowhere"), from).await.unwrap_err();
        assert!(missing.to_string().contains("write a saved machine to /nowhere"), "{missing}");
        running.resume().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        running.suspend(folder.path(), from).await.unwrap();
        running.end().await;
        bytes = std::fs::metadata(folder.path().join(name)).unwrap().len();
        let before = counted(&machine).len();
        for socket in [LINK_SOCKET, QMP_SOCKET] {
            std::fs::remove_file(machine.dir.join(socket)).unwrap();
        }
        let without = qemu.wake(&machine, folder.path());
        running = match has_template {
            true => {
                let error = without.await.err().unwrap();
                assert!(error.to_string().contains("open suspended machine"), "{error}");
                template.wake(&machine, folder.path()).await.unwrap()
            }
            false => without.await.unwrap(),
        };
        drop(folder);
        assert_eq!(counted(&machine).len(), before, "it is paused");
        running.resume().await.unwrap();
    }
    wait_for_console(&machine, 10_000).await;
    running.pause().await.unwrap();
    assert!(counted(&machine).len() >= 10_000);
    running.end().await;
    bytes
}

#[tokio::test]
async fn a_machine_that_is_suspended_goes_on_where_it_was_again_and_again() {
    let Some(qemu) = qemu().await else { return };
    let whole = is_suspended_and_woken_again_and_again(&qemu, false).await;
    let changes = is_suspended_and_woken_again_and_again(&qemu, true).await;
    // What a guest of 19 bytes leaves as it is are zeros and QEMU's firmware.
    assert!(changes < whole, "{changes} of {whole} bytes");
}

#[tokio::test]
async fn the_memory_of_a_machine_that_has_ended_is_given_back_though_somebody_holds_the_machine() {
    let Some(qemu) = qemu().await else { return };
    let (machine, _dir) = machine(&kernel(HALT));
    let running = qemu.start(&machine).await.unwrap();
    let held = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("osvm-guest-memory")).count()
    };
    assert_eq!(held(), 1);
    running.kill().unwrap();
    let gone = async {
        while held() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    assert!(running.save(Path::new("/nowhere")).await.is_err());
}

#[tokio::test]
async fn a_saved_machine_that_is_broken_is_told_in_qemus_words() {
    let Some(qemu) = qemu().await else { return };
    let (original, _dir) = machine(&kernel(HALT));
    let running = qemu.start(&original).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    running.save(folder.path()).await.unwrap();
    running.kill().unwrap();
    running.exited().await;
    let state = folder.path().join("state");
    let mut bytes = std::fs::read(&state).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&state, bytes).unwrap();
    let template = qemu.load(folder.path()).await.unwrap();
    let (clone, _dir) = machine(&kernel(HALT));
    let error = template.restore(&clone).await.err().unwrap().to_string();
    assert!(error.starts_with("start qemu: ") && error.contains("load of migration"), "{error}");
}

#[tokio::test]
async fn a_guest_that_resets_ends_its_machine_and_whoever_waits_for_its_agent_is_told() {
    let Some(qemu) = qemu().await else { return };
    let (machine, _dir) = machine(&kernel(RESET));
    let Ok(running) = qemu.start(&machine).await else {
        // It was quicker than QEMU's first answer.
        return;
    };
    let ended = running.connect(Duration::from_secs(60)).await;
    assert!(matches!(ended, Err(LinkError::Ended)));
    assert_eq!(running.exited().await, Exit::Code(0));
}

#[tokio::test]
async fn what_qemu_can_not_load_is_told_in_its_words_with_the_files_name() {
    let Some(qemu) = qemu().await else { return };
    let (machine, dir) = machine(b"");
    let error = qemu.start(&machine).await.err().unwrap().to_string();
    let named =
        format!("could not load kernel '{}'", dir.path().join("kernel, with a comma").display());
    assert!(error.starts_with("start qemu: ") && error.contains(&named), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_qemu_is_refused() {
    let error =
        Qemu::open(Path::new("/bin/true"), Accelerator::Tcg, &jail().await).await.unwrap_err();
    assert!(matches!(error, VmmError::Version { .. }), "{error}");
}

#[tokio::test]
async fn the_time_stamp_counter_is_measured_alike_twice() {
    let (Some(first), Some(second)) = (clock::tsc_khz().await, clock::tsc_khz().await) else {
        return eprintln!("skipped: no time stamp counter on this CPU");
    };
    assert!(first.abs_diff(second) < first / 1000, "{first} and {second} kHz");
}
