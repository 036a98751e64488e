//! `osvm mcp export --restore`: the client starts its servers itself again.

use super::*;

#[test]
fn a_file_that_is_as_osvm_wrote_it_becomes_what_it_was() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["import", "cursor", "github", "--rewrite"]);
    scene.ok(&["import", "cursor", "plain", "--rewrite"]);
    let after = scene.text();
    let dry = scene.ok(&["export", "--restore", "--dry-run"]);
    assert!(
        dry.contains("+      \"command\": \"docker\", // not any more\n") && !dry.contains(TOKEN),
        "{dry}"
    );
    assert_eq!(scene.text(), after);
    let told = scene.ok(&["export", "--restore", "cursor"]);
    assert_eq!(told, format!("restored {}\n", scene.file.display()));
    assert_eq!(scene.text(), before);
    let left = fs::read_dir(scene.osvm.home().join("backups")).unwrap().count();
    assert_eq!(left, 0, "the originals hold secrets");
    assert_eq!(scene.ok(&["export", "--restore"]), "osvm wrote nothing that could be put back\n");
}

#[test]
fn what_the_user_changed_since_stays() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["import", "cursor", "--rewrite"]);
    let change = |text: String| {
        text.replace("[1,2 , 3]", "[4]").replace("[\"search\"]", "[\"search\", \"issues\"]")
    };
    fs::write(&scene.file, change(scene.text())).unwrap();
    scene.ok(&["export", "--restore", "cursor"]);
    let parse = |text: &str| {
        let plain: String =
            text.lines().map(|line| line.split(" // ").next().unwrap().to_owned() + "\n").collect();
        serde_json::from_str::<Value>(&plain.replace(",\n    }", "\n    }").replace("// mine", ""))
            .unwrap()
    };
    let (now, then) = (parse(&scene.text()), parse(&change(before)));
    assert_eq!(now, then);
    assert!(scene.text().contains("// not any more"));
}

#[test]
fn an_entry_that_is_somebody_elses_by_now_is_left_and_told() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["import", "cursor", "--rewrite"]);
    let text =
        scene.text().replace("[\"mcp\", \"run\", \"plain\"]", "[\"mcp\", \"run\", \"other\"]");
    fs::write(&scene.file, &text).unwrap();
    let ran = scene.run(&["export", "--restore", "cursor"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("plain was changed since and is left as it is"), "{}", ran.stderr);
    assert!(scene.text().contains("[\"mcp\", \"run\", \"other\"]") && scene.text().contains(TOKEN));
    let original = scene.osvm.home().join("backups/0001.original");
    assert_eq!(fs::read_to_string(original).unwrap(), before);
}

#[test]
fn a_record_of_another_version_or_a_changed_original_is_refused() {
    let scene = Scene::usual();
    scene.ok(&["import", "cursor", "--rewrite"]);
    let after = scene.text();
    let backups = scene.osvm.home().join("backups");
    let record = fs::read_to_string(backups.join("0001.json")).unwrap();
    fs::write(backups.join("0001.json"), record.replace("\"version\": 1", "\"version\": 9"))
        .unwrap();
    let ran = scene.run(&["export", "--restore"]);
    assert!(ran.code == 1 && ran.stderr.contains("its version is 9, known is 1"), "{}", ran.stderr);
    fs::write(backups.join("0001.json"), record).unwrap();
    fs::write(backups.join("0001.original"), "{}").unwrap();
    let ran = scene.run(&["export", "--restore"]);
    assert!(ran.code == 1 && ran.stderr.contains("0001.original was changed"), "{}", ran.stderr);
    assert_eq!(scene.text(), after);
}
