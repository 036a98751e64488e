//! Commands as READMEs and clients' configurations have them, and texts nobody would write.

use proptest::prelude::*;

use super::*;
use crate::command;

fn recognised(line: &str) -> Result<Recognised, PackageError> {
    recognise(&command::split(line).unwrap(), None)
}

fn request(line: &str) -> Request {
    match recognised(line) {
        Ok(Recognised::Package(request)) => *request,
        other => panic!("{line}: {other:?}"),
    }
}

/// What is installed, and the arguments.
fn told(line: &str) -> (String, String) {
    let request = request(line);
    (request.install.to_string(), command::join(&request.args))
}

fn refused(line: &str) -> PackageError {
    recognised(line).expect_err(line)
}

#[test]
fn commands_of_npm_name_package_program_and_arguments() {
    for (line, install, args) in [
        (
            "npx -y @modelcontextprotocol/server-filesystem /work",
            "npm:@modelcontextprotocol/server-filesystem",
            "/work",
        ),
        ("npx @a/b@1.2.3 -y --x", "npm:@a/b@1.2.3", "-y --x"),
        ("npx --yes -q --prefer-online a@latest", "npm:a@latest", ""),
        ("npx -y a@^1.2", "npm:a@'^1.2'", ""),
        ("npx -y -- a -- b", "npm:a", "-- b"),
        ("npx -y -p a -p b@2 cmd arg", "npm:a --with b@2 --bin cmd", "arg"),
        ("npx --package=a cmd", "npm:a --bin cmd", ""),
        ("npx -p a -c 'cmd --flag \"two words\"'", "npm:a --bin cmd", "--flag 'two words'"),
        ("npm exec -y a -- --x", "npm:a", "--x"),
        ("npm x --package=a -- cmd --x", "npm:a --bin cmd", "--x"),
        ("bunx -y a", "npm:a", ""),
        ("bun x a b", "npm:a", "b"),
        ("pnpm dlx a@next", "npm:a@next", ""),
        ("pnpx a", "npm:a", ""),
        ("pnpm --silent --package=a dlx b", "npm:a --bin b", ""),
        ("yarn dlx -q -p a b", "npm:a --bin b", ""),
        ("/usr/bin/npx a", "npm:a", ""),
        (r"'C:\Program Files\nodejs\npx.cmd' -y a", "npm:a", ""),
        ("cmd /c npx -y a", "npm:a", ""),
        ("cmd.exe /d /s /C 'npx -y a --x'", "npm:a", "--x"),
        ("npx JSONStream@v1.0.0-rc.1+b", "npm:JSONStream@1.0.0-rc.1+b", ""),
    ] {
        assert_eq!(told(line), (install.to_owned(), args.to_owned()), "{line}");
    }
}

#[test]
fn commands_of_pypi_name_package_program_and_arguments() {
    for (line, install, args) in [
        ("uvx mcp-server-git --repository /r", "pypi:mcp-server-git", "--repository /r"),
        ("uvx -q MCP_Server.Git@2025.1.14", "pypi:mcp-server-git==2025.1.14", ""),
        ("uvx mcp-server-git@latest", "pypi:mcp-server-git", ""),
        (
            "uvx --from 'mcp[cli]>=1.0, <2' mcp run x.py",
            "pypi:'mcp[cli]>=1.0,<2' --bin mcp",
            "run x.py",
        ),
        (
            "uvx --with 'mcp<2,>=1,pydantic' --python 3.12 a",
            "pypi:a --with 'mcp<2,>=1' --with pydantic --python 3.12",
            "",
        ),
        ("uv tool run --from=a==1.0.* b", "pypi:'a==1.0.*' --bin b", ""),
        ("uvx --from a python -m b", "pypi:a --bin python", "-m b"),
        ("pipx run --spec a==2 b c", "pypi:a==2 --bin b", "c"),
        ("pipx run a==2", "pypi:a==2", ""),
        ("uvx -p python3.11 'a[z,B_b,z]~=1.4'", "pypi:'a[b-b,z]~=1.4' --python 3.11", ""),
    ] {
        assert_eq!(told(line), (install.to_owned(), args.to_owned()), "{line}");
    }
}

