//! Every client's sample, read.

use super::*;

#[test]
fn the_table_says_where_each_client_has_its_file() {
    let of = |platform| Client::all().map(|client| client.file(platform)).collect::<Vec<_>>();
    assert_eq!(
        of(Platform::Linux),
        [
            ".config/Claude/claude_desktop_config.json",
            ".claude.json",
            ".cursor/mcp.json",
            ".config/Code/User/mcp.json",
            ".codeium/windsurf/mcp_config.json",
            ".config/zed/settings.json",
            ".gemini/settings.json",
        ]
    );
    let mac = of(Platform::MacOs);
    assert_eq!(mac[0], "Library/Application Support/Claude/claude_desktop_config.json");
    assert_eq!(mac[3], "Library/Application Support/Code/User/mcp.json");
    for client in Client::all() {
        assert_eq!(client.to_string().parse(), Ok(client));
    }
}

#[test]
fn a_clients_own_places_are_those_that_its_file_has() {
    for client in Client::all() {
        let file = parse(sample(client.as_str()));
        let own = client.places(Some(PROJECT));
        assert_eq!(own, file.places(Some(PROJECT)), "{client}");
        assert!(!file.servers(&own).unwrap().is_empty(), "{client}");
    }
}

#[test]
fn servers_are_listed_in_the_order_of_the_file() {
    let names = |text| {
        servers(text).into_iter().map(|listed| listed.spot.name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(sample("claude-desktop")), "filesystem github Brave Search");
    assert_eq!(names(sample("claude-code")), "fetch sentry search sqlite");
    assert_eq!(names(sample("vscode")), "github playwright docs");
}

#[test]
fn a_project_has_its_own_servers_and_no_other_projects() {
    let file = parse(sample("claude-code"));
    let count = |project| file.servers(&Client::ClaudeCode.places(project)).unwrap().len();
    assert_eq!((count(Some(PROJECT)), count(Some("/home/ada/loom")), count(None)), (4, 3, 3));
}

#[test]
fn command_arguments_and_environment_are_read_with_comments_around_them() {
    let github = stdio(sample("vscode"), "github");
    assert_eq!(github.command, "docker");
    assert_eq!(github.args.last().unwrap(), "ghcr.io/github/github-mcp-server");
    assert_eq!(github.env["GITHUB_PERSONAL_ACCESS_TOKEN"], "${input:github_token}");
    let weather = stdio(sample("gemini"), "weather");
    assert_eq!(
        (weather.env["PORT"].as_str(), weather.cwd.as_deref()),
        ("8080", Some("./servers/weather"))
    );
    let notes = stdio(sample("cursor"), "notes");
    assert_eq!(notes.env_file.as_deref(), Some("${workspaceFolder}/.env"));
}

#[test]
fn zeds_older_form_is_read_as_the_newer() {
    let sqlite = stdio(sample("zed"), "sqlite");
    assert_eq!((sqlite.command.as_str(), sqlite.args.len()), ("uvx", 3));
    assert_eq!(sqlite.env["SQLITE_KEY"], "correct horse");
    assert!(stdio(sample("zed"), "time").disabled && stdio(sample("cursor"), "postgres").disabled);
    assert!(!sqlite.disabled && !stdio(sample("windsurf"), "memory").disabled);
}

#[test]
fn remote_servers_and_settings_of_extensions_are_told_apart() {
    for (client, name, address) in [
        ("claude-code", "sentry", "https://mcp.sentry.example/mcp"),
        ("cursor", "linear", "https://mcp.linear.example/sse"),
        ("vscode", "docs", "https://learn.example/api/mcp"),
        ("windsurf", "figma", "https://mcp.figma.example/sse"),
        ("gemini", "maps", "https://maps.example/mcp"),
    ] {
        assert_eq!(named(sample(client), name).is, Found::Remote(address.to_owned()));
    }
    assert_eq!(named(sample("zed"), "postgres-context-server").is, Found::Settings);
}

#[test]
fn what_is_shown_has_no_secret_and_every_line() {
    for (name, text) in SAMPLES {
        let shown = parse(text).masked();
        assert_eq!(shown.lines().count(), text.lines().count(), "{name}");
        for secret in ["ghp_Ada", "BSA-", "loom1843", "figd_", "correct horse"] {
            assert!(!shown.contains(secret), "{name}: {shown}");
        }
    }
    let shown = parse("{ // my token is hunter2\n \"env\": {\"PIN_KEY\": 1234567} }").masked();
    assert_eq!(shown, "{ // (hidden)\n \"env\": {\"PIN_KEY\": \"(hidden)\"} }");
}
