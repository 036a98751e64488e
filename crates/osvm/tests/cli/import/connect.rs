//! `osvm mcp connect`: a registered server in a client's file.

use super::*;

fn home(osvm: &Osvm, folder: &str) -> PathBuf {
    let path = osvm.folder().join(folder);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_server_is_added_and_taken_away_again() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["add", "one"]);
    scene.ok(&["add", "two"]);
    let dry = scene.ok(&["connect", "cursor", "one", "--dry-run"]);
    assert!(dry.contains("+    \"one\": {\n") && scene.text() == before, "{dry}");
    let told = scene.ok(&["connect", "cursor", "one", "two"]);
    assert_eq!(told, format!("added one, two to {}\n", scene.file.display()));
    assert!(
        scene.text().contains("\"args\": [\"mcp\", \"run\", \"two\"]\n    }\n  },\n"),
        "{}",
        scene.text()
    );
    let again = scene.ok(&["connect", "cursor", "one"]);
    assert!(again.contains("has all of them already"), "{again}");
    scene.ok(&["export", "--restore"]);
    assert_eq!(scene.text(), before);
}

#[test]
fn a_file_that_lacks_is_made_where_the_client_is_installed() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "one"]);
    let none = osvm.run(&["mcp", "connect", "vscode", "one"]);
    assert!(none.code == 1 && none.stderr.contains("there is no folder"), "{}", none.stderr);
    for (client, folder, file, key) in [
        ("vscode", ".config/Code", ".config/Code/User/mcp.json", "/servers/one/type"),
        ("zed", ".config/zed", ".config/zed/settings.json", "/context_servers/one/source"),
        ("claude-code", ".claude", ".claude.json", "/mcpServers/one/command"),
        (
            "windsurf",
            ".codeium/windsurf",
            ".codeium/windsurf/mcp_config.json",
            "/mcpServers/one/args",
        ),
    ] {
        home(&osvm, folder);
        osvm.ok(&["mcp", "connect", client, "one"]);
        let file = osvm.folder().join(file);
        let written: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert!(written.pointer(key).is_some(), "{client}: {written}");
        assert_eq!(mode(&file), 0o600);
        osvm.ok(&["mcp", "export", "--restore", client]);
        assert!(!file.exists(), "{client}");
    }
}

#[test]
fn another_server_of_that_name_is_refused_and_an_unknown_one_named() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["add", "one"]);
    scene.ok(&["add", "github"]);
    let taken = scene.run(&["connect", "cursor", "one", "github"]);
    assert!(
        taken.code == 1 && taken.stderr.contains("has another server called github"),
        "{}",
        taken.stderr
    );
    let unknown = scene.run(&["connect", "cursor", "on"]);
    assert_eq!((unknown.code, scene.text()), (3, before));
}
