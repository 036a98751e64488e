//! Tokens of the gateway, added and removed.

use toml_edit::{Array, ArrayOfTables, Item, Table};

use super::{EditError, document, take};
use crate::Config;
use crate::config::{Token, TokenName};

/// Text with the token after all others.
pub fn add_token(text: &str, file: &str, token: &Token) -> Result<String, EditError> {
    let config = Config::parse(text, file)?;
    if config.gateway.token(&token.name).is_some() {
        return Err(EditError::TokenExists(token.name.clone()));
    }
    let mut document = document(text);
    let before = document.trailing().as_str().unwrap_or_default().to_owned();
    let first = document.is_empty() && before.is_empty();
    let entry = toml_edit::ser::to_document(token).expect("a token is plain text and numbers");
    let mut entry = entry.as_table().clone();
    let mut implicit = Table::new();
    implicit.set_implicit(true);
    let gateway = document.entry("gateway").or_insert(Item::Table(implicit));
    let none: Item = match gateway.is_inline_table() {
        true => Array::new().into(),
        false => ArrayOfTables::new().into(),
    };
    let gateway = gateway.as_table_like_mut().expect("it was parsed as a table");
    match gateway.entry("tokens").or_insert(none) {
        Item::ArrayOfTables(tables) => {
            entry.decor_mut().set_prefix(before + if first { "" } else { "\n" });
            // Last in the file, wherever the other tokens are.
            entry.set_position(Some(isize::MAX));
            tables.push(entry);
            document.set_trailing("");
        }
        inline => drop(inline.as_array_mut().map(|array| array.push(entry.into_inline_table()))),
    }
    let text = document.to_string();
    Config::parse(&text, file)?;
    Ok(text)
}

/// Text without the token and the comment block right above it.
pub fn remove_token(text: &str, file: &str, name: &TokenName) -> Result<String, EditError> {
    let config = Config::parse(text, file)?;
    let index = config.gateway.tokens.iter().position(|token| token.name == *name);
    let index = index.ok_or_else(|| EditError::NoSuchToken(name.clone()))?;
    let mut document = document(text);
    take(&mut document, &["gateway", "tokens"], index);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Rights, TokenDigest};

    const FILE: &str = "# mine\n[microvm] # the VMs\nenabled = true\n\n# about a\n[[servers]]\nid = \"a\"\n\n# the end\n";

    fn token(name: &str) -> Token {
        Token {
            name: name.parse().unwrap(),
            sha256: TokenDigest::of(name),
            rights: Rights {
                servers: Some(vec!["a".parse().unwrap()]),
                tools: Some(vec!["a__*".parse().unwrap()]),
                requests_per_minute: None,
            },
        }
    }

    #[test]
    fn an_added_token_comes_last_and_is_removed_without_a_trace() {
        for file in [FILE, "", "[gateway] # mine\n", "[gateway]\ntokens = [] # none\n"] {
            let one = add_token(file, "f", &token("one")).unwrap();
            let both = add_token(&one, "f", &token("two")).unwrap();
            let read = Config::parse(&both, "f").unwrap().gateway.tokens;
            assert_eq!(read, [token("one"), token("two")], "{both}");
            let rest = remove_token(&both, "f", &"one".parse().unwrap()).unwrap();
            assert_eq!(Config::parse(&rest, "f").unwrap().gateway.tokens, [token("two")], "{rest}");
            let gone = remove_token(&rest, "f", &"two".parse().unwrap()).unwrap();
            assert_eq!(gone.trim_end(), file.trim_end());
        }
    }

    #[test]
    fn a_token_is_added_to_a_table_on_one_line_too() {
        let text = add_token("gateway = {}\n# the end\n", "f", &token("one")).unwrap();
        assert_eq!(Config::parse(&text, "f").unwrap().gateway.tokens, [token("one")], "{text}");
        assert!(text.ends_with("# the end\n"), "{text}");
    }

    #[test]
    fn an_entry_that_is_cut_off_is_no_token() {
        let text = add_token("", "f", &token("one")).unwrap();
        for end in 1..text.trim_end().len() {
            if let Ok(cut) = Config::parse(&text[..end], "f") {
                assert!(cut.gateway.tokens.is_empty(), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn what_is_there_is_not_added_and_what_is_not_is_not_removed() {
        let text = add_token(FILE, "f", &token("one")).unwrap();
        assert!(text.starts_with(FILE), "{text}");
        let name: TokenName = "one".parse().unwrap();
        let again = add_token(&text, "f", &token("one"));
        assert_eq!(again, Err(EditError::TokenExists(name.clone())));
        assert_eq!(remove_token(FILE, "f", &name), Err(EditError::NoSuchToken(name)));
    }
}
