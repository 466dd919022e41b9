//! Commands on one table that the kernel takes all together or not at all.

use std::{collections::BTreeMap, fmt::Write};

use crate::{Chain, CtTimeout, Family, Hook, Set, Table, is_valid_name};

/// How many elements go into one command: a line that nft's lexer takes in its stride.
const ELEMENTS_PER_COMMAND: usize = 4096;

/// A transaction under construction; [`crate::Nft::apply`] runs it. Empty ones do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    family: Family,
    table: String,
    commands: Vec<Command>,
    /// What is known of the sets: see [`Self::know_set`].
    shapes: BTreeMap<String, Set>,
    wrong_name: Option<String>,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    AddTable,
    /// Fails where it is there.
    CreateTable,
    DeleteTable,
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    AddRule {
        chain: String,
        rule: String,
    },
    FlushChain {
        name: String,
    },
    DeleteChain {
        name: String,
    },
    AddSet {
        name: String,
        shape: Set,
    },
    DeleteSet {
        name: String,
        word: &'static str,
    },
    AddElements {
        set: String,
        elements: Vec<(String, String)>,
    },
    DeleteElements {
        set: String,
        keys: Vec<String>,
    },
    AddTimeout {
        name: String,
        definition: String,
    },
    DeleteTimeout {
        name: String,
    },
}

impl Transaction {
    /// A transaction on a table that exists.
    pub fn on(family: Family, table: &str) -> Self {
        let mut transaction = Self {
            family,
            table: table.to_owned(),
            commands: Vec::new(),
            shapes: BTreeMap::new(),
            wrong_name: None,
        };
        transaction.check(table);
        transaction
    }

    /// Puts `table` in place of the one of its name, if there is one.
    pub fn replace(table: &Table) -> Self {
        let mut transaction = Self::delete(table.family, &table.name);
        transaction.commands.push(Command::AddTable);
        transaction.fill(table);
        transaction
    }

    /// Makes `table`; refused if there is one of its name.
    pub fn create(table: &Table) -> Self {
        let mut transaction = Self::on(table.family, &table.name);
        transaction.commands.push(Command::CreateTable);
        transaction.fill(table);
        transaction
    }

    /// All that is in it.
    fn fill(&mut self, table: &Table) {
        for (name, timeout) in &table.timeouts {
            self.add_timeout(name, timeout);
        }
        for (name, chain) in &table.chains {
            self.add_chain(name, chain.hook.as_ref());
        }
        for (name, set) in &table.sets {
            self.add_set(name, set);
        }
        for (name, set) in &table.sets {
            let elements = set.elements.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            self.add_elements(name, elements);
        }
        for (name, chain) in &table.chains {
            self.add_rules(name, chain);
        }
    }

