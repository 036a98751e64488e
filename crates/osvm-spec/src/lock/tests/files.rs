//! The file's text.

use proptest::prelude::*;

use super::*;

fn lock() -> Lock {
    let pending = Locked { tools: Tools::Pending, packages: BTreeSet::new(), ..locked() };
    let servers = [("b.c".parse().unwrap(), pending), ("a".parse().unwrap(), locked())];
    Lock { servers: servers.into_iter().collect() }
}

fn fault(from: &str, to: &str) -> LockError {
    let text = lock().to_text();
    assert!(text.contains(from), "{text}");
    Lock::parse(&text.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn a_lock_is_written_in_one_way_and_read_again() {
    let text = lock().to_text();
    assert_eq!(Lock::parse(&text), Ok(lock()));
    assert_eq!(Lock::parse(&text).unwrap().to_text(), text);
    let a = "a".repeat(64);
    let hash = tool(ECHO).hash();
    let expected = format!(
        "# What you last accepted of each server. Written by osvm: `osvm mcp accept NAME` changes it.\n\
         osvm_lock = 1\n\n[servers.a]\nimage = \"sha256:{a}\"\norigin = \"npm:server@1\"\n\n\
         [[servers.a.packages]]\nname = \"npm:server\"\nversion = \"1.0.0\"\nintegrity = \"sha512-x\"\n"
    );
    assert!(text.starts_with(&expected), "{text}");
    let echo = format!(
        "[servers.a.tools.echo]\nhash = \"{hash}\"\n\
         definition = '{{\"description\":\"Says it again\",\"name\":\"echo\",\"title\":\"Echo\"}}'\n\n\
         [servers.\"b.c\"]\nimage = \"sha256:{a}\"\norigin = \"npm:server@1\"\npending = true\n"
    );
    assert!(text.ends_with(&echo), "{text}");
}

#[test]
fn a_hash_is_never_another_in_a_later_version() {
    let hash = tool(ECHO).hash().to_string();
    assert_eq!(hash, "sha256:242bc0965ac83b98cfa3b77ce5f1a5e2d09dbd30456c3976ea04c5aaeb3dfe29");
}

#[test]
fn what_was_changed_by_hand_is_noticed() {
    assert!(matches!(fault("Says it again", "Says it twice"), LockError::Hash { .. }));
    assert!(matches!(fault("tools.echo", "tools.other"), LockError::Hash { .. }));
    assert!(matches!(fault("{\"description\"", "[\"description\""), LockError::Tool { .. }));
    assert!(matches!(fault("sha512-x", ""), LockError::Pin { what: "integrity", .. }));
    assert!(matches!(fault("origin =", "other ="), LockError::Syntax(_)));
    assert!(matches!(fault("[servers.a]", "[servers.\"../a\"]"), LockError::Syntax(_)));
    assert!(matches!(fault("= \"npm:server@1\"", "= 1"), LockError::Syntax(_)));
    let pending = fault("origin = \"npm:server@1\"", "origin = \"x\"\npending = true");
    assert!(matches!(pending, LockError::Pending(_)));
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let later = Lock::parse("osvm_lock = 2\nservers = 5").unwrap_err().to_string();
    assert_eq!(later, "lock file has version 2, known is 1");
    assert_eq!(Lock::parse("[microvm]"), Err(LockError::NoVersion));
    assert!(matches!(Lock::parse("osvm_lock ="), Err(LockError::Syntax(_))));
    assert_eq!(Lock::parse("osvm_lock = 1"), Ok(Lock::default()));
    assert_eq!(Lock::parse(&" ".repeat(Lock::MAX_BYTES + 1)), Err(LockError::TooLong));
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let named = any::<String>().prop_filter("named", |name| !name.is_empty());
    let definition = (named, any::<String>()).prop_map(|(name, text)| {
        tool(&serde_json::json!({ "name": name, "description": text }).to_string())
    });
    let tools = prop::collection::vec(definition, 0..4)
        .prop_map(|all| all.into_iter().map(|tool| (tool.name().to_owned(), tool)).collect())
        .prop_map(Tools::Known);
    let package = ("(npm|pypi):[a-z]{1,4}", "[0-9.]{1,5}", "sha512-[A-Za-z0-9+/]{4}=")
        .prop_map(|(name, version, integrity)| pin(&name, &version, &integrity));
    let packages = prop::collection::btree_set(package, 0..4);
    let locked = (any::<String>(), packages, prop_oneof![Just(Tools::Pending), tools]);
    let locked = locked.prop_map(|(origin, packages, tools)| Locked {
        image: digest('c'),
        origin,
        packages,
        tools,
    });
    let name = "[a-z][a-z.-]{0,6}".prop_map(|name| name.parse().unwrap());
    prop::collection::btree_map(name, locked, 0..3).prop_map(|servers| Lock { servers })
}

proptest! {
    #[test]
    fn any_lock_is_read_as_it_was_written(lock in any_lock()) {
        let text = lock.to_text();
        prop_assert_eq!(Lock::parse(&text), Ok(lock), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(osvm_lock = 1\n)?[a-z\\[\\]{}=\". \n0-9]{0,60}") {
        let _ = Lock::parse(&text);
    }
}
