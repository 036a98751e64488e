//! A JSON-RPC message as osvm sees it: the few fields that say where it goes. What osvm need not
//! understand is borrowed as it was spelled and passes through byte for byte.

use std::fmt;

use serde::Serialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;

use crate::era::Era;

/// One message, borrowed from its text.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    text: &'a str,
    /// A number or a string; `null` or absent in an error that answers no request in particular.
    pub id: Option<&'a RawValue>,
    pub method: Option<String>,
    pub params: Option<&'a RawValue>,
    pub result: Option<&'a RawValue>,
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Notification,
    Response,
}

/// Why a text is no message.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    #[error("no JSON-RPC message: {0}")]
    Json(serde_json::Error),
    #[error("a message with an id that is neither a number nor a string")]
    Id,
    #[error("a message that is not exactly one of request, notification and response")]
    Kind,
}

impl<'a> Envelope<'a> {
    /// Takes the text apart in one pass, whatever its depth.
    ///
    /// A field that occurs twice, or that differs from a known one by case only, is refused: other
    /// parsers (Go's ignores case) would find another message in that text than this one does.
    pub fn parse(text: &'a str) -> Result<Self, EnvelopeError> {
        let [version, id, method, params, result, error] =
            fields(text, NAMES).map_err(EnvelopeError::Json)?;
        if version.map(RawValue::get) != Some(r#""2.0""#) {
            return Err(EnvelopeError::Json(serde_json::Error::custom("not of version 2.0")));
        }
        let method = method.map(|method| serde_json::from_str(method.get())).transpose();
        let method: Option<String> = method.map_err(EnvelopeError::Json)?;
        let error = error.filter(|error| !is_null(error));
        let result = result.filter(|result| error.is_none() || !is_null(result));
        Self { text, id, method, params, result, error }.checked()
    }

    fn checked(self) -> Result<Self, EnvelopeError> {
        let bodies = [self.method.is_some(), self.result.is_some(), self.error.is_some()];
        match self.id.map(|id| id.get().as_bytes()[0]) {
            _ if bodies.into_iter().filter(|present| *present).count() != 1 => {
                Err(EnvelopeError::Kind)
            }
            None | Some(b'0'..=b'9' | b'-' | b'"' | b'n') => Ok(self),
            Some(_) => Err(EnvelopeError::Id),
        }
    }

    /// All of it, as it was spelled.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// A request with the id `null` counts as a notification: nobody could answer it.
    pub fn kind(&self) -> Kind {
        match (&self.method, self.id) {
            (None, _) => Kind::Response,
            (Some(_), Some(id)) if !is_null(id) => Kind::Request,
            (Some(_), _) => Kind::Notification,
        }
    }

    /// The same message, byte for byte, under another id. One without an id stays as it is.
    pub fn with_id(&self, id: &RawValue) -> String {
        let pieces = self.id.map(|old| (old, id.get()));
        self.with(pieces.as_slice())
    }

    /// The same message, byte for byte, but for some pieces of it, in any order, none within another.
    pub(crate) fn with(&self, pieces: &[(&RawValue, &str)]) -> String {
        with(self.text, pieces.iter().map(|(old, new)| (old.get(), *new)))
    }
}

/// A text, byte for byte, but for some pieces of it, in any order, none within another.
pub(crate) fn with<'p>(text: &str, pieces: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let place = |piece: &str| piece.as_ptr().addr() - text.as_ptr().addr();
    let mut pieces: Vec<_> = pieces.map(|(old, new)| (place(old), old.len(), new)).collect();
    pieces.sort_by_key(|(place, ..)| *place);
    let grown: usize = pieces.iter().map(|(.., new)| new.len()).sum();
    let (mut whole, mut copied) = (String::with_capacity(text.len() + grown), 0);
    for (place, length, new) in pieces {
        whole += &text[copied..place];
        whole += new;
        copied = place + length;
    }
    whole + &text[copied..]
}

/// A request as a line to write.
pub fn request(id: u64, method: &str, params: Option<&RawValue>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: u64,
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a RawValue>,
    }
    line(&Request { jsonrpc: "2.0", id, method, params })
}

/// The same under an id that is a text.
pub(crate) fn request_named(id: &str, method: &str, params: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: &'a str,
        method: &'a str,
        params: &'a RawValue,
    }
    line(&Request { jsonrpc: "2.0", id, method, params })
}

