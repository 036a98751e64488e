//! Changes to one entry of a client's file. Every byte outside of what is changed stays as it was.

use jsonc_parser::ast::{Object, ObjectProp};
use jsonc_parser::common::Ranged;

use super::document::name;
use super::json::{Dress, Json, quoted};
use super::splice::{self, Splice, spliced};
use super::{ClientFile, ClientFileError, Spot};

/// What an entry shall start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub command: String,
    pub args: Vec<String>,
}

impl<'t> ClientFile<'t> {
    /// The entry as it is written.
    pub fn written(&self, spot: &Spot) -> Result<Option<&'t str>, ClientFileError> {
        Ok(self.entry(spot)?.map(|entry| self.slice(entry.value.range())))
    }

    /// The text in which the entry starts this, with those of its variables that are kept. Other keys stay. `None`
    /// where there is no entry with a command.
    pub fn pointed(
        &self,
        spot: &Spot,
        to: &Start,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, ClientFileError> {
        let Some(entry) = self.entry(spot)?.and_then(|entry| entry.value.as_object()) else {
            return Ok(None);
        };
        let (inner, key) = self.program(entry)?;
        let Some(program) = self.property(inner, key)? else { return Ok(None) };
        let args = Json::List(to.args.clone());
        let mut splices = vec![valued(program, quoted(&to.command))];
        splices.push(match self.property(inner, "args")? {
            Some(old) => valued(old, args.render(&self.dress(), None)),
            None => self.beside(program, "args", &args),
        });
        splices.extend(self.environment(inner, keep)?);
        Ok(Some(self.changed(splices)))
    }

    /// The text with one entry more, at the end of its place, which is made where it lacks.
    pub fn with_entry(
        &self,
        spot: &Spot,
        start: &Start,
        more: &[(&str, &str)],
    ) -> Result<String, ClientFileError> {
        let mut value = start.json(more);
        let mut path: Vec<_> = spot.place.iter().chain([&spot.name]).cloned().collect();
        while let Some(key) = path.pop() {
            if let Some(object) = self.at(&path)? {
                return Ok(self.changed(self.inserted(object, &key, &value)));
            }
            value = Json::Object(vec![(key, value)]);
        }
        let dress = self.dress();
        let line =
            if self.text.is_empty() || self.text.ends_with('\n') { "" } else { dress.newline };
        let end = format!("{line}{}{}", value.render(&dress, Some("")), dress.newline);
        Ok(self.changed(vec![Splice::insert(self.text.len(), end)]))
    }

    /// The text without the entry.
    pub fn without(&self, spot: &Spot) -> Result<Option<String>, ClientFileError> {
        let (Some(servers), Some(_)) = (self.at(&spot.place)?, self.entry(spot)?) else {
            return Ok(None);
        };
        Ok(self.removal(servers, &spot.name).map(|splices| self.changed(splices)))
    }

    /// The text in which an entry that osvm wrote is what it was before: as `before` has it, or gone. `None` where it
    /// is gone already, or starts something else by now.
    pub fn put_back(
        &self,
        spot: &Spot,
        wrote: &str,
        before: &ClientFile<'_>,
    ) -> Result<Option<String>, ClientFileError> {
        let Some(entry) = self.entry(spot)? else { return Ok(None) };
        let is_untouched = self.slice(entry.value.range()) == wrote;
        if !is_untouched && !self.starts_the_same(entry, wrote)? {
            return Ok(None);
        }
        match (before.entry(spot)?, is_untouched) {
            (None, _) => self.without(spot),
            (Some(old), false) => self.start_of(entry, before, old).map(Some),
            (Some(old), true) => {
                let splice = valued(entry, before.slice(old.value.range()));
                Ok(Some(self.changed(vec![splice])))
            }
        }
    }

    /// The text in which the entry starts what the older one started; what else the user changed in it stays.
    fn start_of(
        &self,
        entry: &ObjectProp<'t>,
        before: &ClientFile<'_>,
        old: &ObjectProp<'_>,
    ) -> Result<String, ClientFileError> {
        let whole = || vec![valued(entry, before.slice(old.value.range()))];
        let (Some(new), Some(was)) = (entry.value.as_object(), old.value.as_object()) else {
            return Ok(self.changed(whole()));
        };
        let ((new, key), (was, old_key)) = (self.program(new)?, before.program(was)?);
        let program = self.property(new, key)?.filter(|_| key == old_key);
        let Some(program) = program else { return Ok(self.changed(whole())) };
        let mut splices = Vec::new();
        for key in [key, "args", "env"] {
            let old = before.property(was, key)?.map(|old| before.slice(old.value.range()));
            match (self.property(new, key)?, old) {
                (Some(property), Some(old)) => splices.push(valued(property, old)),
                (None, Some(old)) => {
                    splices.push(self.beside(program, key, &Json::Raw(old.to_owned())));
                }
                (Some(_), None) if key == "args" => {
                    splices.extend(self.removal(new, key).unwrap_or_default());
                }
                (_, None) => {}
            }
        }
        Ok(self.changed(splices))
    }

    fn starts_the_same(
        &self,
        entry: &ObjectProp<'t>,
        wrote: &str,
    ) -> Result<bool, ClientFileError> {
        let wrote = ClientFile::parse(wrote)?;
        let start = |file: &ClientFile<'_>, entry: Option<&Object<'_>>| {
            let stdio = entry.map(|entry| file.start(entry)).transpose()?.flatten();
            Ok(stdio)
        };
        let (now, then) =
            (start(self, entry.value.as_object())?, start(&wrote, wrote.root.as_ref())?);
        Ok(now.is_some() && now == then)
    }

    /// What comes of the variables.
    fn environment(
        &self,
        inner: &Object<'t>,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Vec<Splice>, ClientFileError> {
        let Some(env) = self.property(inner, "env")? else { return Ok(Vec::new()) };
        let pairs = env.value.as_object().map_or(&[][..], |env| &env.properties);
        let kept: Vec<_> = pairs.iter().filter(|pair| keep(name(pair))).collect();
        if kept.is_empty() {
            return Ok(self.removal(inner, "env").unwrap_or_default());
        }
        if kept.len() == pairs.len() {
            return Ok(Vec::new());
        }
        let raw = |pair: &&ObjectProp<'_>| {
            (name(pair).to_owned(), Json::Raw(self.slice(pair.value.range()).to_owned()))
        };
        let kept = Json::Object(kept.iter().map(raw).collect());
        let indent = splice::indent(self.text, env.start());
        Ok(vec![valued(env, kept.render(&self.dress(), indent))])
    }

    /// A property right behind another.
    fn beside(&self, property: &ObjectProp<'_>, key: &str, value: &Json) -> Splice {
        let dress = self.dress();
        let indent = splice::indent(self.text, property.start());
        let gap = indent.map_or(" ".to_owned(), |indent| dress.newline.to_owned() + indent);
        let value = value.render(&dress, indent);
        Splice::insert(property.end(), format!(",{gap}{}: {value}", quoted(key)))
    }

    /// A property at the end.
    fn inserted(&self, object: &Object<'_>, key: &str, value: &Json) -> Vec<Splice> {
        let Some(last) = object.properties.last() else {
            return vec![self.first(object, key, value)];
        };
        let dress = self.dress();
        let indent = splice::indent(self.text, last.start());
        let gap = indent.map_or(" ".to_owned(), |indent| dress.newline.to_owned() + indent);
        let piece = format!("{gap}{}: {}", quoted(key), value.render(&dress, indent));
        // A comment on the line of the last one is about that.
        let place = |from| indent.map_or(from, |_| splice::after_trivia_of_line(self.text, from));
        match self.comma(last.end()) {
            Some(comma) => vec![Splice::insert(place(comma + 1), piece + ",")],
            None => {
                vec![Splice::insert(last.end(), ","), Splice::insert(place(last.end()), piece)]
            }
        }
    }

    /// The only property of an object.
    fn first(&self, object: &Object<'_>, key: &str, value: &Json) -> Splice {
        let Dress { newline, unit } = &self.dress();
        let outer = splice::indent_of_line(self.text, object.start());
        let inner = outer.to_owned() + unit;
        let value = value.render(&self.dress(), Some(&inner));
        let is_open = self.slice(object.range()).contains('\n');
        let end = if is_open { String::new() } else { format!("{newline}{outer}") };
        Splice::insert(object.start() + 1, format!("{newline}{inner}{}: {value}{end}", quoted(key)))
    }

    /// Takes a property away with its comma and, where it has them for itself, its lines.
    fn removal(&self, object: &Object<'_>, key: &str) -> Option<Vec<Splice>> {
        let index = object.properties.iter().position(|property| name(property) == key)?;
        let property = &object.properties[index];
        let (mut from, mut to) = (property.start(), property.end());
        let mut splices = Vec::new();
        let comma = self.comma(to);
        match comma {
            Some(comma) if self.text[to..comma].trim().is_empty() => to = comma + 1,
            Some(comma) => splices.push(Splice::remove(comma..comma + 1)),
            None => {
                let before = index.checked_sub(1).map(|index| object.properties[index].end());
                let comma = before.and_then(|end| self.comma(end));
                splices.extend(comma.map(|comma| Splice::remove(comma..comma + 1)));
            }
        }
        let line = splice::indent(self.text, from).zip(splice::rest_of_line(self.text, to));
        match line {
            Some((indent, end)) => (from, to) = (from - indent.len(), end),
            None => {
                let before = &self.text[..from];
                let space = before.len() - before.trim_end_matches([' ', '\t']).len();
                from -= if splice::indent(self.text, from).is_some() { 0 } else { space };
            }
        }
        splices.push(Splice::remove(from..to));
        Some(splices)
    }

    /// The comma that follows.
    fn comma(&self, from: usize) -> Option<usize> {
        let at = splice::after_trivia(self.text, from);
        self.text[at..].starts_with(',').then_some(at)
    }

    fn dress(&self) -> Dress {
        let newline = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let first = self.root.as_ref().and_then(|root| root.properties.first());
        let indent = first.and_then(|first| splice::indent(self.text, first.start()));
        let unit = indent.filter(|indent| !indent.is_empty()).unwrap_or("  ");
        Dress { newline, unit: unit.to_owned() }
    }

    fn changed(&self, splices: Vec<Splice>) -> String {
        self.whole(&spliced(self.text, splices))
    }
}

impl Start {
    fn json(&self, more: &[(&str, &str)]) -> Json {
        let mut fields: Vec<_> =
            more.iter().map(|(key, value)| ((*key).to_owned(), Json::text(value))).collect();
        fields.push(("command".to_owned(), Json::text(&self.command)));
        fields.push(("args".to_owned(), Json::List(self.args.clone())));
        Json::Object(fields)
    }
}

fn valued(property: &ObjectProp<'_>, text: impl Into<String>) -> Splice {
    let range = property.value.range();
    Splice::replace(range.start..range.end, text)
}
