//! Files that nobody would write on purpose.

use super::*;

fn fault(text: &str) -> ClientFileError {
    let file = match ClientFile::parse(text) {
        Ok(file) => file,
        Err(error) => return error,
    };
    match file.servers(&[vec!["mcpServers".to_owned()]]) {
        Err(error) => error,
        Ok(listed) => match listed.into_iter().next().map(|listed| listed.is) {
            Some(Found::Faulty(error)) => error,
            other => panic!("{text}: {other:?}"),
        },
    }
}

#[test]
fn what_is_no_json_is_told_with_its_line() {
    for (text, line) in [
        ("{\n  \"a\": }", 2),
        ("{\n\n  'a': 1}", 3),
        ("{\"a\": 1 \"b\": 2}", 1),
        ("{\"a\": 0x1}", 1),
        ("{} {}", 1),
        ("\u{feff}{\n\"a\"", 2),
        ("{ \"a\": \"\\ud800\" }", 1),
    ] {
        let error = fault(text);
        assert!(matches!(error.fault, Fault::Syntax(_)) && error.line == line, "{text}: {error}");
    }
    assert!(matches!(fault("[1]").fault, Fault::Type { .. }));
}

#[test]
fn what_is_not_of_its_type_is_told_with_its_key() {
    for (text, told) in [
        ("{\"mcpServers\":\n[]}", "line 2: mcpServers is not an object"),
        ("{\"mcpServers\":{\"a\":\n\n1}}", "line 3: a is not an object"),
        ("{\"mcpServers\":{\"a\":{\"command\":1}}}", "line 1: command is not a text"),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\",\"args\":\"y\"}}}",
            "line 1: args is not an array",
        ),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\",\"args\":[1]}}}",
            "line 1: an argument is not a text",
        ),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\",\"env\":{\"A\":[]}}}}",
            "line 1: A is not a text",
        ),
        ("{\"mcpServers\":{\"a\":{\"command\":\" \"}}}", "line 1: the command is empty"),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\\u0000\"}}}",
            "line 1: command holds a zero byte, which no program can be given",
        ),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\",\"env\":{\"A=B\":\"\"}}}}",
            "line 1: \"A=B\" is no name of a variable",
        ),
    ] {
        assert_eq!(fault(text).to_string(), told);
    }
}

#[test]
fn keys_that_stand_twice_are_refused_where_they_matter() {
    for (text, line) in [
        ("{\"mcpServers\":{},\n\"mcpServers\":{}}", 2),
        ("{\"mcpServers\":{\"a\":{},\n\"a\":{}}}", 2),
        ("{\"mcpServers\":{\"a\":{\"command\":\"x\",\n\"\\u0063ommand\":\"y\"}}}", 2),
        ("{\"mcpServers\":{\"a\":{\"command\":\"x\",\"env\":{\"A\":\"\",\n\"A\":\"\"}}}}", 2),
    ] {
        let error = fault(text);
        assert!(matches!(error.fault, Fault::Twice(_)) && error.line == line, "{text}: {error}");
    }
    assert!(servers("{\"x\":1,\"x\":2,\"mcpServers\":{}}").is_empty());
}

#[test]
fn depth_and_length_are_bounded() {
    for open in ["[", "{\"a\":"] {
        let error = fault(&format!("{{\"a\":{}", open.repeat(100_000)));
        assert!(matches!(error.fault, Fault::Syntax(_)), "{error}");
    }
    let long = format!("{{}}{}", " ".repeat(MAX));
    assert_eq!(fault(&long).fault, Fault::TooLong);
}

#[test]
fn many_servers_take_no_longer_than_they_should() {
    let one = |n| format!("\"s{n}\":{{\"command\":\"x\"}}");
    let all: Vec<_> = (0..20_000).map(one).collect();
    assert_eq!(servers(&format!("{{\"mcpServers\":{{{}}}}}", all.join(","))).len(), 20_000);
}

#[test]
fn nothing_is_an_empty_file() {
    for text in ["", "  \n", "// nothing\n", "\u{feff}", "{}", "{\"mcpServers\":null}"] {
        assert!(servers(text).is_empty(), "{text:?}");
    }
}
