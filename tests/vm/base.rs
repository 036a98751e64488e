//! Hosts without apt: the distribution's packages come by the apt of a base image, in a VM.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, fixture};
use crate::world::World;

#[test]
fn a_program_runs_on_packages_that_a_base_images_own_apt_has_brought() {
    let Some(world) = World::new() else { return };
    let base = fixture("base");
    symlink(base.with_file_name("repo"), world.www().join("debian")).unwrap();
    let configured =
        |hosts: &str| format!("[builds]\nbase_image = {base:?}\nbase_hosts = [{hosts}]\n");
    let osvm = Osvm::with_config(&configured("")).within(&world);
    let program = osvm.runtime().with_extension("server");
    fs::write(&program, format!("#!/bin/sh\n{MY_SERVER}")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let add = ["mcp", "add", "mine", "--image", program.to_str().unwrap()];
    osvm.run(&add).expect(1).says(&[
        base.to_str().unwrap(),
        "failed to read the lists of packages",
        "api.example.test",
        "base_hosts",
    ]);
    assert!(layers(&osvm).is_empty());

    osvm.write_config(&configured("\"api.example.test\""));
    osvm.ok(&add);
    let said = osvm.call("mine", "my-tool", &json!({ "x": 1 }));
    assert_eq!(said, "{\"x\":1}\n");
    // Its name is not the one of the host's own, of which there is none.
    let layers = layers(&osvm);
    assert!(layers.iter().all(|name| name.starts_with("base-runtime-")), "{layers:?}");
    assert_eq!(layers.len(), 1);
    fs::remove_file(program).unwrap();
}

/// Of packages of a distribution.
fn layers(osvm: &Osvm) -> Vec<String> {
    let entries = fs::read_dir(osvm.home().join("images/layers")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