/// A notification as a line to write.
pub fn notification(method: &str, params: Option<&RawValue>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Notification<'a> {
        jsonrpc: &'static str,
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a RawValue>,
    }
    line(&Notification { jsonrpc: "2.0", method, params })
}

/// The notification that a request is wanted no more, as a line to write.
pub(crate) fn cancelled(id: &impl Serialize, reason: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Params<'a, I> {
        request_id: &'a I,
        reason: &'a str,
    }
    let params = to_raw_value(&Params { request_id: id, reason });
    let params = params.expect("ids and texts serialize");
    notification("notifications/cancelled", Some(&params))
}

/// The answer to a request, as a line to write.
pub(crate) fn result(id: &RawValue, result: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        result: &'a RawValue,
    }
    line(&Response { jsonrpc: "2.0", id, result })
}

/// The answer to a request that has failed, as a line to write.
pub(crate) fn failure(id: &RawValue, error: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        error: &'a RawValue,
    }
    line(&Response { jsonrpc: "2.0", id, error })
}

/// The answer that says nothing but yes, as a line to write.
pub fn empty_result(id: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Empty {}
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        result: Empty,
    }
    line(&Response { jsonrpc: "2.0", id, result: Empty {} })
}

/// The answer of a tool that failed, as a line to write.
pub fn tool_error(id: &RawValue, message: &str, era: Era) -> Vec<u8> {
    #[derive(Serialize)]
    struct Text<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        text: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        result_type: Option<&'static str>,
        content: [Text<'a>; 1],
        is_error: bool,
    }
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        result: Failure<'a>,
    }
    let result_type = (era == Era::Modern).then_some("complete");
    let content = [Text { kind: "text", text: message }];
    line(&Response { jsonrpc: "2.0", id, result: Failure { result_type, content, is_error: true } })
}

/// The refusal of a request, as a line to write.
pub fn error(id: &RawValue, code: i64, message: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        code: i64,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        error: Refusal<'a>,
    }
    line(&Response { jsonrpc: "2.0", id, error: Refusal { code, message } })
}

/// JSON on one line: what was passed through may be spread over several, and within JSON a line end
/// is only ever space between tokens.
fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("string keys and JSON values serialize");
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Calls `visit` with each element of an array, one at a time: a long array of little is much larger
/// in memory than on the line. Stops with an error when `visit` returns false.
pub(crate) fn each_element<'a>(
    array: &'a str,
    visit: &mut dyn FnMut(&'a RawValue) -> bool,
) -> Result<(), serde_json::Error> {
    let mut array = serde_json::Deserializer::from_str(array);
    Elements(visit).deserialize(&mut array)?;
    array.end()
}

struct Elements<'v, 'a>(&'v mut dyn FnMut(&'a RawValue) -> bool);

impl<'a> DeserializeSeed<'a> for Elements<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, array: D) -> Result<(), D::Error> {
        array.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Elements<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element()? {
            if !(self.0)(element) {
                return Err(A::Error::custom("too many elements"));
            }
        }
        Ok(())
    }
}

/// What a message's known fields are called.
const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// The values of those fields of an object that are known, in the order of `names`. One that occurs twice, or that
/// differs from a known one by case only, is refused, as [`Envelope::parse`] says.
pub(crate) fn fields<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut object = serde_json::Deserializer::from_str(object);
    let fields = object.deserialize_map(Known(names))?;
    object.end()?;
    Ok(fields)
}

/// One field of an object, if it is one and says it once.
pub(crate) fn field<'a>(object: Option<&'a RawValue>, name: &str) -> Option<&'a RawValue> {
    let [value] = fields(object?.get(), [name]).ok()?;
    value
}

struct Known<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Known<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = [None; N];
        while let Some(key) = map.next_key::<String>()? {
            match self.0.iter().position(|name| *name == key) {
                Some(known) if fields[known].is_none() => {
                    fields[known] = Some(map.next_value()?);
                }
                None if !is_alike(&self.0, &key) => drop(map.next_value::<IgnoredAny>()?),
                _ => return Err(A::Error::custom(TWICE)),
            }
        }
        Ok(fields)
    }
}

/// One page of a list, in a result.
#[derive(Debug, Default)]
pub(crate) struct Page<'a> {
    /// Whether there is a list at all.
    pub(crate) is_listed: bool,
    /// The cursor of the next one.
    pub(crate) next: Option<&'a RawValue>,
}

