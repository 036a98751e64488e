//! The whole file, right and wrong, and text nobody would write.

use proptest::prelude::*;

use super::*;
use crate::edit;

const DESIGN: &str = r#"
[microvm]
enabled = true
default_memory_mb = 256
default_vcpus = 1
rootfs_path = "/home/user/.osvm/rootfs/mcp-server.cpio"
kernel_path = "/home/user/.osvm/kernel/vmlinux.bin"

[[servers]]
id = "my-secure-server"
name = "My Secure MCP Server"
isolation_mode = "microvm"            # microvm | ephemeral (a VM per call) | none
microvm_config = { memory_mb = 512, vcpus = 2 }

[[servers.tools]]
name = "dangerous-tool"
isolation = "microvm"
"#;

fn fault(text: &str) -> String {
    Config::parse(text, "f.toml").unwrap_err().to_string()
}

fn server(keys: &str) -> Entry {
    Config::parse(&format!("[[servers]]\nid = \"s\"\n{keys}"), "f").unwrap().servers.remove(0)
}

fn server_fault(keys: &str) -> String {
    fault(&format!("[[servers]]\nid = \"s\"\n{keys}"))
}

#[test]
fn the_documented_file_is_read() {
    let config = Config::parse(DESIGN, "f").unwrap();
    assert_eq!(config.microvm.kernel_path.unwrap(), "/home/user/.osvm/kernel/vmlinux.bin");
    let server = &config.servers[0];
    assert_eq!(server.name.as_deref(), Some("My Secure MCP Server"));
    assert_eq!(server.microvm_config, Size { memory_mb: Some(512), vcpus: Some(2) });
    assert_eq!(server.tools[0].isolation, Isolation::Microvm);
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::parse("", "f").unwrap(), Config::default());
    assert_eq!(Config::default().microvm.idle_stop, Some(Duration::from_secs(900)));
}

#[test]
fn every_key_is_read() {
    let text = "[microvm]\nhypervisor = \"qemu\"\ncpu_template = \"t2a\"\nidle_stop_minutes = 0\n\
                idle_suspend_minutes = 7\nsuspended_stop_minutes = 8\n\
                max_parallel_launches = 2\nlaunch_timeout_seconds = 5\ncall_timeout_seconds = 6";
    let microvm = Config::parse(text, "f").unwrap().microvm;
    assert_eq!((microvm.hypervisor, microvm.idle_stop), (Hypervisor::Qemu, None));
    let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
    assert_eq!((microvm.idle_suspend, microvm.suspended_stop), (minutes(7), minutes(8)));
    assert_eq!(microvm.cpu_template, CpuTemplate::T2A);
    assert_eq!(microvm.max_parallel_launches, Some(2));
    assert_eq!(microvm.launch_timeout + microvm.call_timeout, Duration::from_secs(11));
    let server = server(
        "url = \"stdio\"\nenabled = false\nimage = \"~/i\"\nkernel = \"k\"\nuser = \"1000\"\n\
         working_dir = \"/srv\"\nisolation_mode = \"ephemeral\"\n[servers.env]\nA = \"b\"",
    );
    assert!(!server.enabled && server.env["A"] == "b");
    assert_eq!(server.image, Some(ImageRef::Path("~/i".into())), "paths stay as written");
    assert_eq!(
        (server.user.as_deref(), server.working_dir.as_deref()),
        (Some("1000"), Some("/srv"))
    );
}

#[test]
fn a_server_that_waits_in_templates_is_chosen_by_name() {
    assert_eq!(server("template = \"started\"").template, Some(TemplateLevel::Started));
    let all = fault("[microvm]\ntemplate = \"started\"");
    let place = "f.toml:2:12: template \"started\" is chosen server by server, under [[servers]]";
    assert_eq!(all, place);
}

#[test]
fn what_images_are_made_on_is_read() {
    let text = "[builds]\nbase_image = \"debian:12-slim\"\nbase_hosts = [\"mirror.lan:8080\"]";
    let builds = Config::parse(text, "f").unwrap().builds;
    assert_eq!(builds.base_image.unwrap().to_string(), "docker.io/library/debian:12-slim");
    assert_eq!(builds.base_hosts.unwrap(), ["mirror.lan:8080".parse().unwrap()]);
    let wrong = fault("[builds]\nbase_image = \"npm:cowsay\"");
    assert_eq!(
        wrong,
        "f:2:14: base_image npm:cowsay is a package, and no image that has apt"
            .replacen('f', "f.toml", 1)
    );
    assert!(fault("[builds]\nbase_imgae = \"x\"").contains("did you mean \"base_image\"?"));
}

