//! One table of the file: values are asked for by key and type, and every refusal knows its place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use toml_edit::{Item, TableLike};

use super::error::{ConfigError, Problem, Source};
use crate::command;

#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    source: Source<'a>,
    table: &'a dyn TableLike,
    title: &'static str,
    /// Where the table begins, for what has no place of its own.
    start: usize,
}

type Found<T> = Result<Option<T>, ConfigError>;

impl<'a> Section<'a> {
    /// The table, once every key in it is one of `known`.
    pub(super) fn open(
        source: Source<'a>,
        table: &'a dyn TableLike,
        start: usize,
        title: &'static str,
        known: &[&'static str],
    ) -> Result<Self, ConfigError> {
        let section = Self { source, table, title, start };
        match table.iter().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(section.unknown(key, known)),
            None => Ok(section),
        }
    }

    fn unknown(&self, key: &str, known: &[&'static str]) -> ConfigError {
        let nearest = nearest(key, known.iter().copied());
        let at = self.table.key(key).and_then(toml_edit::Key::span).map_or(self.start, |s| s.start);
        let problem = Problem::UnknownKey { key: key.to_owned(), section: self.title, nearest };
        self.source.fault(at, problem)
    }

    /// A fault at the value of `key`, or at the table when there is none.
    pub(super) fn fault(&self, key: &str, problem: impl Into<Problem>) -> ConfigError {
        self.source.fault(self.offset(key), problem)
    }

    pub(super) fn line(&self, key: &str) -> usize {
        self.source.place(self.offset(key)).0
    }

    fn offset(&self, key: &str) -> usize {
        self.table.get(key).and_then(Item::span).map_or(self.start, |span| span.start)
    }

    pub(super) fn required<T>(
        &self,
        key: &'static str,
        found: Option<T>,
    ) -> Result<T, ConfigError> {
        let missing = || self.fault(key, Problem::Missing { section: self.title, key });
        found.ok_or_else(missing)
    }

    pub(super) fn text(&self, key: &str) -> Found<String> {
        self.get(key, "a string", Item::as_str)?.map(|text| self.plain(key, text)).transpose()
    }

    pub(super) fn flag(&self, key: &str) -> Found<bool> {
        self.get(key, "true or false", Item::as_bool)
    }

    pub(super) fn number(&self, key: &str) -> Found<u64> {
        let natural = |item: &Item| item.as_integer().and_then(|n| u64::try_from(n).ok());
        self.get(key, "a whole number of 0 or more", natural)
    }

    pub(super) fn number_within(&self, key: &'static str, min: u64, max: u64) -> Found<u64> {
        self.checked(key, self.number(key)?, |value| match value {
            value if (min..=max).contains(&value) => Ok(value),
            value => Err(Problem::Range { key, value, min, max }),
        })
    }

    /// A string that is one of a type's texts.
    pub(super) fn parsed<T>(&self, key: &str) -> Found<T>
    where
        T: FromStr<Err: Into<Problem>>,
    {
        self.checked(key, self.text(key)?, |text| text.parse::<T>())
    }

    /// An array of strings, each of them one of a type's texts.
    pub(super) fn all<T>(&self, key: &str) -> Found<Vec<T>>
    where
        T: FromStr<Err: Into<Problem>>,
    {
        let words = self.get(key, "an array of strings", strings)?;
        self.checked(key, words, |words| {
            words.into_iter().map(str::parse).collect::<Result<_, _>>()
        })
    }

    pub(super) fn checked<T, U, E: Into<Problem>>(
        &self,
        key: &str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, E>,
    ) -> Found<U> {
        value.map(|value| check(value).map_err(|error| self.fault(key, error))).transpose()
    }

    /// A command: an array of strings, or one string that is split as a shell would.
    pub(super) fn command(&self, key: &str) -> Found<Vec<String>> {
        if self.table.get(key).is_some_and(Item::is_str) {
            return self.checked(key, self.text(key)?, |line| command::split(&line));
        }
        let words = self.get(key, "a string or an array of strings", strings)?;
        let argv = words.map(|words| self.plain_all(key, &words)).transpose()?;
        self.checked(key, argv, command::check)
    }

    /// A table of strings.
    pub(super) fn map(&self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let Some(inner) = self.section(key, "a table of strings")? else {
            return Ok(BTreeMap::new());
        };
        let entry = |name: &str| {
            let value = inner.text(name)?.unwrap_or_default();
            Ok((name.to_owned(), value))
        };
        inner.table.iter().map(|(name, _)| entry(name)).collect()
    }

    /// A table within, not yet checked for unknown keys.
    fn section(&self, key: &str, expected: &'static str) -> Found<Self> {
        let table = self.get(key, expected, Item::as_table_like)?;
        Ok(table.map(|table| Self { table, start: self.offset(key), ..*self }))
    }

    pub(super) fn table(
        &self,
        key: &str,
        title: &'static str,
        known: &[&'static str],
    ) -> Found<Self> {
        let open = |inner: Self| Self::open(self.source, inner.table, inner.start, title, known);
        self.section(key, "a table")?.map(open).transpose()
    }

    /// An array of tables within, in either notation.
    pub(super) fn tables(
        &self,
        key: &str,
        title: &'static str,
        known: &[&'static str],
    ) -> Result<Vec<Self>, ConfigError> {
        let start = self.offset(key);
        let found = self.get(key, "an array of tables", |item| tables(item, start))?;
        let open = |(at, table)| Self::open(self.source, table, at, title, known);
        found.unwrap_or_default().into_iter().map(open).collect()
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Item) -> Option<T>,
    ) -> Found<T> {
        let Some(item) = self.table.get(key) else { return Ok(None) };
        let wrong = || {
            let found = type_name(item);
            self.fault(key, Problem::Type { key: key.to_owned(), expected, found })
        };
        read(item).map(Some).ok_or_else(wrong)
    }

    fn plain(&self, key: &str, text: &str) -> Result<String, ConfigError> {
        match text.contains('\0') {
            true => Err(self.fault(key, Problem::Control(key.to_owned()))),
            false => Ok(text.to_owned()),
        }
    }

    fn plain_all(&self, key: &str, words: &[&str]) -> Result<Vec<String>, ConfigError> {
        words.iter().map(|word| self.plain(key, word)).collect()
    }
}

/// The candidate most like `word`, if any is like it at all.
pub(crate) fn nearest<'c>(word: &str, known: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let score = |candidate: &str| strsim::jaro_winkler(word, candidate);
    known
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn strings(item: &Item) -> Option<Vec<&str>> {
    item.as_array()?.iter().map(|value| value.as_str()).collect()
}

/// The tables of an array with the place of each.
fn tables(item: &Item, start: usize) -> Option<Vec<(usize, &dyn TableLike)>> {
    let place = |span: Option<Range<usize>>| span.map_or(start, |span| span.start);
    if let Some(tables) = item.as_array_of_tables() {
        return Some(tables.iter().map(|t| (place(t.span()), t as &dyn TableLike)).collect());
    }
    let values = item.as_array()?.iter();
    values.map(|v| Some((place(v.span()), v.as_inline_table()? as &dyn TableLike))).collect()
}

fn type_name(item: &Item) -> &'static str {
    match item {
        Item::None => "absent",
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "an array of tables",
        Item::Value(toml_edit::Value::InlineTable(_)) => "a table",
        Item::Value(toml_edit::Value::String(_)) => "a string",
        Item::Value(toml_edit::Value::Integer(n)) if *n.value() < 0 => "a negative number",
        Item::Value(toml_edit::Value::Integer(_)) => "a whole number",
        Item::Value(toml_edit::Value::Float(_)) => "a fractional number",
        Item::Value(toml_edit::Value::Boolean(_)) => "true or false",
        Item::Value(toml_edit::Value::Datetime(_)) => "a date",
        Item::Value(toml_edit::Value::Array(_)) => "an array",
    }
}
