//! Hosts that a guest may reach, in a world of the test's own: by name, on the granted port, and no other.

use crate::osvm::{Ended, Osvm};
use crate::rootfs::{MY_SERVER, Rootfs};
use crate::world::World;

/// A VM with a shell, in a world.
struct Scene {
    osvm: Osvm,
    _rootfs: Rootfs,
    world: World,
}

impl Scene {
    fn new(flags: &[&str]) -> Option<Self> {
        let world = World::new()?;
        let rootfs = Rootfs::with_server(MY_SERVER);
        let osvm = Osvm::new().within(&world);
        let launch = ["mcp", "microvm", "launch", "shell", "--command", "/bin/server", "--image"];
        osvm.ok(&[&launch[..], &[rootfs.text()], flags].concat());
        Some(Self { osvm, _rootfs: rootfs, world })
    }

    /// A command in the guest.
    fn sh(&self, script: &str) -> Ended {
        self.osvm.run(&[
            "mcp",
            "microvm",
            "exec",
            "shell",
            "--",
            "/bin/busybox",
            "sh",
            "-c",
            script,
        ])
    }

    fn get(&self, url: &str) -> Ended {
        self.sh(&format!("/bin/busybox wget -T 20 -q -O - {url}"))
    }

    fn log(&self) -> String {
        self.osvm.ok(&["mcp", "microvm", "logs", "shell", "--source", "egress"])
    }
}

#[test]
fn a_granted_host_is_reached_by_a_program_that_knows_of_nothing_and_no_other_is() {
    let Some(scene) = Scene::new(&["--allow", "api.example.test"]) else { return };
    assert_eq!(
        scene.get("http://api.example.test/hello").expect(0).stdout,
        "hello from the world\n"
    );
    assert_ne!(scene.get("http://other.example.test/hello").code, Some(0));
    assert_ne!(scene.get("http://api.example.test:8080/hello").code, Some(0));
    assert_ne!(scene.get("http://203.0.113.7/hello").code, Some(0));
    let log = scene.log();
    assert!(log.contains("allowed api.example.test:80"), "{log}");
    assert!(
        log.contains("other.example.test") && log.contains("--allow other.example.test"),
        "{log}"
    );
    assert!(log.contains("--allow api.example.test:8080"), "{log}");
    drop(scene.world);
}
