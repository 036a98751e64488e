//! The canonical form, beside another implementation of the RFC.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn form(json: &str) -> String {
    canonical(json).unwrap()
}

#[test]
fn keys_are_sorted_as_the_rfc_sorts_them_and_blanks_are_gone() {
    let sorted = form(
        " { \"\u{20ac}\" : 1 , \"\\r\" : 2, \"\u{fb33}\": 3, \"1\" : [ ], \"\u{1f600}\": {}, \"\u{80}\": null } ",
    );
    assert_eq!(
        sorted,
        "{\"\\r\":2,\"1\":[],\"\u{80}\":null,\"\u{20ac}\":1,\"\u{1f600}\":{},\"\u{fb33}\":3}"
    );
    assert_eq!(
        form(r#""\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/""#),
        "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\""
    );
}

#[test]
fn numbers_are_laid_out_as_the_rfc_does() {
    for (written, text) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0e5", "0"),
        ("1.0", "1"),
        ("1e2", "100"),
        ("100", "100"),
        ("333333333.33333329", "333333333.33333329"),
        ("1E30", "1e+30"),
        ("4.50", "4.5"),
        ("2e-3", "0.002"),
        ("0.000000000000000000000000001", "1e-27"),
        ("1e21", "1e+21"),
        ("100000000000000000000", "100000000000000000000"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("-1.5e-10", "-1.5e-10"),
        ("123e-2", "1.23"),
    ] {
        assert_eq!(form(written), text, "{written}");
    }
}

#[test]
fn numbers_that_a_double_would_round_together_stay_apart() {
    for (one, other) in [
        ("9007199254740992", "9007199254740993"),
        ("18446744073709551616", "18446744073709551617"),
        ("0.1", "0.1000000000000000055"),
        ("1e400", "2e400"),
        ("1e-400", "0"),
    ] {
        assert_ne!(form(one), form(other));
    }
    assert_eq!(form("9007199254740993"), "9007199254740993");
    assert!(matches!(canonical("1e99999999999"), Err(CanonicalError::Number(_))));
}

#[test]
fn what_readers_would_take_differently_is_refused() {
    let twice = canonical(r#"{"a":{"b":1,"\u0062":2}}"#);
    assert_eq!(twice, Err(CanonicalError::Duplicate("b".into())));
    for text in ["", "{", "[1,]", "01", "\"\\ud800\"", "nul", "1 2", "{1:2}", "\"\n\""] {
        assert!(matches!(canonical(text), Err(CanonicalError::Json(_))), "{text}");
    }
    assert!(canonical(&"[".repeat(200_000)).is_err());
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(canonical(&deep), Err(CanonicalError::Deep));
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-9_007_199_254_740_992_i64..=9_007_199_254_740_992).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let members = prop::collection::hash_map(".{0,6}", inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_is_the_rfcs_own_where_all_numbers_are_doubles(value in json()) {
        let expected = serde_json_canonicalizer::to_string(&value).unwrap();
        prop_assert_eq!(form(&value.to_string()), &*expected);
        prop_assert_eq!(form(&serde_json::to_string_pretty(&value).unwrap()), &*expected);
        prop_assert_eq!(form(&expected), &*expected);
    }

    #[test]
    fn whole_numbers_have_one_form_each(a in any::<u128>(), b in any::<u128>(), zeroes in 0..5_usize) {
        prop_assert_eq!(form(&a.to_string()) == form(&b.to_string()), a == b);
        let written = format!("{a}{}e-{zeroes}", "0".repeat(zeroes));
        prop_assert_eq!(form(&written), form(&a.to_string()));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}:,\"\\\\0-9eE+.a-]{0,32}") {
        if let Ok(form) = canonical(&text) {
            prop_assert_eq!(canonical(&form), Ok(form.clone()));
        }
    }
}
