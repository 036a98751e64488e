//! A client's file as text and tree: JSON, with the comments and trailing commas that some clients allow.

use std::collections::HashSet;

use jsonc_parser::ast::{Array, Object, ObjectProp, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{ClientFileError, Fault};

/// Longest file, in bytes. Claude Code keeps whole conversations in its file.
pub const MAX: usize = 16 << 20;

/// What some editors put in front of a text.
const BOM: char = '\u{feff}';

/// A file that was read.
#[derive(Debug, Clone)]
pub struct ClientFile<'t> {
    /// Without the byte order mark, from whose end positions count.
    pub(super) text: &'t str,
    has_bom: bool,
    /// `None` when nothing but white space and comments is there.
    pub(super) root: Option<Object<'t>>,
}

pub(super) const STRICT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

impl<'t> ClientFile<'t> {
    pub fn parse(text: &'t str) -> Result<Self, ClientFileError> {
        if text.len() > MAX {
            return Err(ClientFileError { line: 1, fault: Fault::TooLong });
        }
        let (has_bom, text) = text.strip_prefix(BOM).map_or((false, text), |rest| (true, rest));
        let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT);
        let parsed = parsed.map_err(|error| ClientFileError {
            line: line(text, error.range().start),
            fault: Fault::Syntax(lowercase(&error.kind().to_string())),
        })?;
        let root = match parsed.value {
            None => None,
            Some(Value::Object(object)) => Some(object),
            Some(other) => {
                let fault = Fault::Type { key: "the file".to_owned(), wanted: "an object" };
                return Err(ClientFileError { line: line(text, other.start()), fault });
            }
        };
        Ok(Self { text, has_bom, root })
    }

    pub(super) fn fault(&self, at: usize, fault: Fault) -> ClientFileError {
        ClientFileError { line: line(self.text, at), fault }
    }

    pub(super) fn wrong(
        &self,
        at: &impl Ranged,
        key: &str,
        wanted: &'static str,
    ) -> ClientFileError {
        self.fault(at.start(), Fault::Type { key: key.to_owned(), wanted })
    }

    /// The property, which must not stand there twice.
    pub(super) fn property<'o>(
        &self,
        object: &'o Object<'t>,
        key: &str,
    ) -> Result<Option<&'o ObjectProp<'t>>, ClientFileError> {
        let mut found = object.properties.iter().filter(|property| name(property) == key);
        let first = found.next();
        match found.next() {
            Some(second) => Err(self.fault(second.start(), Fault::Twice(key.to_owned()))),
            None => Ok(first),
        }
    }

    /// Its properties, none of which stands there twice.
    pub(super) fn properties<'o>(
        &self,
        object: &'o Object<'t>,
    ) -> Result<&'o [ObjectProp<'t>], ClientFileError> {
        let mut seen = HashSet::new();
        match object.properties.iter().find(|property| !seen.insert(name(property))) {
            Some(twice) => Err(self.fault(twice.start(), Fault::Twice(name(twice).to_owned()))),
            None => Ok(&object.properties),
        }
    }

    /// `null` is as good as nothing.
    pub(super) fn object<'o>(
        &self,
        object: &'o Object<'t>,
        key: &str,
    ) -> Result<Option<&'o Object<'t>>, ClientFileError> {
        match self.property(object, key)?.map(|property| &property.value) {
            None | Some(Value::NullKeyword(_)) => Ok(None),
            Some(Value::Object(inner)) => Ok(Some(inner)),
            Some(other) => Err(self.wrong(other, key, "an object")),
        }
    }

    pub(super) fn array<'o>(
        &self,
        object: &'o Object<'t>,
        key: &str,
    ) -> Result<Option<&'o Array<'t>>, ClientFileError> {
        match self.property(object, key)?.map(|property| &property.value) {
            None | Some(Value::NullKeyword(_)) => Ok(None),
            Some(Value::Array(inner)) => Ok(Some(inner)),
            Some(other) => Err(self.wrong(other, key, "an array")),
        }
    }

    pub(super) fn string(
        &self,
        object: &Object<'t>,
        key: &str,
    ) -> Result<Option<String>, ClientFileError> {
        match self.property(object, key)?.map(|property| &property.value) {
            None | Some(Value::NullKeyword(_)) => Ok(None),
            Some(value) => self.word(value, key).map(Some),
        }
    }

    pub(super) fn flag(
        &self,
        object: &Object<'t>,
        key: &str,
    ) -> Result<Option<bool>, ClientFileError> {
        let property = self.property(object, key)?;
        Ok(property.and_then(|property| Some(property.value.as_boolean_lit()?.value)))
    }

    /// A text that a program can be given.
    pub(super) fn word(&self, value: &Value<'t>, key: &str) -> Result<String, ClientFileError> {
        match value {
            Value::StringLit(text) if text.value.contains('\0') => {
                Err(self.fault(text.start(), Fault::ZeroByte(key.to_owned())))
            }
            Value::StringLit(text) => Ok(text.value.to_string()),
            other => Err(self.wrong(other, key, "a text")),
        }
    }

    /// What stands at these positions.
    pub(super) fn slice(&self, range: Range) -> &'t str {
        &self.text[range.start..range.end]
    }

    /// The whole text, changed or not, with what was in front of it.
    pub(super) fn whole(&self, text: &str) -> String {
        let bom = if self.has_bom { BOM.to_string() } else { String::new() };
        bom + text
    }
}

pub(super) fn name<'o>(property: &'o ObjectProp<'_>) -> &'o str {
    property.name.as_str()
}

fn line(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

fn lowercase(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map(|first| first.to_ascii_lowercase().to_string() + letters.as_str())
        .unwrap_or_default()
}
