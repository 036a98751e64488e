//! QEMU's command line. No path stands on it: what QEMU opens, it has inherited.

use std::os::fd::RawFd;

use crate::Machine;
use crate::choose::Accelerator;
use crate::process::inherited;

/// Numbers of the descriptors that QEMU inherits.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) kernel: RawFd,
    pub(super) initramfs: RawFd,
    pub(super) disk: Option<RawFd>,
    /// Of a machine that was suspended without a template there is none: QEMU fills memory of its own.
    pub(super) memory: Option<RawFd>,
    pub(super) console: RawFd,
    /// A listening socket: the host's end of the serial port.
    pub(super) link: RawFd,
    /// A listening socket.
    pub(super) qmp: RawFd,
    /// Of a clone: the state of the saved machine's devices. Of one that was suspended: its memory, too, or what of it is
    /// not in that file.
    pub(super) state: Option<RawFd>,
}

/// QEMU's name for the guest's memory.
pub(super) const MEMORY: &str = "mem0";

/// What does not change from machine to machine.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) accelerator: Accelerator,
    /// The counter that guests under TCG see; not needed under KVM.
    pub(super) tsc_khz: Option<u64>,
}

/// System calls QEMU never needs for what it does here: no new programs, no other user's identity,
/// no priorities.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// How much translated code QEMU keeps, in MiB; left alone it takes up to 1 GiB, however small the
/// guest. Starting Node fills 100; at 128 it starts 15 % slower, at 64 40 %, at 32 it takes twice
/// as long.
const TRANSLATIONS_MIB: u32 = 256;

