//! Entries changed, added and put back.

use proptest::prelude::*;

use super::*;

fn pointed(text: &str, name: &str, keep: &[&str]) -> String {
    let spot = named(text, name).spot;
    parse(text).pointed(&spot, &osvm(name), |variable| keep.contains(&variable)).unwrap().unwrap()
}

fn put_back(now: &str, wrote: &str, before: &str, spot: &Spot) -> Option<String> {
    parse(now).put_back(spot, wrote, &parse(before)).unwrap()
}

#[test]
fn an_entry_is_pointed_at_osvm_and_nothing_else_moves() {
    let text = sample("claude-desktop");
    let old = text.find("{\n      \"command\": \"docker\"").unwrap();
    let end = old + text[old..].find("\n    },").unwrap();
    let new =
        "{\n      \"command\": \"/usr/bin/osvm\",\n      \"args\": [\"mcp\", \"run\", \"github\"]";
    assert_eq!(pointed(text, "github", &[]), text[..old].to_owned() + new + &text[end..]);
}

#[test]
fn comments_line_ends_and_what_the_client_fills_in_stay() {
    let text = sample("vscode");
    let new = pointed(text, "github", &["GITHUB_PERSONAL_ACCESS_TOKEN"]);
    let args = text.find("[\r\n\t\t\t\t\"run\"").unwrap();
    let end = args + text[args..].find(']').unwrap() + 1;
    let expected = text[..args].to_owned() + "[\"mcp\", \"run\", \"github\"]" + &text[end..];
    assert_eq!(new, expected.replacen("\"docker\"", "\"/usr/bin/osvm\"", 1));
}

#[test]
fn keys_that_osvm_does_not_know_stay() {
    let new = pointed(sample("windsurf"), "memory", &[]);
    let entry = r#"{"command":"/usr/bin/osvm","args":["mcp", "run", "memory"],"disabled":false,"disabledTools":["delete_entities"]}"#;
    assert!(new.contains(entry), "{new}");
    let new = pointed(sample("zed"), "sqlite", &[]);
    let inner = "\"path\": \"/usr/bin/osvm\",\n        \"args\": [\"mcp\", \"run\", \"sqlite\"]\n      },\n      \"settings\": {}";
    assert!(new.contains(inner), "{new}");
}

#[test]
fn variables_that_are_kept_stay_alone() {
    let new = pointed(sample("claude-code"), "search", &["SEARCH_KEY"]);
    assert!(
        new.contains("\"env\": {\n        \"SEARCH_KEY\": \"${SEARCH_KEY}\"\n      }\n"),
        "{new}"
    );
    assert_eq!(stdio(&new, "search").env.len(), 1);
}

#[test]
fn an_entry_without_arguments_gets_some() {
    for (text, new) in [
        (
            r#"{"mcpServers":{"a":{"command":"x"}}}"#,
            r#"{"command":"/usr/bin/osvm", "args": ["mcp", "run", "a"]}"#,
        ),
        (
            r#"{"mcpServers":{"a":{"env":{"A":"b"},"command":"x"}}}"#,
            r#"{"command":"/usr/bin/osvm", "args": ["mcp", "run", "a"]}"#,
        ),
        (
            r#"{"mcpServers":{"a":{"command":"x", "env":{}, }}}"#,
            r#"{"command":"/usr/bin/osvm", "args": ["mcp", "run", "a"], }"#,
        ),
        (
            "{\"mcpServers\":{\"a\":{\n  \"command\":\"x\" // why\n  ,\"env\":{} // what\n}}}",
            "{\n  \"command\":\"/usr/bin/osvm\",\n  \"args\": [\"mcp\", \"run\", \"a\"] // why\n   // what\n}",
        ),
    ] {
        let edited = pointed(text, "a", &[]);
        assert!(edited.contains(new), "{edited}");
        assert_eq!(stdio(&edited, "a").args, osvm("a").args);
    }
}