    /// Deletes the table, if there is one.
    pub fn delete(family: Family, table: &str) -> Self {
        let mut transaction = Self::on(family, table);
        // Deleting what is not there is an error; adding what is there is none.
        transaction.commands.extend([Command::AddTable, Command::DeleteTable]);
        transaction
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn commands(&self) -> &[Command] {
        &self.commands
    }

    pub(crate) fn shape(&self, set: &str) -> Option<&Set> {
        self.shapes.get(set)
    }

    /// A name that nft would misread, if one was used.
    pub(crate) fn wrong_name(&self) -> Option<&str> {
        self.wrong_name.as_deref()
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// Says what a set of the table is that this transaction does not add: the elements of a set
    /// that is known can go to the kernel without the help of nft.
    pub fn know_set(&mut self, name: &str, set: &Set) {
        if !self.shapes.contains_key(name) {
            self.shapes.insert(name.to_owned(), set.shape());
        }
    }

    pub fn add_chain(&mut self, name: &str, hook: Option<&Hook>) {
        self.check(name);
        self.commands.push(Command::AddChain { name: name.to_owned(), hook: hook.cloned() });
    }

    pub fn add_rules(&mut self, chain: &str, value: &Chain) {
        for rule in &value.rules {
            self.add_rule(chain, rule);
        }
    }

    pub fn add_rule(&mut self, chain: &str, rule: &str) {
        self.commands.push(Command::AddRule { chain: chain.to_owned(), rule: rule.to_owned() });
    }

    pub fn flush_chain(&mut self, name: &str) {
        self.commands.push(Command::FlushChain { name: name.to_owned() });
    }

    pub fn delete_chain(&mut self, name: &str) {
        self.commands.push(Command::DeleteChain { name: name.to_owned() });
    }

    pub fn add_set(&mut self, name: &str, set: &Set) {
        self.check(name);
        self.know_set(name, set);
        self.commands.push(Command::AddSet { name: name.to_owned(), shape: set.shape() });
    }

    pub fn delete_set(&mut self, name: &str, set: &Set) {
        self.commands.push(Command::DeleteSet { name: name.to_owned(), word: set.word() });
    }

    pub fn add_timeout(&mut self, name: &str, timeout: &CtTimeout) {
        self.check(name);
        let definition = timeout.definition(self.family);
        self.commands.push(Command::AddTimeout { name: name.to_owned(), definition });
    }

    pub fn delete_timeout(&mut self, name: &str) {
        self.commands.push(Command::DeleteTimeout { name: name.to_owned() });
    }

    /// Adds members (with empty values) or entries.
    pub fn add_elements<'a>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let elements: Vec<_> = elements.into_iter().map(owned).collect();
        if !elements.is_empty() {
            self.commands.push(Command::AddElements { set: set.to_owned(), elements });
        }
    }

    pub fn delete_elements<'a>(&mut self, set: &str, keys: impl IntoIterator<Item = &'a str>) {
        let keys: Vec<_> = keys.into_iter().map(str::to_owned).collect();
        if !keys.is_empty() {
            self.commands.push(Command::DeleteElements { set: set.to_owned(), keys });
        }
    }

    /// What nft reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for command in &self.commands {
            self.render(command, &mut text);
        }
        text
    }

    /// One command as nft reads it.
    pub(crate) fn text_of(&self, command: &Command) -> String {
        let mut text = String::new();
        self.render(command, &mut text);
        text
    }

    fn render(&self, command: &Command, out: &mut String) {
        let mut line = |command: &str, object: &str, rest: &str| {
            let (family, table) = (self.family, &self.table);
            let gap = |text: &str| if text.is_empty() { "" } else { " " };
            writeln!(out, "{command} {family} {table}{}{object}{}{rest}", gap(object), gap(rest))
                .expect("writing to a string does not fail");
        };
        match command {
            Command::AddTable => line("add table", "", ""),
            Command::CreateTable => line("create table", "", ""),
            Command::DeleteTable => line("delete table", "", ""),
            Command::AddChain { name, hook: None } => line("add chain", name, ""),
            Command::AddChain { name, hook: Some(hook) } => {
                line("add chain", name, &format!("{{ {hook} }}"));
            }
            Command::AddRule { chain, rule } => line("add rule", chain, rule),
            Command::FlushChain { name } => line("flush chain", name, ""),
            Command::DeleteChain { name } => line("delete chain", name, ""),
            Command::AddSet { name, shape } => {
                line(&format!("add {}", shape.word()), name, &shape.definition());
            }
            Command::DeleteSet { name, word } => line(&format!("delete {word}"), name, ""),
            Command::AddTimeout { name, definition } => line("add ct timeout", name, definition),
            Command::DeleteTimeout { name } => line("delete ct timeout", name, ""),
            Command::AddElements { set, elements } => {
                for some in elements.chunks(ELEMENTS_PER_COMMAND) {
                    line("add element", set, &braced(some.iter().map(|(k, v)| (&**k, &**v))));
                }
            }
            Command::DeleteElements { set, keys } => {
                for some in keys.chunks(ELEMENTS_PER_COMMAND) {
                    line("delete element", set, &braced(some.iter().map(|key| (&**key, ""))));
                }
            }
        }
    }

    fn check(&mut self, name: &str) {
        if !is_valid_name(name) && self.wrong_name.is_none() {
            self.wrong_name = Some(name.to_owned());
        }
    }
}

/// `{ key : value, … }`
fn braced<'a>(elements: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{ ");
    for (number, (key, value)) in elements.enumerate() {
        if number > 0 {
            text.push_str(", ");
        }
        text.push_str(key);
        if !value.is_empty() {
            text.push_str(" : ");
            text.push_str(value);
        }
    }
    text.push_str(" }");
    text
}
