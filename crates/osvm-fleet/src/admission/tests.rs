//! Hosts made of a few files, and VMs that only their figures tell of.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use futures::FutureExt;
use tempfile::TempDir;

use super::Origin::{Disk, New, Spare};
use super::*;

const TOTAL: u64 = 8 << 30;
/// What is kept of that for the host.
const LEFT: u64 = TOTAL / 16;

struct World {
    proc: TempDir,
}

impl World {
    fn with(available: u64) -> Self {
        let world = Self { proc: tempfile::tempdir().unwrap() };
        world.has(available);
        world
    }

    fn has(&self, available: u64) {
        let text =
            format!("MemTotal: {} kB\nMemAvailable: {} kB\n", TOTAL / 1024, available / 1024);
        fs::write(self.proc.path().join("meminfo"), text).unwrap();
    }

    fn admission(&self, places: usize) -> Admission {
        Admission::new(self.proc.path().to_owned(), places)
    }

    /// A process that holds this much.
    fn process(&self, pid: u32, bytes: u64) -> Option<u32> {
        let folder = self.proc.path().join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let kib = bytes / 1024;
        let text = format!(
            "Rss: {kib} kB\nPss: {kib} kB\nShared_Clean: 0 kB\nShared_Dirty: 0 kB\n\
             Private_Clean: 0 kB\nPrivate_Dirty: {kib} kB\n"
        );
        fs::write(folder.join("smaps_rollup"), text).unwrap();
        Some(pid)
    }
}

fn cold() -> Plan {
    Plan::sample(TemplateLevel::None)
}

fn clone() -> Plan {
    Plan::sample(TemplateLevel::Booted)
}

#[test]
fn a_vm_larger_than_the_host_is_refused_with_both_numbers() {
    let world = World::with(TOTAL);
    let large = Plan { resources: Resources::new(9000, 1).unwrap(), ..cold() };
    let refused = world.admission(1).admit(&large, New).unwrap_err();
    assert_eq!(refused.message, "memory of 9000 MiB is more than this host's 8192 MiB");
}

#[tokio::test]
async fn a_vm_that_does_not_fit_is_refused_with_what_there_is_and_what_it_needs() {
    let world = World::with(LEFT + COLD - 1024);
    let admission = world.admission(1);
    let refused = admission.admit(&cold(), New).unwrap_err();
    assert_eq!(
        refused.message,
        "this host can't hold one more VM like this, which needs about 160 MiB: 159 MiB of memory are available \
         beyond the 512 MiB that are kept for the host"
    );
    assert_eq!(refused.hints.len(), 3, "{:?}", refused.hints);
    assert_eq!(admission.enter(&cold(), New).await.err(), Some(refused));
    // A clone has no use for the last hint.
    assert_eq!(admission.admit(&clone(), New).unwrap_err().hints.len(), 2);
}

#[tokio::test]
async fn what_starts_has_its_memory_set_aside_and_who_does_not_fit_waits_for_it() {
    let world = World::with(LEFT + COLD + COLD / 2);
    let admission = world.admission(8);
    let first = admission.enter(&cold(), New).await.unwrap();
    let second = cold();
    let mut second = Box::pin(admission.enter(&second, New));
    assert!(
        second.as_mut().now_or_never().is_none(),
        "nothing shows yet of what the first will take"
    );
    admission.admit(&cold(), New).unwrap();
    // It takes a quarter of what was set aside for it.
    world.has(LEFT + COLD + COLD / 4);
    first.ready(world.process(7, COLD / 4), None).await;
    drop(second.await.unwrap());
}

#[tokio::test]
async fn who_waited_is_refused_once_nothing_starts_and_it_does_not_fit_still() {
    let world = World::with(LEFT + COLD);
    let admission = world.admission(8);
    let first = admission.enter(&cold(), New).await.unwrap();
    let (second, third) = (cold(), clone());
    let mut second = Box::pin(admission.enter(&second, New));
    assert!(second.as_mut().now_or_never().is_none());
    let mut third = Box::pin(admission.enter(&third, Spare(0)));
    assert!(third.as_mut().now_or_never().is_none(), "nobody is passed by");
    world.has(LEFT + CLONE);
    drop(first);
    let refused = second.await.err().unwrap();
    assert!(refused.message.contains("64 MiB of memory are available"), "{refused}");
    third.await.unwrap();
}

#[tokio::test]
async fn who_has_waited_as_long_as_a_vm_may_take_to_start_is_told_of_those_that_start() {
    let world = World::with(LEFT + COLD + CLONE);
    let admission = world.admission(8);
    let _first = admission.enter(&cold(), New).await.unwrap();
    let hasty = Plan { start_timeout: Duration::ZERO, ..cold() };
    let refused = admission.enter(&hasty, New).await.err().unwrap();
    assert!(refused.message.ends_with("and VMs that are starting (1) need 160 MiB"), "{refused}");
    let clone = admission.enter(&clone(), Spare(0)).await;
    drop(clone.expect("its turn has come, and there is room for it"));
}

