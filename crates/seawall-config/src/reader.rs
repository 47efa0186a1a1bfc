//! Reading a TOML table key by key: whatever nobody asked for is an error.
//!
//! A [`Section`] is a table, a [`Field`] one of its values. Reading never stops at a problem: it
//! is noted in the [`Report`], the reader goes on with the default, and the result counts only
//! when the report stays empty. So one run shows every problem of a file.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Malformed, Report, quoted, suggestion};

/// A table that is being read.
pub struct Section<'a> {
    title: String,
    at: Range<usize>,
    /// Where its name stands, if the user chose it.
    name_at: Range<usize>,
    table: &'a DeTable<'a>,
    report: &'a Report,
    known: Vec<&'static str>,
}

/// A value that is being read, and the key it stands under.
pub struct Field<'a> {
    key: &'a str,
    key_at: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
    report: &'a Report,
}

/// A table under a name that the user chose, such as `[upstream.orders]`.
pub struct Named<'a> {
    /// Its name.
    pub name: &'a str,
    /// The table.
    pub section: Section<'a>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(table: &'a DeTable<'a>, report: &'a Report) -> Section<'a> {
        Section { title: "the file".to_owned(), at: 0..0, name_at: 0..0, table, report, known: Vec::new() }
    }

    /// The value under `key`, if there is one. From now on the key is known.
    pub fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let (key, value) = self.table.get_key_value(key)?;
        Some(Field { key: key.get_ref(), key_at: key.span(), value, report: self.report })
    }

    /// The value under `key`, parsed; `None` when it is absent or wrong.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Field<'a>) -> Result<T, Malformed>,
    ) -> Option<T> {
        let field = self.field(key)?;
        parse(&field).map_err(|malformed| field.reject(malformed)).ok()
    }

    /// The value under `key`, parsed, or the default.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Field<'a>) -> Result<T, Malformed>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The value under `key`, parsed; its absence is a problem.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&Field<'a>) -> Result<T, Malformed>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            let missing = Malformed::new(format!("{} has no `{key}`", self.title));
            self.reject(missing.help(format!("add `{key} = {example}`")));
        }
        self.optional(key, parse)
    }

    /// The table under `key`.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.field(key)?.section()
    }

    /// The tables of `[key.NAME]`, in the order of their names.
    pub fn named(&mut self, key: &'static str) -> Vec<Named<'a>> {
        let found = self.tables(key);
        for Named { name, section } in &found {
            if let Err(malformed) = check_name(name) {
                section.report.at(section.name_at.clone(), malformed);
            }
        }
        found
    }

    /// The same with names of any kind.
    pub fn tables(&mut self, key: &'static str) -> Vec<Named<'a>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let DeValue::Table(table) = field.value.get_ref() else {
            field.reject(field.is_not(&format!("a table of tables `[{key}.NAME]`")));
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name_key, value) in table {
            let name_field =
                Field { key: name_key.get_ref(), key_at: name_key.span(), value, report: self.report };
            let name = name_field.key;
            if !matches!(value.get_ref(), DeValue::Table(_)) {
                // Most likely the name was forgotten, so that a key stands where it belongs.
                let nameless = Malformed::new(format!("`{key}.{}` is not a table", name.escape_default()));
                let help = format!("name it: `[{key}.NAME]`, with {} below", quoted(name));
                self.report.at(name_key.span(), nameless.help(help));
                continue;
            }
            if let Some(mut section) = name_field.section() {
                section.name_at = name_key.span();
                section.title = format!("`[{key}.{}]`", name.escape_default());
                found.push(Named { name, section });
            }
        }
        found
    }

    /// The values of the table under `key`, each with its name; what is wrong is reported.
    pub fn tables_of_texts<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &Field<'a>) -> Result<T, Malformed>,
    ) -> Vec<T> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let read = section.table.iter().filter_map(|(name, value)| {
            let field = Field { key: name.get_ref(), key_at: name.span(), value, report: self.report };
            parse(field.key, &field).map_err(|malformed| field.reject(malformed)).ok()
        });
        read.collect()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Notes a problem with the table as a whole.
    pub fn reject(&self, malformed: Malformed) {
        self.report.at(self.at.clone(), malformed);
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let unknown = Malformed::new(format!("unknown key {}", quoted(name)));
                self.report.at(key.span(), unknown.help(suggestion(name, self.known.iter().copied())));
            }
        }
    }
}

impl<'a> Field<'a> {
    /// Notes a problem with this value.
    pub fn reject(&self, malformed: Malformed) {
        self.report.at(self.value.span(), malformed.under(self.key));
    }

