//! What turns one table into another.

use crate::{Chain, Set, Table, Transaction};

impl Table {
    /// The transaction after which the kernel holds `self`, given that it holds `old`.
    ///
    /// Only differing elements and chains are touched. Where that cannot be (the type of a set or
    /// the hook of a chain changed) the whole table is replaced, which is as atomic and only costs
    /// more.
    pub fn changes_from(&self, old: &Self) -> Transaction {
        let is_same_table = (self.family, &self.name) == (old.family, &old.name);
        if !is_same_table || self.has_other_shape(old) {
            return Transaction::replace(self);
        }
        let mut transaction = Transaction::on(self.family, &self.name);
        for (name, set) in self.sets.iter().chain(&old.sets) {
            transaction.know_set(name, set);
        }
        let is_new = |name: &String| !old.timeouts.contains_key(name);
        for (name, timeout) in self.timeouts.iter().filter(|(name, _)| is_new(name)) {
            transaction.add_timeout(name, timeout);
        }
        // What is new comes first, since elements and rules refer to it; what is gone comes last,
        // when nothing refers to it any more.
        for (name, chain) in self.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name))
        {
            transaction.add_chain(name, chain.hook.as_ref());
        }
        for (name, set) in self.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
            transaction.add_set(name, set);
        }
        for (name, set) in &self.sets {
            change_elements(&mut transaction, name, old.sets.get(name), set);
        }
        let gone: Vec<&String> =
            old.chains.keys().filter(|name| !self.chains.contains_key(*name)).collect();
        let gone_sets = old.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name));
        for (name, set) in gone_sets.clone() {
            // Its elements may hold the last references to chains that go.
            transaction.delete_elements(name, set.elements.keys().map(String::as_str));
        }
        for name in &gone {
            transaction.flush_chain(name);
        }
        for (name, chain) in &self.chains {
            change_rules(&mut transaction, name, old.chains.get(name), chain);
        }
        for name in &gone {
            transaction.delete_chain(name);
        }
        for (name, set) in gone_sets {
            transaction.delete_set(name, set);
        }
        for name in old.timeouts.keys().filter(|name| !self.timeouts.contains_key(*name)) {
            transaction.delete_timeout(name);
        }
        transaction
    }

    fn has_other_shape(&self, old: &Self) -> bool {
        let hook_changed = self
            .chains
            .iter()
            .any(|(name, chain)| old.chains.get(name).is_some_and(|it| it.hook != chain.hook));
        let type_changed = self
            .sets
            .iter()
            .any(|(name, set)| old.sets.get(name).is_some_and(|it| !it.has_shape_of(set)));
        let timeout_changed = self
            .timeouts
            .iter()
            .any(|(name, timeout)| old.timeouts.get(name).is_some_and(|it| it != timeout));
        hook_changed || type_changed || timeout_changed
    }
}

fn change_elements(transaction: &mut Transaction, name: &str, old: Option<&Set>, new: &Set) {
    let nothing = Default::default();
    let before = old.map_or(&nothing, |set| &set.elements);
    let gone = before.iter().filter(|(key, value)| new.elements.get(*key) != Some(value));
    transaction.delete_elements(name, gone.map(|(key, _)| key.as_str()));
    let added = new.elements.iter().filter(|(key, value)| before.get(*key) != Some(value));
    transaction.add_elements(name, added.map(|(key, value)| (key.as_str(), value.as_str())));
}

fn change_rules(transaction: &mut Transaction, name: &str, old: Option<&Chain>, new: &Chain) {
    match old {
        Some(old) if old.rules == new.rules => {}
        Some(old) if new.rules.starts_with(&old.rules) => {
            for rule in &new.rules[old.rules.len()..] {
                transaction.add_rule(name, rule);
            }
        }
        Some(_) => {
            transaction.flush_chain(name);
            transaction.add_rules(name, new);
        }
        None => transaction.add_rules(name, new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainKind, CtTimeout, Family, Hook, HookPoint, priority};

    fn table() -> Table {
        let mut table = Table::new(Family::Ip, "t");
        table.chain("web").rule("accept");
        let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER);
        table.chains.insert("forward".into(), Chain::hooked(hook));
        table.chain("forward").rule("ip daddr vmap @by-address");
        table.set("by-address", Set::map("ipv4_addr", "verdict")).entry("10.0.0.1", "goto web");
        table
    }

    #[test]
    fn nothing_changed_is_an_empty_transaction() {
        assert!(table().changes_from(&table()).is_empty());
    }

    #[test]
    fn an_element_costs_an_element() {
        let mut new = table();
        new.sets.get_mut("by-address").unwrap().entry("10.0.0.2", "goto web");
        assert_eq!(
            new.changes_from(&table()).text(),
            "add element ip t by-address { 10.0.0.2 : goto web }\n"
        );
    }

    #[test]
    fn a_changed_value_is_deleted_before_it_is_added() {
        let mut new = table();
        new.sets.get_mut("by-address").unwrap().entry("10.0.0.1", "drop");
        assert_eq!(
            new.changes_from(&table()).text(),
            "delete element ip t by-address { 10.0.0.1 }\n\
             add element ip t by-address { 10.0.0.1 : drop }\n"
        );
    }

    #[test]
    fn a_chain_goes_after_the_elements_that_refer_to_it() {
        let mut new = table();
        new.chains.remove("web");
        new.sets.get_mut("by-address").unwrap().elements.clear();
        assert_eq!(
            new.changes_from(&table()).text(),
            "delete element ip t by-address { 10.0.0.1 }\nflush chain ip t web\ndelete chain ip t web\n"
        );
    }

    #[test]
    fn rules_at_the_end_are_appended_and_others_rewritten() {
        let mut longer = table();
        longer.chain("web").rule("drop");
        assert_eq!(longer.changes_from(&table()).text(), "add rule ip t web drop\n");
        assert_eq!(
            table().changes_from(&longer).text(),
            "flush chain ip t web\nadd rule ip t web accept\n"
        );
    }

    #[test]
    fn a_timeout_comes_before_the_rules_that_name_it_and_goes_after_them() {
        let mut new = table();
        let timeout = CtTimeout { protocol: "tcp", states: vec![("established", 350)] };
        new.timeouts.insert("tcp-350".into(), timeout);
        new.chain("web").rule("ct timeout set \"tcp-350\"");
        assert_eq!(
            new.changes_from(&table()).text(),
            "add ct timeout ip t tcp-350 { protocol tcp; l3proto ip; policy = { established : 350 }; }\n\
             add rule ip t web ct timeout set \"tcp-350\"\n"
        );
        assert_eq!(
            table().changes_from(&new).text(),
            "flush chain ip t web\nadd rule ip t web accept\ndelete ct timeout ip t tcp-350\n"
        );
    }

    #[test]
    fn another_type_or_hook_replaces_the_table() {
        let mut new = table();
        new.sets.get_mut("by-address").unwrap().flags.push("interval");
        assert!(new.changes_from(&table()).text().contains("delete table ip t\nadd table ip t\n"));
        let mut new = table();
        new.chains.get_mut("forward").unwrap().hook = None;
        assert!(new.changes_from(&table()).text().contains("delete table ip t\n"));
    }
}