#[tokio::test]
async fn a_vm_needs_what_the_last_one_like_it_came_to() {
    let world = World::with(TOTAL);
    let admission = world.admission(8);
    admission.enter(&cold(), New).await.unwrap().ready(world.process(7, 300 * MIB), None).await;
    world.has(LEFT + 299 * MIB);
    let refused = admission.admit(&cold(), New).unwrap_err();
    assert!(refused.message.contains("needs about 300 MiB"), "{refused}");
    // Another command makes another VM.
    let other = Plan { command: vec!["/bin/other".to_owned()], ..cold() };
    admission.admit(&other, New).unwrap();
    // Of one that failed nothing is learnt.
    drop(admission.enter(&other, New).await.unwrap());
    admission.admit(&other, New).unwrap();
}

#[tokio::test]
async fn a_clone_needs_what_one_that_boots_does_for_as_long_as_its_template_is_not_in_memory() {
    let world = World::with(LEFT + COLD - MIB);
    let (admission, key) = (world.admission(8), Key::new("a"));
    let needs = |mib: u64| {
        world.has(LEFT + mib * MIB - 1024);
        let refused = admission.admit(&clone(), New).unwrap_err();
        assert!(refused.message.contains(&format!("needs about {mib} MiB")), "{refused}");
        world.has(TOTAL);
    };
    needs(160);
    assert_eq!(admission.template_of(&clone()), None);
    let first = admission.enter(&clone(), New).await.unwrap();
    first.ready(world.process(7, 20 * MIB), Some(key.clone())).await;
    needs(20);
    assert_eq!(admission.template_of(&clone()), Some(key.clone()));
    admission.forget_clones_of(&[Key::new("b").name()]);
    needs(20);
    admission.forget_clones_of(&[key.name()]);
    needs(160);
    // Which is known, too, once one has booted.
    admission.enter(&cold(), New).await.unwrap().ready(world.process(7, 300 * MIB), None).await;
    admission.forget_clones_of(&[key.name()]);
    needs(300);
}

#[tokio::test]
async fn one_that_is_woken_needs_what_is_on_disk_of_it() {
    let world = World::with(TOTAL);
    let admission = world.admission(8);
    admission.enter(&clone(), New).await.unwrap().ready(world.process(7, 100 * MIB), None).await;
    let needs = |on_disk: u64, mib: u64| {
        world.has(LEFT + mib * MIB - 1024);
        let refused = admission.admit(&clone(), Disk(on_disk * MIB)).unwrap_err();
        assert!(refused.message.contains(&format!("needs about {mib} MiB")), "{refused}");
        world.has(LEFT + mib * MIB);
        admission.admit(&clone(), Disk(on_disk * MIB)).unwrap();
    };
    needs(1500, 1564);
    // What it has not changed comes from its template again.
    needs(1, 100);
}

#[tokio::test]
async fn one_that_was_restored_before_needs_what_it_has_not_yet() {
    let world = World::with(LEFT + 45 * MIB);
    let admission = world.admission(8);
    assert!(admission.is_short(&clone(), New) && admission.is_short(&clone(), Spare(0)));
    let spare = admission.enter(&clone(), Spare(20 * MIB)).await.unwrap();
    spare.ready(world.process(7, 65 * MIB), None).await;
    admission.admit(&clone(), Spare(20 * MIB)).unwrap();
    assert!(admission.is_short(&clone(), Spare(19 * MIB)));
    world.has(LEFT);
    admission.admit(&clone(), Spare(66 * MIB)).unwrap();
}

#[tokio::test]
async fn a_hundred_clones_of_20_mib_each_come_in_on_a_host_of_8_gib() {
    const OWN: u64 = 20 * MIB;
    // Not a page more than they take, and what an unknown one is taken to need.
    let available = Cell::new(LEFT + 100 * OWN + COLD);
    let world = World::with(available.get());
    let (admission, plan) = (world.admission(8), clone());
    let launch = async |number| {
        let place = admission.enter(&plan, New).await?;
        tokio::task::yield_now().await;
        available.set(available.get() - OWN);
        world.has(available.get());
        place.ready(world.process(number, OWN), None).await;
        Ok::<_, Cause>(())
    };
    let launches = futures::future::join_all((1..=100).map(launch)).await;
    assert_eq!(launches, vec![Ok(()); 100]);
    // What is left then is refused by its numbers.
    world.has(LEFT + OWN - MIB);
    let refused = admission.enter(&plan, New).await.err().unwrap();
    assert!(
        refused.message.contains("needs about 20 MiB: 19 MiB of memory are available"),
        "{refused}"
    );
}

#[tokio::test]
async fn no_more_than_a_few_start_at_the_same_time() {
    let world = World::with(TOTAL);
    let admission = world.admission(2);
    let plan = clone();
    let _first = admission.enter(&plan, New).await.unwrap();
    let second = admission.enter(&plan, New).await.unwrap();
    let mut third = Box::pin(admission.enter(&plan, New));
    assert!(third.as_mut().now_or_never().is_none());
    drop(second);
    third.await.unwrap();
}
