//! Tokens of the gateway, which the configuration keeps without their values.

use serde_json::json;

use crate::osvm::Osvm;

#[test]
fn a_token_is_printed_once_and_never_written_down() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "time"]);
    let before = osvm.read_config();
    let limits = ["--server", "time", "--tool", "time__*", "--requests-per-minute", "60"];
    let token = osvm.ok(&[&["mcp", "gateway-token", "add", "ci"], &limits[..]].concat());
    let token = token.strip_suffix('\n').unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let other = osvm.ok(&["mcp", "gateway-token", "add", "laptop"]);
    assert_ne!(token, other.trim());
    let config = osvm.read_config();
    assert!(config.starts_with(&before), "{config}");
    assert!(!config.contains(token) && !config.contains(other.trim()), "{config}");
    let list = osvm.ok(&["mcp", "gateway-token", "list"]);
    assert!(list.contains("ci      time     time__*            60\n"), "{list}");
    let listed = osvm.json(&["mcp", "gateway-token", "list", "--json"]);
    let all =
        json!({ "name": "laptop", "servers": null, "tools": null, "requests_per_minute": null });
    assert_eq!(listed[1], all);
    assert!(!list.contains("sha256") && listed[0].get("sha256").is_none());
    osvm.ok(&["mcp", "gateway-token", "remove", "ci"]);
    osvm.ok(&["mcp", "gateway-token", "remove", "laptop"]);
    assert_eq!(osvm.read_config().trim_end(), before.trim_end());
}

#[test]
fn a_gateway_that_asks_for_no_token_does_not_start_where_some_have_limits() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "gateway-token", "add", "ci"]);
    let refused = |section: &str| {
        let ran = osvm.run(&["mcp", "gateway", "--no-token", "--listen", "127.0.0.1:0"]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let why = format!("--no-token would serve everybody, whatever {section} in ");
        assert!(ran.stderr.contains(&why), "{}", ran.stderr);
        let hint = format!("start it without --no-token, or remove {section}");
        assert!(ran.stderr.contains(&hint), "{}", ran.stderr);
    };
    refused("[[gateway.tokens]]");
    osvm.write_config(
        "[gateway.oauth]\nissuer = \"https://login.example.com\"\naudience = \"https://tools.example.com/mcp\"\n\
         [[gateway.oauth.grants]]\nscope = \"*\"\nservers = [\"*\"]\n",
    );
    refused("[gateway.oauth]");
}

#[test]
fn what_is_no_token_is_refused() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "time"]);
    osvm.ok(&["mcp", "gateway-token", "add", "ci"]);
    for (args, code, why) in [
        (&["add", "ci"][..], 1, "token ci exists already"),
        (&["add", "default"], 2, "is that of the gateway's own token"),
        (&["add", "a b"], 2, "token name \"a b\" is none"),
        (&["add", "x", "--server", "tima"], 3, "did you mean time?"),
        (&["add", "x", "--tool", ""], 2, "a tool's name is empty"),
        (&["add", "x", "--requests-per-minute", "0"], 2, "0 is not in 1..=1000000"),
        (&["remove", "cj"], 3, "no token is called cj"),
    ] {
        let ran = osvm.run(&[&["mcp", "gateway-token"], args].concat());
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    }
}
