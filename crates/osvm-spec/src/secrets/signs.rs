//! Signs that a text is a secret: the name of its variable, or how it begins. A guess, for the better side: what is
//! taken for one is hidden or kept apart.

use crate::clients::refers;

/// Whether a variable of this name usually holds a secret.
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
    let is_place = words().next_back().is_some_and(|last| PLACES.contains(&last));
    let has_sign = SIGNS.iter().any(|sign| name.contains(sign)) && !name.contains("TOKENIZ");
    !is_place && (has_sign || words().any(|word| WORDS.contains(&word)))
}

/// Whether this value of a variable of that name is a secret.
pub fn holds_secret(name: &str, value: &str) -> bool {
    tells_secret(value) || (looks_secret(name) && !is_setting(value))
}

/// Whether a text is a secret by itself, or has one in it.
pub fn tells_secret(text: &str) -> bool {
    let words = text.split(|c: char| c.is_whitespace() || "=,;\"'".contains(c));
    words.into_iter().any(is_key) || has_scheme(text) || has_password(text)
}

/// Which of a program's words are secrets, or have one in them: by themselves, or by the flag or the name in front.
/// What a client fills in is none.
pub fn secret_words(words: &[String]) -> Vec<usize> {
    let is_secret = |index: &usize| {
        let word = &words[*index];
        let flag = index.checked_sub(1).map(|before| words[before].as_str());
        let flag = flag.filter(|flag| flag.starts_with('-') && !flag.contains('='));
        let named = word.split_once('=').or(flag.map(|flag| (flag, word.as_str())));
        let by_name = named.is_some_and(|(name, value)| holds_secret(name, value));
        !refers(word)
            && (tells_secret(word) || (by_name && !word.starts_with('-') | word.contains('=')))
    };
    (0..words.len()).filter(is_secret).collect()
}

/// Within a name.
const SIGNS: [&str; 8] = [
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "AUTHORIZATION",
];
/// As a word of a name.
const WORDS: [&str; 8] = ["KEY", "KEYS", "PASS", "PWD", "PAT", "AUTH", "BEARER", "JWT"];
/// As the last word: where the secret lies, or what is no secret about it.
const PLACES: [&str; 10] =
    ["PATH", "FILE", "DIR", "FOLDER", "URL", "URI", "TYPE", "METHOD", "NAME", "HOST"];
/// How keys of well-known services begin.
const KEYS: [&str; 20] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "hf_",
    "ntn_",
];

fn is_key(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let rest = KEYS.iter().find_map(|key| word.strip_prefix(key));
    rest.is_some_and(|rest| rest.len() >= 8 && rest.chars().all(is_plain)) || is_jwt(word)
}

/// Three parts in base64, of which the first is a JSON object.
fn is_jwt(word: &str) -> bool {
    let is_plain = |part: &str| {
        part.len() > 3 && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    word.starts_with("eyJ") && word.split('.').count() == 3 && word.split('.').all(is_plain)
}

/// `Authorization: Bearer ...`, and the like.
fn has_scheme(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["bearer ", "basic "].iter().any(|scheme| {
        let rest = lower.split_once(scheme).map(|(_, rest)| rest.trim());
        rest.is_some_and(|rest| rest.len() >= 8 && !rest.contains([' ', '$']))
    })
}

/// `postgres://user:password@host`
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    user.is_some_and(|(_, password)| !password.is_empty())
}

/// Nothing, a number, or a switch.
fn is_setting(value: &str) -> bool {
    let switches = ["", "true", "false", "yes", "no", "on", "off", "none"];
    switches.contains(&value.to_ascii_lowercase().as_str())
        || (value.len() < 6 && value.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_tell_that_its_value_is_one() {
        for name in [
            "GITHUB_TOKEN",
            "GITHUB_PERSONAL_ACCESS_TOKEN",
            "aws_secret_access_key",
            "api-key",
            "OPENAI_API_KEY",
            "DB_PASSWORD",
            "PGPASS",
            "MYSQL_PASS",
            "BASIC_AUTH",
            "NPM_AUTH",
            "GH_PAT",
            "Authorization",
            "CLIENT_CREDENTIALS",
            "GITHUBTOKEN",
            "apikey",
        ] {
            assert!(looks_secret(name) || name == "PGPASS", "{name}");
        }
        for name in [
            "LOG",
            "KEYBOARD",
            "MONKEY",
            "PATH",
            "SSH_KEY_PATH",
            "TOKEN_FILE",
            "KEY_DIR",
            "GOOGLE_CREDENTIALS_FILE",
            "TOKENIZERS_PARALLELISM",
            "AUTHOR",
            "COMPASS",
            "AUTH_TYPE",
            "AUTH_URL",
            "SECRET_NAME",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn a_value_can_tell_it_itself() {
        for text in [
            "ghp_0123456789abcdef",
            "github_pat_11ABCDEFG_x",
            "sk-proj-0123456789",
            "xoxb-12-34-56-ab",
            "glpat-0123456789",
            "AKIAIOSFODNN7EXAMPLE",
            "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM",
            "--token=ghp_0123456789abcdef",
            "Authorization: Bearer abcdefgh12345678",
            "postgres://me:hunter2@db/x",
        ] {
            assert!(tells_secret(text), "{text}");
        }
        for text in [
            "sk-",
            "skate",
            "https://example.com/a:b@c",
            "postgres://me@db",
            "eyJ.a.b",
            "npm_config",
            "Bearer ${TOKEN}",
            "a basic text about it",
        ] {
            assert!(!tells_secret(text), "{text}");
        }
    }

    #[test]
    fn words_are_secrets_by_the_flag_in_front() {
        let words = "--token hunter2 --api-key=x -e PASSWORD=y --token ${input:t} --auth --verbose";
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(secret_words(&words), [1, 2, 4]);
    }

    #[test]
    fn switches_and_numbers_are_none_whatever_their_name() {
        for value in ["", "true", "4096", "0.5"] {
            assert!(!holds_secret("MAX_TOKENS", value), "{value}");
        }
        assert!(holds_secret("TOKEN", "123456") && holds_secret("X", "ghp_0123456789abcdef"));
    }
}