pub(super) fn arguments(machine: &Machine, host: &Host, fds: &Descriptors) -> Vec<String> {
    let mut args = Args(Vec::new());
    args.switches(&["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]);
    args.option("-sandbox", SANDBOX);
    args.board(machine, host);
    args.memory(machine, fds);
    args.option("-kernel", inherited(fds.kernel));
    args.option("-initrd", inherited(fds.initramfs));
    args.option("-append", machine.command_line(&kernel_args(machine, host)));
    let console = args.given(fds.console, 1);
    args.option("-chardev", format!("file,id=console,append=on,path={console}"));
    args.option("-serial", "chardev:console");
    args.option("-chardev", format!("socket,id=qmp,server=on,wait=off,fd={}", fds.qmp));
    args.option("-mon", "chardev=qmp,mode=control");
    args.link(fds.link);
    args.option("-device", "virtio-rng-device");
    if let Some(disk) = fds.disk {
        args.disk(disk);
    }
    if fds.state.is_some() {
        args.option("-incoming", "defer");
    }
    args.0
}

struct Args(Vec<String>);

impl Args {
    fn switches(&mut self, names: &[&str]) {
        self.0.extend(names.iter().map(|&name| name.to_owned()));
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([name.to_owned(), value.into()]);
    }

    fn board(&mut self, machine: &Machine, host: &Host) {
        // ACPI tables tell a distribution kernel where its devices are; it then also wants a clock.
        let acpi = if machine.kernel.boot.acpi { "acpi=on,rtc=on" } else { "acpi=off" };
        self.option("-machine", format!("microvm,{acpi},isa-serial=on,memory-backend={MEMORY}"));
        let (accelerator, cpu) = match host.accelerator {
            Accelerator::Kvm => ("kvm".to_owned(), "host"),
            // With fast string instructions a kernel copies and clears by `rep movsb`, which is
            // emulated byte by byte; without them it moves words, four times as fast.
            Accelerator::Tcg => (format!("tcg,tb-size={TRANSLATIONS_MIB}"), "max,-erms,-fsrm"),
        };
        self.option("-accel", accelerator);
        self.option("-cpu", cpu);
        self.option("-smp", machine.resources.vcpus().to_string());
    }

    /// Shared, so that what the guest wrote is in the file when the machine is saved. A clone changes pages of its own:
    /// the file is that of all clones.
    fn memory(&mut self, machine: &Machine, fds: &Descriptors) {
        let mib = machine.resources.memory_mib();
        self.option("-m", format!("{mib}M"));
        let backend = match fds.memory.map(inherited) {
            Some(file) => {
                let share = if fds.state.is_some() { "off" } else { "on" };
                format!("memory-backend-file,id={MEMORY},share={share},size={mib}M,mem-path={file}")
            }
            None => format!("memory-backend-ram,id={MEMORY},size={mib}M"),
        };
        self.option("-object", backend);
    }

    fn link(&mut self, link: RawFd) {
        self.option("-chardev", format!("socket,id=link,server=on,wait=off,fd={link}"));
        self.option("-device", "virtio-serial-device");
        let name = osvm_wire::SERIAL_PORT;
        self.option("-device", format!("virtserialport,chardev=link,name={name}"));
    }

    /// Names a descriptor that QEMU uses as it is, without opening the file again.
    fn given(&mut self, fd: RawFd, set: u32) -> String {
        self.option("-add-fd", format!("fd={fd},set={set}"));
        format!("/dev/fdset/{set}")
    }

    fn disk(&mut self, disk: RawFd) {
        let file = self.given(disk, 2);
        let node = format!("driver=file,node-name=file,read-only=on,filename={file}");
        self.option("-blockdev", node);
        self.option("-blockdev", "driver=raw,node-name=root,read-only=on,file=file");
        self.option("-device", "virtio-blk-device,drive=root");
    }
}

/// What every kernel wants of this machine.
///
/// - `reboot=t`: it has no other way to reset, and `-no-reboot` makes a reset its end.
/// - `tsc_early_khz`, `no_timer_check`: a kernel that measures the clock under emulation against
///   other emulated clocks gets it wrong or hangs; told, it also boots sooner.
/// - `tsc=reliable`: nothing could confirm that clock, and a kernel which doubts it never lets its
///   tick sleep: ten times the CPU time when idle.
/// - `clearcpuid=141`: not to use `cmpxchg16b`, after which QEMU 7.2 may have an address for flags
///   (it computes them by what it last noted). An interrupt right then saves virtual 8086 mode
///   and the like, and returning from it is a double fault (seen once, in 100 clones on a busy
///   host). Programs still find the instruction, as some C libraries demand.
/// - `noreplace-smp`: with one processor, not patching out the locks saves a tenth of a boot.
fn kernel_args(machine: &Machine, host: &Host) -> String {
    let mut args = "reboot=t".to_owned();
    if let Some(khz) = host.tsc_khz {
        args.push_str(&format!(" tsc_early_khz={khz} tsc=reliable no_timer_check"));
    }
    if host.accelerator == Accelerator::Tcg {
        args.push_str(" clearcpuid=141");
        if machine.resources.vcpus() == 1 {
            args.push_str(" noreplace-smp");
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use osvm_spec::Resources;

    use super::*;
    use crate::{BootProtocol, Kernel};

    const FDS: Descriptors = Descriptors {
        kernel: 10,
        initramfs: 11,
        disk: None,
        memory: Some(12),
        console: 13,
        link: 14,
        qmp: 15,
        state: None,
    };

    fn line(acpi: bool, accelerator: Accelerator, fds: &Descriptors) -> String {
        let machine = Machine {
            id: "one".to_owned(),
            dir: "/run/one".into(),
            logs: "/run/one".into(),
            kernel: Kernel {
                path: "/k,evil=on".into(),
                boot: BootProtocol { acpi },
                args: String::new(),
            },
            initramfs: "/i,evil=on".into(),
            disk: fds.disk.map(|_| PathBuf::from("/d,evil=on")),
            resources: Resources::new(128, 2).unwrap(),
            cpu_template: osvm_spec::CpuTemplate::None,
            guest_ports: Vec::new(),
        };
        let host = Host { accelerator, tsc_khz: Some(2_300_000) };
        arguments(&machine, &host, fds).join(" ")
    }

    #[test]
    fn a_lean_kernel_gets_a_machine_without_acpi_and_a_distributions_one_with() {
        let lean = line(false, Accelerator::Tcg, &FDS);
        assert!(lean.contains("-machine microvm,acpi=off,"), "{lean}");
        assert!(lean.contains("-accel tcg,tb-size=256 -cpu max,-erms,-fsrm -smp 2"), "{lean}");
        let distribution = line(true, Accelerator::Tcg, &FDS);
        assert!(distribution.contains("-machine microvm,acpi=on,rtc=on,"), "{distribution}");
    }

    #[test]
    fn a_kernel_under_emulation_is_told_the_clock() {
        for acpi in [true, false] {
            let line = line(acpi, Accelerator::Tcg, &FDS);
            let clock = "reboot=t tsc_early_khz=2300000 tsc=reliable no_timer_check";
            assert!(line.contains(clock), "{line}");
        }
    }

    #[test]
    fn a_kernel_under_emulation_alone_does_without_what_is_emulated_wrongly() {
        assert!(line(false, Accelerator::Tcg, &FDS).contains(" clearcpuid=141"));
        assert!(!line(false, Accelerator::Kvm, &FDS).contains("clearcpuid"));
    }

    #[test]
    fn memory_is_one_shared_inherited_file_of_the_guests_size() {
        let line = line(false, Accelerator::Kvm, &FDS);
        let memory = "memory-backend-file,id=mem0,share=on,size=128M,mem-path=/proc/self/fd/12";
        assert!(line.contains(memory) && line.contains("memory-backend=mem0"), "{line}");
        assert!(line.contains("-m 128M") && line.contains("-accel kvm -cpu host"), "{line}");
    }

    #[test]
    fn a_clone_maps_the_same_memory_for_itself_and_begins_with_the_devices_state() {
        let cold = line(false, Accelerator::Tcg, &FDS);
        assert!(!cold.contains("-incoming"), "{cold}");
        let clone = line(false, Accelerator::Tcg, &Descriptors { state: Some(17), ..FDS });
        let alike = clone.replace(" -incoming defer", "").replace("share=off", "share=on");
        assert_eq!(alike, cold);
    }

    #[test]
    fn one_that_was_suspended_has_memory_that_nobody_else_maps() {
        let woken = Descriptors { state: Some(17), memory: None, ..FDS };
        let woken = line(false, Accelerator::Tcg, &woken);
        assert!(woken.contains("-object memory-backend-ram,id=mem0,size=128M"), "{woken}");
        assert!(woken.contains("-incoming defer") && !woken.contains("share="), "{woken}");
    }

    #[test]
    fn the_disk_is_read_only_and_there_only_if_asked_for() {
        let with = line(false, Accelerator::Tcg, &Descriptors { disk: Some(16), ..FDS });
        assert_eq!(with.matches("read-only=on").count(), 2, "{with}");
        assert!(with.contains("virtio-blk-device,drive=root"), "{with}");
        assert!(!line(false, Accelerator::Tcg, &FDS).contains("virtio-blk"), "{with}");
    }

    #[test]
    fn no_path_and_no_network_card_is_on_the_line() {
        let line = line(true, Accelerator::Tcg, &Descriptors { disk: Some(16), ..FDS });
        assert!(!line.contains("evil") && !line.contains("/run/one"), "{line}");
        assert!(line.contains("-nodefaults") && !line.contains("net"), "{line}");
    }
}