#[test]
fn a_command_is_words_or_a_line() {
    assert_eq!(server("command = [\"a b\", \"c\"]").command, ["a b", "c"]);
    assert_eq!(server("command = \"'a b' c\"").command, ["a b", "c"]);
    assert_eq!(server_fault("command = []"), "f.toml:3:11: command is empty");
    let quote = "f.toml:3:11: command has a quote that is never closed or a backslash at its end";
    assert_eq!(server_fault("command = \"a 'b\""), quote);
    let types = "f.toml:3:11: command is an array, it must be a string or an array of strings";
    assert_eq!(server_fault("command = [1]"), types);
}

#[test]
fn tables_may_be_written_inline() {
    let text = "servers = [{ id = \"a\", tools = [{ name = \"t\", isolation = \"ephemeral\" }] }]";
    assert_eq!(Config::parse(text, "f").unwrap().servers[0].tools[0].name, "t");
    assert!(fault("servers = [{ id = \"a\", idd = 1 }]").starts_with("f.toml:1:24: unknown key"));
    let types = "f.toml:1:11: servers is an array, it must be an array of tables";
    assert_eq!(fault("servers = [1]"), types);
}

#[test]
fn syntax_errors_have_a_place() {
    assert!(fault("[microvm]\nenabled = = 1").starts_with("f.toml:2:11: "));
    assert!(fault("[microvm").starts_with("f.toml:1:"));
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let text = "[microvm]\ndefault_memory = 256";
    let told = "f.toml:2:1: unknown key \"default_memory\" in [microvm]; \
                did you mean \"default_memory_mb\"?";
    assert_eq!(fault(text), told);
    assert_eq!(server_fault("zzz = 1"), "f.toml:3:1: unknown key \"zzz\" in [[servers]]");
    let told = "f.toml:1:1: unknown key \"server\" in the file; did you mean \"servers\"?";
    assert_eq!(fault("[[server]]\nid = \"s\""), told.replace(":1:1:", ":1:3:"));
    assert!(server_fault("microvm_config.memory = 1").contains("\"memory\" in microvm_config"));
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    let told = "f.toml:2:11: enabled is a string, it must be true or false";
    assert_eq!(fault("[microvm]\nenabled = \"yes\""), told);
    assert_eq!(fault("microvm = 3"), "f.toml:1:11: microvm is a whole number, it must be a table");
    let told =
        "f.toml:2:17: default_vcpus is a negative number, it must be a whole number of 0 or more";
    assert_eq!(fault("[microvm]\ndefault_vcpus = -1"), told);
    let told = "f.toml:3:13: A is a whole number, it must be a string";
    assert_eq!(server_fault("env = { A = 1 }"), told);
}

#[test]
fn sizes_and_times_out_of_range_are_refused_at_their_place() {
    let told = "f.toml:3:32: memory of 8 MiB is outside 64 to 1048576 MiB";
    assert_eq!(server_fault("microvm_config = { memory_mb = 8 }"), told);
    assert!(fault("[microvm]\ndefault_vcpus = 1000").ends_with("1000 vcpus are outside 1 to 32"));
    let told = "f.toml:2:24: call_timeout_seconds of 0 is outside 1 to 86400";
    assert_eq!(fault("[microvm]\ncall_timeout_seconds = 0"), told);
}

#[test]
fn names_are_checked_and_unique() {
    assert!(fault("[[servers]]\nid = \"../x\"").starts_with("f.toml:2:6: server name \"../x\""));
    assert_eq!(fault("[[servers]]\nname = \"x\""), "f.toml:1:1: [[servers]] has no \"id\"");
    let twice = "[[servers]]\nid = \"a\"\n[[servers]]\nid = \"a\"";
    assert_eq!(fault(twice), "f.toml:4:6: server a is already defined at line 2");
}