#[test]
fn a_new_entry_comes_last_in_the_files_own_dress() {
    for client in Client::all() {
        let text = sample(client.as_str());
        let spot = Spot { place: client.place(), name: "demo".to_owned() };
        let new = parse(text).with_entry(&spot, &osvm("demo"), client.more()).unwrap();
        assert_eq!(stdio(&new, "demo").args, osvm("demo").args, "{client}");
        assert_eq!(servers(&new).len(), servers(text).len() + 1, "{client}");
        assert_eq!(parse(&new).without(&spot).unwrap().unwrap(), text, "{client}");
        let bare = |text: &str| text.matches('\n').count() == text.matches("\r\n").count();
        assert_eq!(bare(&new), bare(text), "{client}");
    }
}

#[test]
fn what_a_file_lacks_is_made() {
    let spot = Spot { place: Client::Zed.place(), name: "demo".to_owned() };
    let add =
        |text: &str| parse(text).with_entry(&spot, &osvm("demo"), Client::Zed.more()).unwrap();
    let whole = "{\n  \"context_servers\": {\n    \"demo\": {\n      \"source\": \"custom\",\n      \
                 \"command\": \"/usr/bin/osvm\",\n      \"args\": [\"mcp\", \"run\", \"demo\"]\n    }\n  }\n}\n";
    assert_eq!(add(""), whole);
    assert_eq!(add("// mine"), format!("// mine\n{whole}"));
    assert_eq!(add("{}\n"), whole);
    assert_eq!(add("{\n}"), whole.trim_end());
    assert_eq!(add("\u{feff}{}"), format!("\u{feff}{}", whole.trim_end()));
    for text in [
        "{ \"a\": 1 }",
        "{\"context_servers\": {}}",
        "{\"context_servers\": { /* none */ }}",
        "{ // x\n  \"a\": 1 // y\n  // z\n}",
        "{\n\t\"a\": 1, // y\n}",
        "{\"a\": 1 // y\n}",
    ] {
        assert_eq!(stdio(&add(text), "demo").args.len(), 3, "{text}");
    }
}

#[test]
fn what_was_rewritten_is_put_back_whatever_else_was_changed() {
    for (client, name) in [
        ("claude-desktop", "github"),
        ("vscode", "github"),
        ("zed", "sqlite"),
        ("windsurf", "memory"),
    ] {
        let before = sample(client);
        let spot = named(before, name).spot;
        let after = pointed(before, name, &[]);
        let wrote = parse(&after).written(&spot).unwrap().unwrap().to_owned();
        assert_eq!(put_back(&after, &wrote, before, &spot).as_deref(), Some(before));
        let other = Spot { name: "other".to_owned(), ..spot.clone() };
        let changed = parse(&after).with_entry(&other, &osvm("other"), &[]).unwrap();
        let expected = parse(before).with_entry(&other, &osvm("other"), &[]).unwrap();
        assert_eq!(put_back(&changed, &wrote, before, &spot), Some(expected), "{client}");
    }
}

#[test]
fn what_the_user_changed_in_an_entry_stays_when_it_is_put_back() {
    let before = sample("claude-desktop");
    let spot = named(before, "github").spot;
    let after = pointed(before, "github", &[]);
    let wrote = parse(&after).written(&spot).unwrap().unwrap().to_owned();
    let args = "\"args\": [\"mcp\", \"run\", \"github\"]";
    let changed = after.replace(args, &format!("{args},\n      \"alwaysAllow\": [\"search\"]"));
    let back = put_back(&changed, &wrote, before, &spot).unwrap();
    assert_eq!(stdio(&back, "github"), stdio(before, "github"));
    assert!(back.contains("\"alwaysAllow\": [\"search\"]"), "{back}");
    let others = after.replace("\"/usr/bin/osvm\"", "\"/usr/bin/other\"");
    assert_eq!(put_back(&others, &wrote, before, &spot), None);
    let gone = parse(&after).without(&spot).unwrap().unwrap();
    assert_eq!(put_back(&gone, &wrote, before, &spot), None);
}