#[test]
fn variables_in_front_are_kept() {
    let request = request("env TOKEN=a=b X= npx a");
    let pairs: Vec<_> = request.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(pairs, ["TOKEN=a=b", "X="]);
    assert!(matches!(refused("env -i npx a"), PackageError::UnknownFlag { runner: "env", .. }));
}

#[test]
fn other_programs_are_plain() {
    for line in [
        "node server.js",
        "npm start",
        "uv run server.py",
        "uv --directory /x run y",
        "bun run x",
        "pipx install a",
        "env A=b node x",
        "python server.py",
        "env -i node x",
        "cmd /c node x",
        "npxx a",
    ] {
        assert_eq!(recognised(line), Ok(Recognised::Plain), "{line}");
    }
}

#[test]
fn a_python_module_needs_a_package_named_beside_it() {
    let argv = command::split("python3 -m mcp_server_time --local-timezone=UTC").unwrap();
    assert_eq!(recognise(&argv, None), Ok(Recognised::Module("mcp_server_time".into())));
    let named: Install = "pypi:mcp-server-time==1 --python 3.12".parse().unwrap();
    let Ok(Recognised::Package(request)) = recognise(&argv, Some(&named)) else { panic!() };
    let install = "pypi:mcp-server-time==1 --python 3.12 --module mcp_server_time";
    assert_eq!(request.install.to_string(), install);
    assert_eq!(request.args, ["--local-timezone=UTC"]);
    let argv = command::split("python3.11 -m a").unwrap();
    let named = "pypi:a".parse().unwrap();
    let Ok(Recognised::Package(request)) = recognise(&argv, Some(&named)) else { panic!() };
    assert_eq!(request.install.to_string(), "pypi:a --python 3.11 --module a");
    let npm = "npm:a".parse().unwrap();
    assert!(matches!(recognise(&argv, Some(&npm)), Err(PackageError::PythonOnly(_))));
    let npx = command::split("npx a").unwrap();
    assert!(matches!(recognise(&npx, Some(&named)), Err(PackageError::NamedTwice(_))));
}

#[test]
fn a_flag_that_is_not_followed_is_named() {
    let error = refused("npx -y --frobnicate a").to_string();
    assert!(
        error
            .starts_with("npx has flag --frobnicate, which osvm does not know; it knows -y, --yes"),
        "{error}"
    );
    assert!(matches!(refused("npm exec a --x"), PackageError::UnknownFlag { .. }));
    assert!(matches!(refused("npm exec -p a b"), PackageError::UnknownFlag { .. }));
    for line in [
        "npx --registry=http://x a",
        "uvx --index-url x a",
        "pnpm dlx -c a",
        "bunx --bun a",
        "pipx run -e a",
    ] {
        assert!(matches!(refused(line), PackageError::RefusedFlag { .. }), "{line}");
    }
    assert!(matches!(refused("npx --yes=no a"), PackageError::UnwantedValue { .. }));
    assert!(matches!(refused("uvx --from"), PackageError::NoValue { .. }));
    assert!(matches!(refused("uvx --from a --from b c"), PackageError::Twice { .. }));
}

#[test]
fn a_command_without_package_or_program_is_refused() {
    for line in
        ["npx", "npx -y", "uvx", "uvx --with a python@3.12", "npx -c a", "npm exec --", "npx ''"]
    {
        let error = refused(line);
        assert!(
            matches!(error, PackageError::NoPackage(_) | PackageError::Name { .. }),
            "{line}: {error}"
        );
    }
    assert!(matches!(refused("npx -p a"), PackageError::NoProgram("npx")));
    assert!(matches!(refused("npx -p a ./b"), PackageError::Program(_)));
    assert!(matches!(refused("npx -p a -c 'b | c'"), PackageError::Shell { .. }));
}