#[test]
fn a_tool_may_be_kept_apart_more_strictly_but_not_less() {
    let tool = |mode| format!("[[servers.tools]]\nname = \"t\"\nisolation = \"{mode}\"");
    assert_eq!(server(&tool("ephemeral")).tools[0].isolation, Isolation::Ephemeral);
    let told =
        "f.toml:5:13: tool \"t\" has isolation none, which is looser than its server's microvm";
    assert_eq!(server_fault(&tool("none")), told);
    let twice = format!("{0}\n{0}", tool("microvm"));
    assert!(server_fault(&twice).ends_with("tool \"t\" is listed twice"));
    assert!(server_fault(&tool("vm")).ends_with("is not one of: none, microvm, ephemeral"));
}

#[test]
fn what_is_said_of_tools_is_read_and_checked() {
    let read = server(
        "allow_tools = [\"read_*\"]\ndeny_tools = [\"read_secret\"]\n\
         [[servers.tools]]\nname = \"t\"\nconfirm = true\nmax_result_bytes = 9\ntimeout_seconds = 5\n\
         calls_per_minute = 2",
    );
    assert_eq!(read.allow_tools.unwrap()[0].to_string(), "read_*");
    assert_eq!(read.deny_tools[0].to_string(), "read_secret");
    let tool = &read.tools[0];
    assert!(tool.confirm && !tool.denied && tool.isolation == Isolation::Microvm);
    assert_eq!((tool.max_result_bytes, tool.timeout_seconds), (Some(9), Some(5)));
    assert_eq!(tool.calls_per_minute.unwrap().get(), 2);
    assert_eq!(self::server("calls_per_minute = 7").calls_per_minute.unwrap().get(), 7);
    let told = "f.toml:3:20: calls_per_minute of 0 is outside 1 to 1000000";
    assert_eq!(server_fault("calls_per_minute = 0"), told);
    assert_eq!(server("allow_tools = []").allow_tools, Some(Vec::new()), "no tool at all");
    assert_eq!(server("").allow_tools, None);
    let named = "[[servers.tools]]\nname = \"t\"\n";
    assert!(server_fault(named).ends_with("[[servers.tools]] has no \"isolation\""));
    assert!(server(&format!("{named}denied = true")).tools[0].denied);
    let told = "f.toml:5:19: timeout_seconds of 0 is outside 1 to 86400";
    assert_eq!(server_fault(&format!("{named}timeout_seconds = 0")), told);
    let told = "f.toml:3:14: a tool's name is empty";
    assert_eq!(server_fault("deny_tools = [\"\"]"), told);
    assert!(server_fault("tools_allowed = []").contains("unknown key"));
}

#[test]
fn what_is_kept_of_calls_is_read() {
    let read = |text: &str| Config::parse(text, "f").unwrap().audit;
    assert_eq!(read(""), Audit { bodies: false, required: false });
    assert!(read("[audit]\nbodies = true").bodies);
    assert!(read("[audit]\nrequired = true").required);
    assert!(fault("[audit]\nbody = true").contains("did you mean \"bodies\"?"));
}

#[test]
fn remote_servers_are_refused_by_name() {
    let told = server_fault("url = \"https://example.org/mcp\"");
    assert!(told.contains("a remote server, which this version does not support"), "{told}");
    assert!(server_fault("url = \"ftp\"").contains("not understood"));
}

#[test]
fn what_would_reach_a_terminal_or_the_kernel_is_checked() {
    assert!(server_fault("name = \"a\\u001b[2J\"").ends_with("name contains a control character"));
    assert!(server_fault("image = \"a\\u0000\"").ends_with("image contains a control character"));
    assert!(
        server_fault("env = { \"A=B\" = \"c\" }").contains("no name of an environment variable")
    );
    assert!(server_fault("working_dir = \"srv\"").contains("not an absolute path"));
}

#[test]
fn towers_of_brackets_are_refused_and_not_climbed() {
    for bracket in ["[", "{a="] {
        let tower = format!("x = {}", bracket.repeat(100_000));
        assert!(Config::parse(&tower, "f").is_err());
    }
    assert!(Config::parse(&format!("{}x = 1", "a.".repeat(100_000)), "f").is_err());
}