    /// The problem that this value is not what it should be.
    pub fn is_not(&self, wanted: &str) -> Malformed {
        let found = match self.value.get_ref() {
            DeValue::String(text) => format!("the text {}", quoted(text)),
            DeValue::Integer(number) => format!("the number `{number}`"),
            DeValue::Float(number) => format!("the number `{number}`"),
            DeValue::Boolean(switch) => format!("`{switch}`"),
            DeValue::Datetime(date) => format!("the date `{date}`"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        Malformed::new(format!("{found} is not {wanted}"))
    }

    /// A text that `parse` understands; `wanted` names it.
    pub fn parsed<T>(
        &self,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        match self.value.get_ref() {
            DeValue::String(text) => parse(text),
            // A bare number most often lacks its unit: the parser says it best.
            DeValue::Integer(number) => Err(parse(number.as_str()).err().unwrap_or(self.is_not(wanted))),
            DeValue::Float(number) => Err(parse(number.as_str()).err().unwrap_or(self.is_not(wanted))),
            _ => Err(self.is_not(wanted)),
        }
    }

    /// A whole number in this range.
    pub fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Malformed> {
        self.count(u64::from(*range.start())..=u64::from(*range.end()))
            .map(|number| u32::try_from(number).expect("the range ends within u32"))
    }

    /// A whole number in this range.
    pub fn count(&self, range: RangeInclusive<u64>) -> Result<u64, Malformed> {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(number) = self.value.get_ref() else {
            let malformed = self.is_not(&format!("a whole number from {least} to {most}"));
            return Err(match self.text().and_then(|text| text.parse().ok()) {
                Some(number) if range.contains(&number) => {
                    malformed.help(format!("write `{number}`, without quotes"))
                }
                _ => malformed,
            });
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.is_not(&format!("from {least} to {most}")))
    }

    /// A number in this range, whole or not.
    pub fn real(&self, range: RangeInclusive<f64>) -> Result<f64, Malformed> {
        let text = match self.value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => "",
        };
        let (least, most) = (range.start(), range.end());
        (text.parse().ok().filter(|number| range.contains(number)))
            .ok_or_else(|| self.is_not(&format!("a number from {least} to {most}")))
    }

    /// `true` or `false`.
    pub fn switch(&self) -> Result<bool, Malformed> {
        match self.value.get_ref() {
            DeValue::Boolean(switch) => Ok(*switch),
            _ => Err(self.is_not("`true` or `false`")),
        }
    }

    /// Whether it is `false`, which turns off what a table here would set.
    pub fn is_off(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Boolean(false))
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Malformed> {
        let known = || words.iter().map(|&(word, _)| word);
        let named = |text: &str| words.iter().find(|&&(word, _)| word == text).map(|&(_, meaning)| meaning);
        let list: Vec<String> = known().map(|word| format!("`{word}`")).collect();
        self.text().and_then(named).ok_or_else(|| {
            let wanted = match list.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => list.join(""),
            };
            let malformed = self.is_not(&wanted);
            match self.text().and_then(|text| super::report::closest(text, known())) {
                Some(word) => malformed.help(format!("did you mean `{word}`?")),
                None => malformed,
            }
        })
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Array(_))
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list of so many.
    pub fn items(&self, range: RangeInclusive<usize>) -> Result<Vec<Field<'a>>, Malformed> {
        let DeValue::Array(items) = self.value.get_ref() else {
            let help = if self.is_off() { "write `[]` for none" } else { "put it in brackets: `[…]`" };
            return Err(self.is_not("a list").help(help));
        };
        if !range.contains(&items.len()) {
            let (least, most) = (range.start(), range.end());
            return Err(Malformed::new(format!("the list has {} items, not {least} to {most}", items.len())));
        }
        let item = |value| Field { key: self.key, key_at: self.key_at.clone(), value, report: self.report };
        Ok(items.iter().map(item).collect())
    }

    /// The table; anything else is a problem.
    pub fn section(&self) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.value.get_ref() else {
            let malformed = self.is_not("a table");
            self.reject(match self.value.get_ref() {
                DeValue::Boolean(true) => malformed.help("leave it out to have it with its defaults"),
                DeValue::Boolean(false) => {
                    malformed.help("it is never off; leave it out to have it with its defaults")
                }
                _ => malformed,
            });
            return None;
        };
        let title = format!("`{}`", self.key.escape_default());
        let at = if self.value.span().is_empty() { self.key_at.clone() } else { self.value.span() };
        Some(Section { title, at, name_at: 0..0, table, report: self.report, known: Vec::new() })
    }
}

/// A name of an upstream, route or throttle: it appears in headers, metrics and paths.
pub fn check_name(name: &str) -> Result<String, Malformed> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    let help = "names are 1 to 64 of `a` to `z`, `0` to `9`, `_` and `-`";
    Err(Malformed::new(format!("{} is not a name", quoted(name))).help(help))
}