impl<'a> Page<'a> {
    /// Calls `visit` with each item of the list in that field, as [`each_element`] does. Lists are long: it takes one
    /// pass. Fields are read as [`fields`] does.
    pub(crate) fn read(
        result: &'a str,
        list: &str,
        visit: &mut dyn FnMut(&'a RawValue) -> bool,
    ) -> Result<Self, serde_json::Error> {
        let mut result = serde_json::Deserializer::from_str(result);
        let page = result.deserialize_map(Items { list, visit })?;
        result.end()?;
        Ok(page)
    }
}

struct Items<'n, 'v, 'a> {
    list: &'n str,
    visit: &'v mut dyn FnMut(&'a RawValue) -> bool,
}

impl<'a> Visitor<'a> for Items<'_, '_, 'a> {
    type Value = Page<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (names, mut page) = ([self.list, "nextCursor"], Page::default());
        while let Some(key) = map.next_key::<String>()? {
            match names.iter().position(|name| *name == key) {
                Some(0) if !page.is_listed => {
                    page.is_listed = true;
                    map.next_value_seed(Elements(&mut *self.visit))?;
                }
                Some(1) if page.next.is_none() => page.next = Some(map.next_value()?),
                None if !is_alike(&names, &key) => drop(map.next_value::<IgnoredAny>()?),
                _ => return Err(A::Error::custom(TWICE)),
            }
        }
        Ok(page)
    }
}

const TWICE: &str = "a field occurs twice";

/// Whether it differs from one of the names by case only.
fn is_alike(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| same_but_for_case(name, key))
}

