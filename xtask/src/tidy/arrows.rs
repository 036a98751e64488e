//! Who may depend on whom. ARCHITECTURE.md draws the same arrows; here they are held.

use super::workspace::Package;

/// Each room, and the rooms that it may depend on, in whatever way (normal, build, dev).
const ARROWS: &[(&str, &[&str])] = &[
    ("osvm-spec", &[]),
    ("osvm-wire", &[]),
    // Its hostile mode lies to the host in true frames; its tests talk to it as osvm does.
    ("osvm-demo", &["osvm-wire", "osvm-mcp"]),
    ("osvm-guest", &["osvm-wire"]),
    ("osvm-vmm", &["osvm-spec", "osvm-wire"]),
    ("osvm-image", &["osvm-spec"]),
    ("osvm-egress", &["osvm-spec", "osvm-wire"]),
    ("osvm-mcp", &["osvm-spec"]),
    ("osvm-fleet", &["osvm-spec", "osvm-wire", "osvm-vmm", "osvm-image", "osvm-egress"]),
    (
        "osvm-daemon",
        &["osvm-spec", "osvm-wire", "osvm-fleet", "osvm-image", "osvm-mcp", "osvm-egress"],
    ),
    ("osvm", &["osvm-spec", "osvm-daemon"]),
    // The lab's kernel comes the same way as the guests'.
    ("xtask", &["osvm-image"]),
];

/// Every arrow between workspace members that the table does not have.
pub(crate) fn faults(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(|package| faults_of(package, packages)).collect()
}

fn faults_of(package: &Package, packages: &[Package]) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{}: a crate that the table of arrows does not know", package.name)];
    };
    let is_member = |name: &str| packages.iter().any(|package| package.name == name);
    let mut wrong: Vec<_> = package
        .dependencies
        .iter()
        .map(|dependency| dependency.name.as_str())
        .filter(|name| is_member(name) && !allowed.contains(name))
        .collect();
    wrong.sort_unstable();
    wrong.dedup();
    wrong.iter().map(|name| format!("{}: may not depend on {name}", package.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::workspace::Workspace;

    /// Made-up output of `cargo metadata`: crates and their dependencies.
    fn workspace(crates: &[(&str, &[(&str, &str)])]) -> Vec<Package> {
        let packages: Vec<_> = crates
            .iter()
            .map(|(name, dependencies)| {
                let dependencies: Vec<_> = dependencies
                    .iter()
                    .map(|(name, kind)| serde_json::json!({"name": name, "kind": kind}))
                    .collect();
                serde_json::json!({
                    "name": name, "manifest_path": format!("/x/{name}/Cargo.toml"),
                    "dependencies": dependencies, "targets": [],
                })
            })
            .collect();
        let metadata = serde_json::json!({ "packages": packages });
        serde_json::from_value::<Workspace>(metadata).unwrap().packages
    }

    #[test]
    fn arrows_of_the_table_and_outside_crates_are_no_fault() {
        let packages = workspace(&[
            ("osvm-wire", &[("serde", "normal")]),
            ("osvm-guest", &[("osvm-wire", "normal"), ("tokio", "normal")]),
        ]);
        assert_eq!(faults(&packages), Vec::<String>::new());
    }

    #[test]
    fn a_new_arrow_is_a_fault_of_whatever_kind_it_is() {
        for kind in ["normal", "build", "dev"] {
            let packages = workspace(&[
                ("osvm-wire", &[]),
                ("osvm-spec", &[]),
                ("osvm-guest", &[("osvm-wire", "normal"), ("osvm-spec", kind)]),
            ]);
            assert_eq!(faults(&packages), ["osvm-guest: may not depend on osvm-spec"]);
        }
    }

    #[test]
    fn nothing_depends_on_the_command() {
        let packages = workspace(&[("osvm", &[]), ("xtask", &[("osvm", "dev")])]);
        assert_eq!(faults(&packages), ["xtask: may not depend on osvm"]);
    }

    #[test]
    fn a_crate_outside_the_table_is_a_fault() {
        let faults = faults(&workspace(&[("osvm-extra", &[])]));
        assert_eq!(faults, ["osvm-extra: a crate that the table of arrows does not know"]);
    }
}
