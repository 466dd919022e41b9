//! Commands on one table that the kernel takes all together or not at all.

use std::fmt::Write;

use crate::{Chain, Family, Hook, Set, Table, is_valid_name};

/// How many elements go into one command: a line that nft's lexer takes in its stride.
const ELEMENTS_PER_COMMAND: usize = 4096;

/// A transaction under construction; [`crate::Nft::apply`] runs it. Empty ones do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    family: Family,
    table: String,
    text: String,
    wrong_name: Option<String>,
}

impl Transaction {
    /// A transaction on a table that exists.
    pub fn on(family: Family, table: &str) -> Self {
        let mut transaction =
            Self { family, table: table.to_owned(), text: String::new(), wrong_name: None };
        transaction.check(table);
        transaction
    }

    /// Puts `table` in place of the one of its name, if there is one.
    pub fn replace(table: &Table) -> Self {
        let mut transaction = Self::delete(table.family, &table.name);
        transaction.command("add table");
        for (name, chain) in &table.chains {
            transaction.add_chain(name, chain.hook.as_ref());
        }
        for (name, set) in &table.sets {
            transaction.add_set(name, set);
        }
        for (name, set) in &table.sets {
            let elements = set.elements.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            transaction.add_elements(name, elements);
        }
        for (name, chain) in &table.chains {
            transaction.add_rules(name, chain);
        }
        transaction
    }

    /// Deletes the table, if there is one.
    pub fn delete(family: Family, table: &str) -> Self {
        let mut transaction = Self::on(family, table);
        // Deleting what is not there is an error; adding what is there is none.
        transaction.command("add table");
        transaction.command("delete table");
        transaction
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What nft reads.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A name that nft would misread, if one was used.
    pub(crate) fn wrong_name(&self) -> Option<&str> {
        self.wrong_name.as_deref()
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub fn add_chain(&mut self, name: &str, hook: Option<&Hook>) {
        self.check(name);
        match hook {
            None => self.line("add chain", name, ""),
            Some(hook) => self.line("add chain", name, &format!("{{ {hook} }}")),
        }
    }

    pub fn add_rules(&mut self, chain: &str, value: &Chain) {
        for rule in &value.rules {
            self.add_rule(chain, rule);
        }
    }

    pub fn add_rule(&mut self, chain: &str, rule: &str) {
        self.line("add rule", chain, rule);
    }

    pub fn flush_chain(&mut self, name: &str) {
        self.line("flush chain", name, "");
    }

    pub fn delete_chain(&mut self, name: &str) {
        self.line("delete chain", name, "");
    }

    pub fn add_set(&mut self, name: &str, set: &Set) {
        self.check(name);
        self.line(&format!("add {}", set.word()), name, &set.definition());
    }

    pub fn delete_set(&mut self, name: &str, set: &Set) {
        self.line(&format!("delete {}", set.word()), name, "");
    }

    /// Adds members (with empty values) or entries.
    pub fn add_elements<'a>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        self.elements("add element", set, elements);
    }

    pub fn delete_elements<'a>(&mut self, set: &str, keys: impl IntoIterator<Item = &'a str>) {
        self.elements("delete element", set, keys.into_iter().map(|key| (key, "")));
    }

    fn elements<'a>(
        &mut self,
        command: &str,
        set: &str,
        elements: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let mut count = 0;
        for (key, value) in elements {
            if count % ELEMENTS_PER_COMMAND == 0 {
                if count > 0 {
                    self.text.push_str(" }\n");
                }
                self.head(command, set);
                self.text.push_str(" { ");
            } else {
                self.text.push_str(", ");
            }
            self.text.push_str(key);
            if !value.is_empty() {
                self.text.push_str(" : ");
                self.text.push_str(value);
            }
            count += 1;
        }
        if count > 0 {
            self.text.push_str(" }\n");
        }
    }

    fn command(&mut self, command: &str) {
        writeln!(self.text, "{command} {} {}", self.family, self.table)
            .expect("writing to a string does not fail");
    }

    fn line(&mut self, command: &str, object: &str, rest: &str) {
        self.head(command, object);
        if !rest.is_empty() {
            self.text.push(' ');
            self.text.push_str(rest);
        }
        self.text.push('\n');
    }

    fn head(&mut self, command: &str, object: &str) {
        write!(self.text, "{command} {} {} {object}", self.family, self.table)
            .expect("writing to a string does not fail");
    }

    fn check(&mut self, name: &str) {
        if !is_valid_name(name) && self.wrong_name.is_none() {
            self.wrong_name = Some(name.to_owned());
        }
    }
}