/// Compares as Go's parser does, to which a long s is an s.
fn same_but_for_case(name: &str, key: &str) -> bool {
    name.chars().flat_map(char::to_uppercase).eq(key.chars().flat_map(char::to_uppercase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Envelope<'_>, EnvelopeError> {
        Envelope::parse(text)
    }

    /// JSON in the spellings that a round trip through a parser would lose.
    fn spelled() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            Just("1.0e+02".to_owned()),
            Just("-0".to_owned()),
            Just("123456789012345678901234567890.10".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
        ];
        let string = prop_oneof![
            Just(r#""\u0061\/""#.to_owned()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        let leaf = prop_oneof![number, string, Just("true".to_owned()), Just("null".to_owned())];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let pair = (any::<String>(), inner.clone()).prop_map(|(key, value)| {
                format!(" {}\t:{value}", serde_json::to_string(&key).unwrap())
            });
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|all| format!("[ {} ]", all.join(" ,"))),
                prop::collection::vec(pair, 0..4)
                    .prop_map(|all| format!("{{{}\n}}", all.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_but_the_id_passes_through_byte_for_byte(
            params in spelled(),
            extra in spelled(),
            id in prop_oneof![Just("1.50".to_owned()), Just(r#""\u0061""#.to_owned())],
            order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
        ) {
            let fields = [
                r#""jsonrpc" : "2.0""#.to_owned(),
                format!("\t\"id\":{id} "),
                r#""method":"tools\/call""#.to_owned(),
                format!("\"params\": {params}"),
                format!("\"X-unknown\":{extra}"),
            ];
            let message = |fields: &[String; 5]| format!("{{{}}}", order.map(|i| fields[i].as_str()).join(","));
            let text = message(&fields);
            let envelope = parse(&text).unwrap();
            prop_assert_eq!(envelope.kind(), Kind::Request);
            prop_assert_eq!(envelope.method.as_deref(), Some("tools/call"));
            prop_assert_eq!(envelope.params.unwrap().get(), params.trim());
            prop_assert_eq!(envelope.id.unwrap().get(), &id);
            let other = RawValue::from_string("\"other\"".to_owned()).unwrap();
            let mut expected = fields.clone();
            expected[1] = "\t\"id\":\"other\" ".to_owned();
            prop_assert_eq!(envelope.with_id(&other), message(&expected));
        }

        #[test]
        fn what_is_written_is_one_line_and_reads_back(params in spelled(), id in any::<u64>()) {
            let raw = RawValue::from_string(params.clone()).unwrap();
            let line = request(id, "a\nb", Some(&raw));
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            let text = String::from_utf8(line).unwrap();
            let envelope = parse(&text).unwrap();
            prop_assert_eq!(envelope.id.unwrap().get(), id.to_string());
            prop_assert_eq!(envelope.method.as_deref(), Some("a\nb"));
            prop_assert_eq!(envelope.params.unwrap().get(), params.replace('\n', " "));
        }

        #[test]
        fn no_text_is_too_strange_to_refuse(text in any::<String>(), json in spelled()) {
            let _ = (parse(&text), parse(&json));
            let _ = parse(&format!(r#"{{"jsonrpc":"2.0","id":{json},"result":{text}}}"#));
        }
    }

    #[test]
    fn messages_are_told_apart() {
        let kind =
            |fields: &str| parse(&format!(r#"{{"jsonrpc":"2.0",{fields}}}"#)).map(|m| m.kind());
        assert_eq!(kind(r#""id":1,"method":"a""#).unwrap(), Kind::Request);
        assert_eq!(kind(r#""method":"a""#).unwrap(), Kind::Notification);
        assert_eq!(kind(r#""id":null,"method":"a""#).unwrap(), Kind::Notification);
        assert_eq!(kind(r#""id":1,"result":null"#).unwrap(), Kind::Response);
        assert_eq!(kind(r#""id":null,"error":{}"#).unwrap(), Kind::Response);
        for none in [r#""id":1"#, r#""id":1,"result":1,"error":{}"#, r#""method":"a","result":1"#] {
            assert!(matches!(kind(none), Err(EnvelopeError::Kind)), "{none}");
        }
        for id in ["true", "[1]", "{}"] {
            let message = format!(r#""id":{id},"method":"a""#);
            assert!(matches!(kind(&message), Err(EnvelopeError::Id)), "{id}");
        }
    }

    #[test]
    fn a_null_beside_its_opposite_is_absent() {
        let both = r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#;
        assert!(parse(both).unwrap().error.is_none());
        let both = r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#;
        assert!(parse(both).unwrap().result.is_none());
        let both = r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#;
        assert_eq!(parse(both).unwrap().result.unwrap().get(), "null");
    }

    #[test]
    fn text_that_another_parser_would_read_differently_is_refused() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","method":"ping","\u006dethod":"tools/call"}"#,
            "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"param\u{17f}\":{}}",
            r#"{"jsonrpc":"1.0","method":"ping"}"#,
            r#"{"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":7}"#,
            r#"{"jsonrpc":"2.0","method":"ping"} {}"#,
            r#"[{"jsonrpc":"2.0","method":"ping"}]"#,
        ] {
            assert!(matches!(parse(text), Err(EnvelopeError::Json(_))), "{text}");
        }
    }

    #[test]
    fn a_page_is_read_in_one_pass_as_its_fields_and_elements_are_in_several() {
        let read = |result| {
            let mut items = Vec::new();
            let page = Page::read(result, "tools", &mut |item| {
                items.push(item.get());
                items.len() < 3
            })?;
            let next = page.next.map(RawValue::get);
            Ok::<_, serde_json::Error>((items, page.is_listed, next))
        };
        let full = read(r#"{"x":{"tools":7}, "tools" : [ {"a":1.0} ,2],"nextCursor":"n"}"#);
        assert_eq!(full.unwrap(), (vec![r#"{"a":1.0}"#, "2"], true, Some(r#""n""#)));
        assert_eq!(read("{}").unwrap(), (vec![], false, None));
        for broken in [
            r#"{"tools":[],"tools":[]}"#,
            r#"{"tools":[],"Tools":[]}"#,
            r#"{"nextCursor":"a","nextcursor":"b"}"#,
            r#"{"tools":{}}"#,
            r#"{"tools":[1,2,3]}"#,
            "[]",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn fields_that_another_parser_would_find_elsewhere_are_refused() {
        let found = |text: &str| {
            let found = fields(text, ["a", "b"]);
            found.map(|values| values.map(|value| value.map(ToString::to_string)))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found(r#"{"x":{"a":2},"b":1.0 ,"x":3}"#).unwrap(), [None, text("1.0")]);
        assert_eq!(found(r#"{"\u0061":[ ]}"#).unwrap(), [text("[ ]"), None]);
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"A":1}"#, r#"{"\u0061":1,"a":1}"#, "[1]", "7"] {
            assert!(found(twice).is_err(), "{twice}");
        }
    }
}