#[test]
fn what_no_registry_has_is_refused_by_what_it_is() {
    use Elsewhere::{Alias, Git, Path, Registry, Url};
    for (line, place) in [
        ("npx github:user/repo", Git),
        ("npx user/repo#branch", Git),
        ("npx git+https://x/y", Git),
        ("npx a@git@github.com:a/b.git", Git),
        ("npx a@user/repo", Git),
        ("npx https://x/y.tgz", Url),
        ("npx ./dir", Path),
        ("npx file:../x", Path),
        ("npx ../x.tgz", Path),
        ("npx x.tgz", Path),
        (r"npx C:\x\y", Path),
        ("npx a@npm:b@1", Alias),
        ("npx jsr:@a/b", Registry),
        ("uvx --from git+https://github.com/a/b c", Git),
        ("uvx --from 'a @ git+https://github.com/a/b' c", Git),
        ("uvx --from 'a@https://x/y.whl' c", Url),
        ("uvx --from . c", Path),
        ("uvx --from 'a @ ../x' c", Path),
        ("uvx a/b", Path),
        ("pipx run --spec ./x.whl c", Path),
    ] {
        let error = refused(line);
        assert!(
            matches!(&error, PackageError::Elsewhere { place: found, .. } if *found == place),
            "{line}: {error}"
        );
        assert!(error.hint().is_some());
    }
}

#[test]
fn names_are_the_registries_own() {
    for name in [
        "",
        "@a",
        "@a/",
        "@/a",
        ".a",
        "_a",
        "-a",
        "a b",
        "a!",
        "node_modules",
        "é",
        "@a/b/c",
        &"a".repeat(215),
    ] {
        let error = Ecosystem::Npm.package(name).expect_err(name);
        assert!(
            matches!(error, PackageError::Name { .. } | PackageError::Elsewhere { .. }),
            "{name}: {error}"
        );
    }
    for name in ["", "-a", "a-", "_a", "é", "a b", "a!", "a[", "a[]", "a[b", "a[b c]"] {
        assert!(Ecosystem::PyPi.package(name).is_err(), "{name}");
    }
    assert_eq!(Ecosystem::PyPi.package("A__b.-C").unwrap().name(), "a-b-c");
}

#[test]
fn versions_are_sorted_by_what_they_are() {
    let wanted =
        |text: &str| Ecosystem::Npm.package(&format!("a@{text}")).unwrap().wanted().clone();
    assert_eq!(wanted(""), Wanted::Any);
    assert_eq!(wanted("=1.2.3"), Wanted::Exact("1.2.3".into()));
    for range in ["1", "1.x", "*", ">=1.2 <2", "1 || ^2.0.0-rc", "1.2.3 - 2", "~1.2"] {
        assert_eq!(wanted(range), Wanted::Range(range.into()), "{range}");
    }
    for tag in ["latest", "next-1", "1alpha", "x86"] {
        assert_eq!(wanted(tag), Wanted::Tag(tag.into()), "{tag}");
    }
    for wrong in ["a b", "||", "1 ||", "$x", ">", "-x"] {
        let package = Ecosystem::Npm.package(&format!("a@{wrong}"));
        assert!(package.is_err() || wrong == ">", "{wrong}");
    }
    for wrong in ["a==", "a=1", "a>=1,", "a==1;x", "a==x", "a>1.*", "a@next", "a 1"] {
        assert!(Ecosystem::PyPi.package(wrong).is_err(), "{wrong}");
    }
    assert!(matches!(
        Ecosystem::PyPi.package("a; python_version>'3'"),
        Err(PackageError::Marker(_))
    ));
}