#[test]
fn an_entry_that_was_added_is_taken_away_again() {
    let before = sample("cursor");
    let spot = Spot { place: Client::Cursor.place(), name: "demo".to_owned() };
    let after = parse(before).with_entry(&spot, &osvm("demo"), &[]).unwrap();
    let wrote = parse(&after).written(&spot).unwrap().unwrap().to_owned();
    assert_eq!(put_back(&after, &wrote, before, &spot).as_deref(), Some(before));
}

/// White space and comments that may stand between any two tokens.
fn trivia() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n\t".to_owned()),
        Just("// \"command\": {\n".to_owned()),
        Just("// x\r".to_owned()),
        Just("/* } , \" */".to_owned()),
        Just("/* a\n b */".to_owned()),
    ];
    proptest::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

/// A file of tokens with anything between them; `@` is where that may be.
fn dressed() -> impl Strategy<Value = String> {
    const TOKENS: &str = "@{@\"k\"@:@[@1@,@{@}@]@,@\"mcpServers\"@:@{@\"o\"@:@{@\"url\"@:@\"u\"@}@,@\"s\"@:@{@\"x\"@:@\"é\"@,\
                          @\"command\"@:@\"c\"@,@\"args\"@:@[@\"a\"@,@\"b\"@]@,@\"env\"@:@{@\"A\"@:@\"1\"@,@\"B\"@:@\"2\"@}@}@}@,@\"z\"@:@null@}@";
    let count = TOKENS.matches('@').count();
    proptest::collection::vec(trivia(), count).prop_map(|gaps| {
        let mut gaps = gaps.into_iter();
        TOKENS.split('@').map(|token| token.to_owned() + &gaps.next().unwrap_or_default()).collect()
    })
}

/// What lies outside of the entry's value.
fn outside(text: &str) -> (String, String) {
    let value = parse(text).written(&named(text, "s").spot).unwrap().unwrap();
    let at = value.as_ptr() as usize - text.as_ptr() as usize;
    (text[..at].to_owned(), text[at + value.len()..].to_owned())
}

proptest! {
    #[test]
    fn every_byte_outside_of_the_entry_stays(text in dressed(), keep in 0..3_usize) {
        let keep = &["A", "B"][..keep.min(2)];
        let edited = pointed(&text, "s", keep);
        prop_assert_eq!(outside(&edited), outside(&text));
        let entry = stdio(&edited, "s");
        prop_assert_eq!((entry.command.as_str(), entry.args), ("/usr/bin/osvm", osvm("s").args));
        prop_assert!(entry.env.keys().eq(keep));
        prop_assert!(parse(&edited).written(&named(&edited, "s").spot).unwrap().unwrap().contains("\"é\""));
        let spot = named(&text, "s").spot;
        let wrote = parse(&edited).written(&spot).unwrap().unwrap().to_owned();
        prop_assert_eq!(put_back(&edited, &wrote, &text, &spot), Some(text));
    }

    #[test]
    fn an_entry_is_added_and_taken_away_between_any_comments(text in dressed()) {
        let spot = Spot { name: "new".to_owned(), ..named(&text, "s").spot };
        let added = parse(&text).with_entry(&spot, &osvm("new"), &[]).unwrap();
        prop_assert_eq!(stdio(&added, "new").args, osvm("new").args);
        prop_assert_eq!(stdio(&added, "s"), stdio(&text, "s"));
        let gone = parse(&added).without(&spot).unwrap().unwrap();
        prop_assert_eq!(servers(&gone), servers(&text));
        for name in ["o", "s", "new"] {
            let spot = Spot { name: name.to_owned(), ..spot.clone() };
            let left = parse(&added).without(&spot).unwrap().unwrap();
            prop_assert_eq!(servers(&left).len(), 2);
        }
    }
}
