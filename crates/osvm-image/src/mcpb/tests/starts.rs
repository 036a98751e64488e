//! What a manifest and a user's values start.

use std::collections::BTreeMap;

use super::*;

const GUEST: Guest<'_> = Guest { bundle: "/opt/bundle", home: "/home/mcp" };

type Given = BTreeMap<String, Vec<String>>;

fn given(pairs: &[(&str, &[&str])]) -> Given {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    pairs.iter().map(|(key, values)| ((*key).to_owned(), owned(values))).collect()
}

/// A manifest with this command and these settings.
fn manifest(mcp_config: &str, user_config: &str) -> Manifest {
    let text = format!(
        r#"{{"manifest_version":"0.4","name":"n","version":"1","other":{{}},"server":{{"type":"node",
        "entry_point":"s","mcp_config":{mcp_config}}},"user_config":{user_config}}}"#
    );
    Manifest::parse(text.as_bytes()).unwrap()
}

fn setting(kind: &str, rest: &str) -> String {
    format!(r#"{{"k":{{"type":"{kind}","title":"K","description":"d"{rest}}}}}"#)
}

/// One setting `k` in one argument.
fn with(kind: &str, rest: &str) -> Manifest {
    manifest(r#"{"command":"c","args":["${user_config.k}"]}"#, &setting(kind, rest))
}

fn start(manifest: &Manifest, values: &[(&str, &[&str])]) -> Result<Start, StartError> {
    manifest.start(&GUEST, &given(values))
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes())
}

#[test]
fn the_packed_bundle_starts_with_what_its_user_gave() {
    let bundle = open(PACKED).unwrap();
    let manifest = bundle.manifest();
    assert_eq!((manifest.kind, manifest.version), (Kind::Node, Version::V0_3));
    assert_eq!(manifest.compatibility.runtimes["node"], ">=18");
    assert_eq!(manifest.settings["folders"].proposal(), ["~/Documents"]);
    let start = start(manifest, &[("folders", &["/a", "/b"])]).unwrap();
    let command = ["node", "/opt/bundle/server/index.js", "--limit=100", "/a", "/b"];
    assert_eq!(start.command, command);
    assert_eq!(start.working_dir, "/opt/bundle");
    assert_eq!(start.env, BTreeMap::from([("DATA".into(), "/opt/bundle/data".into())]));
    let secret = Secret { variable: "TOKEN".into(), key: "token".into(), required: false };
    assert_eq!(start.secrets, [secret]);
    assert_eq!(start.mounts, ["/a", "/b"]);
}

#[test]
fn a_folder_is_lent_only_when_the_user_said_so() {
    let bundle = open(PACKED).unwrap();
    let missing = start(bundle.manifest(), &[]).unwrap_err();
    assert_eq!(missing.to_string(), "start bundle's server: it needs setting folders (Folders)");
    let optional = with("directory", r#","default":"${HOME}""#);
    let start = start(&optional, &[]).unwrap();
    assert_eq!((start.command.len(), start.mounts.len()), (1, 0));
}

#[test]
fn every_version_is_read_and_no_other() {
    for (key, version) in [
        ("manifest_version", "0.1"),
        ("dxt_version", "0.1"),
        ("dxt_version", "0.2"),
        ("manifest_version", "0.4"),
    ] {
        let text =
            MANIFEST.replace(r#""manifest_version":"0.3""#, &format!(r#""{key}":"{version}""#));
        assert_eq!(parse(&text).unwrap().version.as_str(), version);
    }
    let later = parse(r#"{"manifest_version":"0.5","server":[]}"#).unwrap_err().to_string();
    assert_eq!(
        later,
        r#"read manifest.json of bundle: its version is "0.5", known are 0.1 to 0.4"#
    );
    assert!(matches!(parse("{}"), Err(ManifestError::NoVersion)));
    assert!(matches!(parse(r#"{"manifest_version":1}"#), Err(ManifestError::Json(_))));
    let two = MANIFEST.replace('{', r#"{"dxt_version":"0.1","#);
    assert!(parse(&two).is_err());
}

#[test]
fn uv_needs_no_command_and_the_version_that_brought_it() {
    let text = r#"{"manifest_version":"V","name":"n","version":"1","server":{"type":"uv","entry_point":"src/s.py"}}"#;
    let start = start(&parse(&text.replace('V', "0.4")).unwrap(), &[]).unwrap();
    assert_eq!(start.command, ["uv", "run", "--directory", "/opt/bundle", "src/s.py"]);
    assert!(matches!(parse(&text.replace('V', "0.3")), Err(ManifestError::TooNew { .. })));
    let node = text.replace('V', "0.4").replace("uv", "node");
    assert!(matches!(parse(&node), Err(ManifestError::NoCommand)));
}

#[test]
fn what_is_said_for_linux_comes_before_what_is_said_for_all() {
    let manifest = manifest(
        r#"{"command":"c","args":["a"],"env":{"A":"1"},"platform_overrides":
            {"linux":{"args":[],"env":{"B":"2"}},"win32":{"command":"c.exe"}}}"#,
        "{}",
    );
    let start = start(&manifest, &[]).unwrap();
    assert_eq!(start.command, ["c"]);
    assert_eq!(start.env, BTreeMap::from([("B".into(), "2".into())]));
}

#[test]
fn a_bundle_for_other_systems_is_refused() {
    let text = MANIFEST
        .replace(r#""name":"n""#, r#""name":"n","compatibility":{"platforms":["darwin","win32"]}"#);
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(error, r#"use bundle "n": it is for darwin, win32, not for linux"#);
}

#[test]
fn variables_are_replaced_once_and_others_are_left_alone() {
    let manifest = manifest(
        r#"{"command":"${__dirname}/s","args":["${DESKTOP}${/}x${pathSeparator}","${PATH} ${","<${user_config.k}>"]}"#,
        &setting("string", ""),
    );
    let with_value = start(&manifest, &[("k", &["${HOME} ${user_config.k}"])]).unwrap();
    let command =
        ["/opt/bundle/s", "/home/mcp/Desktop/x/", "${PATH} ${", "<${HOME} ${user_config.k}>"];
    assert_eq!(with_value.command, command);
    assert_eq!(start(&manifest, &[]).unwrap().command[3], "<>");
}

#[test]
fn values_are_held_to_their_setting() {
    let wrong = |manifest: &Manifest, values: &[&str]| match start(manifest, &[("k", values)]) {
        Err(StartError::Setting(error)) => error,
        other => panic!("{other:?}"),
    };
    let number = with("number", r#","min":1,"max":10.5,"default":3"#);
    assert_eq!(start(&number, &[]).unwrap().command, ["c", "3"]);
    assert_eq!(start(&number, &[("k", &["10.5"])]).unwrap().command, ["c", "10.5"]);
    assert!(matches!(wrong(&number, &["x"]), SettingError::Type { .. }));
    assert!(matches!(wrong(&number, &["NaN"]), SettingError::Type { .. }));
    let range = wrong(&number, &["11"]).to_string();
    assert_eq!(range, "setting k of 11 is outside 1 to 10.5");
    assert!(matches!(wrong(&number, &["1", "2"]), SettingError::Several { count: 2, .. }));
    let flag = with("boolean", r#","default":false"#);
    assert_eq!(start(&flag, &[]).unwrap().command, ["c", "false"]);
    assert!(matches!(wrong(&flag, &["yes"]), SettingError::Type { .. }));
    assert!(matches!(wrong(&with("file", ""), &[""]), SettingError::Type { .. }));
    assert!(matches!(wrong(&with("string", ""), &["a\0b"]), SettingError::ZeroByte(_)));
    let required = with("string", r#","required":true"#);
    assert!(matches!(start(&required, &[("k", &[""])]), Err(StartError::Missing { .. })));
    assert!(matches!(start(&number, &[("x", &["1"])]), Err(StartError::UnknownSetting { .. })));
}

#[test]
fn several_values_are_several_arguments_and_nothing_else() {
    let several = with("string", r#","multiple":true,"default":["a","b c"]"#);
    assert_eq!(start(&several, &[]).unwrap().command, ["c", "a", "b c"]);
    let text = manifest(
        r#"{"command":"c","args":["-x=${user_config.k}"]}"#,
        &setting("string", r#","multiple":true"#),
    );
    assert_eq!(start(&text, &[("k", &["a"])]).unwrap().command, ["c", "-x=a"]);
    assert!(matches!(start(&text, &[("k", &["a", "b"])]), Err(StartError::Several { .. })));
}

#[test]
fn a_file_has_its_path_in_the_guest_too() {
    let start = start(&with("file", ""), &[("k", &["/data/my.db"])]).unwrap();
    assert_eq!(start.command, ["c", "/data/my.db"]);
    assert_eq!(start.mounts, ["/data/my.db"]);
    let odd = super::starts::start(&with("file", ""), &[("k", &["/a:b"])]);
    assert_eq!(odd, Err(SettingError::Colon("k".into()).into()));
}

#[test]
fn what_is_missing_is_told_and_secrets_are_asked_for_elsewhere() {
    let missing = |rest: &str, values: &[(&str, &[&str])]| {
        let manifest = with("string", rest);
        manifest.missing(&given(values)).map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(missing(r#","required":true"#, &[]), ["k"]);
    assert_eq!(missing(r#","required":true"#, &[("k", &[""])]), ["k"]);
    for rest in ["", r#","required":true,"default":"x""#, r#","required":true,"sensitive":true"#] {
        assert!(missing(rest, &[]).is_empty(), "{rest}");
    }
}

#[test]
fn what_is_run_is_told_by_its_path_in_the_bundle() {
    let programs = |command: &str| {
        let [program, entry] = manifest(&format!(r#"{{"command":"{command}"}}"#), "{}").programs();
        assert_eq!(entry.to_str(), Some("s"));
        program.into_os_string().into_string().unwrap()
    };
    assert_eq!(programs("${__dirname}${/}server/run"), "server/run");
    assert_eq!(programs("./server/run"), "server/run");
    assert_eq!(programs("node"), "node");
}

#[test]
fn a_secret_is_a_whole_variable_and_nothing_else() {
    let secret = setting("string", r#","sensitive":true,"required":true,"default":"x""#);
    let manifest = |config: &str| super::starts::manifest(config, &secret);
    let whole = manifest(r#"{"command":"c","env":{"T":"${user_config.k}"}}"#);
    let started = start(&whole, &[]).unwrap();
    assert_eq!((started.secrets[0].variable.as_str(), started.env.len()), ("T", 0));
    let value = start(&whole, &[("k", &["hunter2"])]).unwrap_err();
    assert!(!value.to_string().contains("hunter2"), "{value}");
    let part = manifest(r#"{"command":"c","env":{"T":"Bearer ${user_config.k}"}}"#);
    assert!(matches!(start(&part, &[]), Err(StartError::SecretPart { .. })));
    for config in [
        r#"{"command":"c","args":["${user_config.k}"]}"#,
        r#"{"command":"c","args":["-k=${user_config.k}"]}"#,
    ] {
        let error = start(&manifest(config), &[]).unwrap_err();
        assert!(matches!(error, StartError::Exposed { .. }), "{error}");
    }
    assert!(matches!(
        start(&manifest(r#"{"command":"${user_config.k}"}"#), &[]),
        Err(StartError::Exposed { .. })
    ));
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused() {
    let with_settings = |settings: &str| {
        parse(
            &MANIFEST.replace(r#""name":"n""#, &format!(r#""name":"n","user_config":{settings}"#)),
        )
    };
    for rest in [
        setting("number", r#","default":"x""#),
        setting("number", r#","min":5,"default":1"#),
        setting("directory", r#","sensitive":true"#),
        setting("string", r#","sensitive":true,"multiple":true"#),
        setting("string", "").replace(r#""k""#, r#""../k""#),
    ] {
        assert!(matches!(with_settings(&rest), Err(ManifestError::Setting { .. })), "{rest}");
    }
    assert!(matches!(with_settings(&setting("colour", "")), Err(ManifestError::Json(_))));
    let undeclared = manifest(r#"{"command":"c","args":["${user_config.x}"]}"#, "{}");
    assert!(matches!(start(&undeclared, &[]), Err(StartError::Undeclared { .. })));
    let variable = manifest(r#"{"command":"c","env":{"A=B":"x"}}"#, "{}");
    assert!(matches!(start(&variable, &[]), Err(StartError::Variable(_))));
    let zero = manifest(r#"{"command":"c","args":["a\u0000b"]}"#, "{}");
    assert!(matches!(start(&zero, &[]), Err(StartError::ZeroByte(_))));
    assert!(matches!(start(&manifest(r#"{"command":""}"#, "{}"), &[]), Err(StartError::NoCommand)));
}

proptest::proptest! {
    #[test]
    fn no_manifest_makes_it_panic(args in "[${}_a-z./]{0,24}", text in "[ -~]{0,40}") {
        let _ = parse(&text);
        let config = serde_json::json!({ "command": "c", "args": [args] }).to_string();
        let _ = start(&manifest(&config, &setting("string", "")), &[("k", &["v"])]);
    }
}
