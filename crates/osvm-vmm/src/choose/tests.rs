//! On made-up hosts.

use super::*;

const FLAGS_OF_A_VIRTUAL_HOST: &str = "flags\t\t: fpu vme de pse tsc msr hypervisor svmx vmxnet";

/// A host whose CPU has these flags, and whose device opens or is not there.
fn host(flags: &str, has_device: bool) -> (HostFacts, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let facts = HostFacts { cpuinfo: dir.path().join("cpuinfo"), kvm: dir.path().join("kvm") };
    let cpuinfo = format!("processor\t: 0\nmodel name\t: a vmx svm CPU\n{flags}\n\n");
    std::fs::write(&facts.cpuinfo, cpuinfo).unwrap();
    if has_device {
        std::fs::write(&facts.kvm, "").unwrap();
    }
    (facts, dir)
}

fn both() -> Programs {
    Programs { firecracker: Some("/bin/firecracker".into()), qemu: Some("/bin/qemu".into()) }
}

fn only_qemu() -> Programs {
    Programs { firecracker: None, ..both() }
}

#[test]
fn a_device_without_virtualization_behind_it_is_not_usable() {
    let (host, _dir) = host(FLAGS_OF_A_VIRTUAL_HOST, true);
    assert_eq!(host.kvm(), Kvm::NoHardware);
    let choice = choose(&host, Hypervisor::Auto, &both()).unwrap();
    assert_eq!((choice.vmm, choice.accelerator), (Vmm::Qemu, Accelerator::Tcg));
    assert_eq!(
        choice.reason,
        "firecracker needs usable KVM; the KVM device is there, but the CPU shows neither vmx nor svm"
    );
    assert_eq!(choice.hint, None);
}

#[test]
fn usable_kvm_takes_device_and_flag_together() {
    for flag in ["vmx", "svm"] {
        let (usable, _dir) = host(&format!("flags : fpu {flag} sse"), true);
        assert_eq!(usable.kvm(), Kvm::Usable);
        let (no_device, _dir) = host(&format!("flags : fpu {flag} sse"), false);
        assert_eq!(no_device.kvm(), Kvm::NoDevice);
    }
    let (neither, _dir) = host("flags : fpu", false);
    assert_eq!(neither.kvm(), Kvm::Absent);
    let nothing = HostFacts { cpuinfo: "/nowhere".into(), kvm: "/nowhere".into() };
    assert_eq!(nothing.kvm(), Kvm::Absent);
}

#[test]
fn usable_kvm_runs_firecracker_or_else_qemu_with_it() {
    let choice = decide(Kvm::Usable, Hypervisor::Auto, &both()).unwrap();
    assert_eq!((choice.vmm, choice.accelerator), (Vmm::Firecracker, Accelerator::Kvm));
    assert_eq!(choice.hint, None);
    let choice = decide(Kvm::Usable, Hypervisor::Auto, &only_qemu()).unwrap();
    assert_eq!((choice.vmm, choice.accelerator), (Vmm::Qemu, Accelerator::Kvm));
    assert_eq!(choice.hint, Some(Hint::InstallFirecracker));
}

#[test]
fn a_device_that_this_user_may_not_open_is_worth_a_hint() {
    let choice = decide(Kvm::Denied, Hypervisor::Auto, &both()).unwrap();
    assert_eq!((choice.vmm, choice.accelerator), (Vmm::Qemu, Accelerator::Tcg));
    assert_eq!(choice.hint, Some(Hint::JoinKvmGroup));
}

#[test]
fn a_wish_is_followed_or_refused_but_not_replaced() {
    let qemu = decide(Kvm::Usable, Hypervisor::Qemu, &both()).unwrap();
    assert_eq!((qemu.vmm, qemu.accelerator), (Vmm::Qemu, Accelerator::Kvm));
    let against_the_flags = decide(Kvm::NoHardware, Hypervisor::Firecracker, &both()).unwrap();
    assert_eq!(against_the_flags.vmm, Vmm::Firecracker);
    assert!(against_the_flags.reason.contains("although"), "{}", against_the_flags.reason);
    let denied = decide(Kvm::Denied, Hypervisor::Firecracker, &both());
    let hint = Some(Hint::JoinKvmGroup);
    assert_eq!(denied, Err(ChooseError::NoKvm { kvm: Kvm::Denied, hint }));
}

#[test]
fn without_a_program_the_error_names_the_one_to_install() {
    let error = decide(Kvm::NoHardware, Hypervisor::Auto, &Programs::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "choose a VMM: qemu-system-x86_64 is not installed, and firecracker needs usable KVM \
         (the KVM device is there, but the CPU shows neither vmx nor svm)"
    );
    let error = decide(Kvm::Usable, Hypervisor::Firecracker, &only_qemu()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "choose a VMM: firecracker is not installed, and the configuration asks for it"
    );
}

#[test]
fn programs_of_the_first_folder_come_before_those_of_the_search_path() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str, programs: &[&str]| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        programs.iter().for_each(|program| std::fs::write(folder.join(program), "").unwrap());
        folder
    };
    let own = folder("own", &["firecracker"]);
    let path = folder("path", &["firecracker", "qemu-system-x86_64"]);
    let found = Programs::find(Some(&own), path.as_os_str());
    assert_eq!(found.firecracker, Some(own.join("firecracker")));
    assert_eq!(found.qemu, Some(path.join("qemu-system-x86_64")));
    let found = Programs::find(None, path.as_os_str());
    assert_eq!(found.firecracker, Some(path.join("firecracker")));
}