/// Pieces that make almost-right files.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        Just("[microvm]\n".to_owned()),
        Just("[[servers]]\nid = \"a\"\n".to_owned()),
        Just("[servers.env]\n".to_owned()),
        Just("[[servers.tools]]\n".to_owned()),
        Just("command = \"a 'b\"\n".to_owned()),
        Just("é = { x = [1, {}] }\n".to_owned()),
        ("[a-z_.]{1,12}", "[^\\PC]{0,8}").prop_map(|(key, value)| format!("{key} = {value}\n")),
        any::<String>(),
    ];
    proptest::collection::vec(scrap, 0..8).prop_map(|scraps| scraps.concat())
}

fn names() -> impl Strategy<Value = ServerName> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}".prop_map(|name| name.parse().unwrap())
}

fn images() -> impl Strategy<Value = Option<ImageRef>> {
    let path = "[./~][^\\p{Cc}]{0,12}".prop_map(ImageRef::Path);
    let named =
        "(npm|pypi):[a-z]{1,9}|[a-z]{1,9}/[a-z]{1,9}".prop_map(|text| text.parse().unwrap());
    proptest::option::of(prop_oneof![path, named])
}

fn optional() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[^\\p{Cc}]{0,12}")
}

prop_compose! {
    fn entry_of_strings()(
        id in names(), name in optional(), image in images(), kernel in optional(),
        user in optional(), command in proptest::collection::vec("[^\0]{1,9}", 0..3),
        env in proptest::collection::btree_map("[^=\0]{1,9}", "[^\0]{0,9}", 0..3),
    ) -> Entry {
        Entry { name, image, kernel, user, command, env, ..Entry::new(id) }
    }
}