#[test]
fn a_text_with_too_much_or_too_little_is_refused() {
    for text in [
        "",
        "npm",
        "npm:",
        "npm: --with a",
        "npm:a b",
        "npm:a --with",
        "npm:a --python 3",
        "npm:a --module b",
        "pypi:a --bin b --module c",
        "pypi:a --python x",
        "pypi:a --python 3.1.2.3",
        "cargo:a",
        "npm:a 'b",
        "npm:a --bin -x",
    ] {
        assert!(text.parse::<Install>().is_err(), "{text}");
    }
}

fn npm_spec() -> impl Strategy<Value = String> {
    let version = prop_oneof![
        Just(String::new()),
        "@[0-9]{1,3}\\.[0-9]\\.[0-9](-rc\\.[0-9])?",
        "@[~^]?[0-9](\\.[0-9x])?( \\|\\| >=[0-9] <[0-9]{2})?",
        "@[a-wyz][a-z-]{0,8}",
    ];
    ("(@[a-z][a-z0-9-]{0,8}/)?[A-Za-z][a-z0-9._-]{0,12}[a-z0]", version).prop_map(|(n, v)| n + &v)
}

fn pypi_spec() -> impl Strategy<Value = String> {
    let version = prop_oneof![
        Just(String::new()),
        " ?(==|>=|~=|!=|===) ?[0-9]{1,3}(\\.[0-9]){0,2}(rc1|\\.post2)?( ?, ?<[0-9])?",
        "==[0-9]\\.\\*",
    ];
    ("[A-Za-z]([a-z0-9._-]{0,12}[a-z0-9])?(\\[[a-z]{1,4}(, ?[A-Z]{1,4})?\\])?", version)
        .prop_map(|(n, v)| n + &v)
}

fn install() -> impl Strategy<Value = Install> {
    let program =
        prop_oneof![Just(Program::Default), "[a-z][a-z0-9._+-]{0,9}".prop_map(Program::Named),];
    let npm = (npm_spec(), prop::collection::vec(npm_spec(), 0..3), program.clone(), Just(None))
        .prop_map(|parts| (Ecosystem::Npm, parts));
    let python = prop::option::of("3(\\.[0-9]{1,2}){0,2}");
    let program = prop_oneof![program, "[a-z_]{1,5}(\\.[a-z]{1,3})?".prop_map(Program::Module)];
    let pypi = (pypi_spec(), prop::collection::vec(pypi_spec(), 0..3), program, python)
        .prop_map(|parts| (Ecosystem::PyPi, parts));
    let not_an_archive = |text: &String| Elsewhere::of(text).is_none();
    prop_oneof![npm, pypi].prop_filter_map("archives", move |(ecosystem, parts)| {
        let (package, with, program, python) = parts;
        let plain = not_an_archive(&package) && with.iter().all(not_an_archive);
        let read =
            |text: &String| ecosystem.package(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        plain.then(|| Install {
            ecosystem,
            package: read(&package),
            with: with.iter().map(read).collect(),
            python,
            program,
        })
    })
}

proptest! {
    #[test]
    fn the_text_of_what_is_installed_is_read_as_the_same(install in install()) {
        let text = install.to_string();
        prop_assert_eq!(text.parse::<Install>(), Ok(install), "{}", text);
    }

    #[test]
    fn any_text_that_is_read_is_written_so_that_it_is_read_again(text in "(npm|pypi):[ -~]{0,24}") {
        if let Ok(install) = text.parse::<Install>() {
            prop_assert_eq!(install.to_string().parse(), Ok(install));
        }
    }

    #[test]
    fn no_command_makes_it_panic(
        tool in "npx|uvx|pipx|cmd|env|python|npm",
        words in prop::collection::vec("[ -~é]{0,10}|-p|-c|--from|run|exec|/c|-m", 0..6),
    ) {
        let argv: Vec<_> = std::iter::once(tool).chain(words).collect();
        let _ = recognise(&argv, None);
    }
}