prop_compose! {
    fn entries()(
        entry in entry_of_strings(), enabled in any::<bool>(), dir in optional(),
        memory_mb in proptest::option::of(64_u32..4096), vcpus in proptest::option::of(1_u8..=32),
        tools in proptest::collection::btree_set("[^\0]{0,9}", 0..3), strict in any::<bool>(),
    ) -> Entry {
        let isolation = if strict { Isolation::Ephemeral } else { Isolation::None };
        let limit = |limited: bool| limited.then_some(7);
        let tool = |name: String| Tool {
            isolation,
            hosts: None,
            denied: strict,
            confirm: enabled,
            max_result_bytes: limit(name.is_empty()),
            timeout_seconds: limit(name.len() == 1),
            calls_per_minute: std::num::NonZeroU32::new(u32::from(enabled)),
            name,
        };
        let working_dir = dir.map(|dir| format!("/{dir}"));
        let microvm_config = Size { memory_mb, vcpus };
        let tools = tools.into_iter().map(tool).collect();
        let allow_tools = enabled.then(|| vec!["a*".parse().unwrap()]);
        let deny_tools = entry.command.first().and_then(|word| word.parse().ok());
        let deny_tools = deny_tools.into_iter().collect();
        let entry = Entry { allow_tools, deny_tools, ..entry };
        Entry { enabled, working_dir, isolation, microvm_config, tools, ..entry }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in scraps()) {
        if let Err(error) = Config::parse(&text, "f") {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }

    #[test]
    fn what_was_added_is_read_back(entry in entries()) {
        let text = edit::add(DESIGN, "f", &entry).unwrap();
        prop_assert!(text.starts_with(DESIGN));
        let config = Config::parse(&text, "f").unwrap();
        prop_assert_eq!(config.server(&entry.id), Some(&entry));
        let gone = edit::remove(&text, "f", &entry.id).unwrap();
        prop_assert_eq!(gone.trim_end(), DESIGN.trim_end());
    }

    #[test]
    fn comments_survive_every_edit(comment in "# [^\\p{Cc}]{0,20}", names in (names(), names())) {
        let file = format!("{comment}\n\n[microvm]\n{comment}\nenabled = true {comment}\n");
        let text = edit::add(&file, "f", &Entry::new(names.0.clone())).unwrap();
        let text = edit::set_enabled(&text, "f", &names.0, false).unwrap();
        prop_assert!(text.starts_with(&file));
        prop_assert_eq!(edit::remove(&text, "f", &names.0).unwrap(), file);
    }
}

/// docs/configuration.md shows one file with every key there is.
#[test]
fn the_manual_shows_every_key_and_only_those() {
    let manual = include_str!("../../../../docs/configuration.md");
    let example = manual.split("```").nth(1).and_then(|code| code.strip_prefix("toml\n")).unwrap();
    let config = Config::parse(example, "docs/configuration.md").unwrap();
    assert_eq!(config.microvm.max_parallel_launches, Some(8));
    let keys = [
        read::MICROVM_KEYS,
        read::BUILD_KEYS,
        read::AUDIT_KEYS,
        gateway::GATEWAY_KEYS,
        gateway::TOKEN_KEYS,
        oauth::OAUTH_KEYS,
        oauth::GRANT_KEYS,
        read::SERVER_KEYS,
        read::SIZE_KEYS,
        read::TOOL_KEYS,
    ];
    for key in keys.concat() {
        let shown = |line: &&str| line.split([' ', '{', '.', ']']).any(|word| word == key);
        assert!(example.lines().any(|line| shown(&line)), "{key} is not in docs/configuration.md");
    }
}

#[test]
fn the_manual_tells_the_defaults() {
    let manual = include_str!("../../../../docs/configuration.md");
    let usual = Microvm::default();
    let minutes = |idle: Option<Duration>| idle.unwrap_or_default().as_secs() / 60;
    let told = [
        format!("default_memory_mb = {} ", usual.default_memory_mb),
        format!("default_vcpus = {} ", usual.default_vcpus),
        format!("launch_timeout_seconds = {} ", usual.launch_timeout.as_secs()),
        format!("call_timeout_seconds = {} ", usual.call_timeout.as_secs()),
        format!("idle_suspend_minutes = {} ", minutes(usual.idle_suspend)),
        format!("idle_stop_minutes = {} ", minutes(usual.idle_stop)),
        format!("suspended_stop_minutes = {} ", minutes(usual.suspended_stop)),
    ];
    told.iter().for_each(|line| assert!(manual.contains(line), "{line}"));
}

#[test]
fn what_a_server_is_granted_is_read_and_written_as_it_stands() {
    let keys = "secrets = [\"TOKEN\", \"K=file:~/.k\"]\nallow = [\"api.example.com\", \"192.0.2.0/24:22\"]\n\
                allow_private = [\"nas.lan:445\"]\nmount = [\"./p:/work:rw\"]";
    let server = server(keys);
    assert_eq!(server.secrets[1].to_string(), "K=file:~/.k");
    assert_eq!(server.hosts.allow[1].to_string(), "192.0.2.0/24:22");
    assert_eq!(server.hosts.allow_private[0].to_string(), "nas.lan:445");
    assert_eq!(server.folders[0].to_string(), "./p:/work:rw");
    let text = edit::add("", "f", &server).unwrap();
    assert_eq!(Config::parse(&text, "f").unwrap().servers, [server]);
}

#[test]
fn a_grant_that_makes_no_sense_is_refused_where_it_stands() {
    assert_eq!(
        server_fault("allow = [\"*\"]"),
        "f.toml:3:9: host \"*\" allows everything, which is no policy"
    );
    assert!(server_fault("mount = [\"/a\"]").contains("is not HOST:GUEST"));
    assert!(server_fault("secrets = [\"T=hunter2\"]").contains("secret T"));
    assert!(server_fault("allow = \"a.example\"").contains("must be an array of strings"));
}

#[test]
fn a_tool_may_have_hosts_of_its_own_or_none() {
    let tools = |keys: &str| {
        server(&format!("isolation_mode = \"ephemeral\"\n[[servers.tools]]\nname = \"t\"\n{keys}"))
            .tools
    };
    let own = tools("allow = [\"a.example\"]").remove(0);
    assert_eq!(own.hosts.unwrap().allow[0].to_string(), "a.example");
    assert_eq!(own.isolation, Isolation::Ephemeral);
    assert_eq!(tools("allow = []").remove(0).hosts, Some(Hosts::default()));
    assert_eq!(tools("isolation = \"ephemeral\"").remove(0).hosts, None);
}

#[test]
fn a_secret_that_was_written_down_is_not_shown() {
    let server = server("env = { API_KEY = \"hunter2\", LOG = \"debug\" }").shown();
    assert_eq!(server.env["API_KEY"], "(hidden)");
    assert_eq!(server.env["LOG"], "debug");
}
