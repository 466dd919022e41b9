//! The table of decision vectors, `vectors.txt`: how to read it is said at its head.

use std::collections::HashSet;

use super::*;

const TABLE: &str = include_str!("vectors.txt");

#[test]
fn every_vector_decides_as_documented_and_names_its_statement() {
    let mut names = HashSet::new();
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, policies, request, expected, source] = fields[..] else {
            panic!("five fields: {line}")
        };
        assert!(names.insert(name), "twice: {name}");
        assert!(!source.is_empty(), "no source: {name}");
        let found = shown(&decide_line(&read_policies(policies), request));
        if found != expected {
            wrong.push(format!("{name}: {found} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(names.len() >= 300, "{} vectors", names.len());
}

fn decide_line(policies: &Policies, request: &str) -> Decision {
    let mut words = request.split_whitespace();
    let mut word = || words.next().expect("WHO ACTION RESOURCE");
    let (identity, action, resource) = (who(word()), word(), word());
    let mut context = Context::new();
    for pair in words {
        let (key, values) = pair.split_once('=').expect("KEY=VALUES");
        context.set_all(key, texts(values));
    }
    let asked = Request { identity: &identity, action, resource, context: &context };
    let decision = evaluate(&asked, policies);
    // What explains a decision must agree with it.
    if decision.verdict == Verdict::ExplicitDeny {
        assert!(layers(&asked, policies).contains(&decision), "{request}");
    }
    decision
}

fn who(text: &str) -> Identity {
    let of = |kind| Identity { account: ACCOUNT.to_owned(), kind };
    match text.split_once([':', '/']) {
        Some(("role", name)) => session(name),
        Some(("svc", name)) => service(name),
        Some(("web", provider)) => of(IdentityKind::Federated { provider: provider.to_owned() }),
        _ if text == "root" => root(),
        _ if text == "nobody" => of(IdentityKind::Anonymous),
        _ => user(text),
    }
}

fn shown(decision: &Decision) -> String {
    let layer = match decision.layer {
        Layer::Identity => "I",
        Layer::Boundary => "B",
        Layer::Session => "S",
        Layer::Resource => "R",
    };
    let statement = match &decision.deciding {
        Some(it) => (it.index + 1).to_string(),
        None => "-".to_owned(),
    };
    match decision.verdict {
        Verdict::Allowed => format!("allow {layer}{statement}"),
        Verdict::ExplicitDeny => format!("deny {layer}{statement}"),
        Verdict::ImplicitDeny => format!("implicit {layer}"),
    }
}

/// One policy for each layer, of all its statements.
fn read_policies(text: &str) -> Policies {
    let mut policies = Policies::default();
    for layer in ["I", "B", "S", "R", "T"] {
        let mut version = "2012-10-17";
        let statements = text.split(" ; ").map(str::trim).filter(|it| it.starts_with(layer));
        let statements: Vec<Value> = statements
            .map(|it| {
                let (head, rest) = it.split_once(' ').expect("LAYER and the rest");
                if head.ends_with("@2008") {
                    version = "2008-10-17";
                }
                read_statement(rest, layer == "T")
            })
            .collect();
        if statements.is_empty() {
            continue;
        }
        let kind = match layer {
            "R" => Kind::Resource,
            "T" => Kind::Trust,
            _ => Kind::Identity,
        };
        let document = json!({"Version": version, "Statement": statements}).to_string();
        let policy = Policy::parse(&document, kind).unwrap_or_else(|it| panic!("{it}: {text}"));
        let named = Named { name: layer.to_owned(), policy: Arc::new(policy) };
        match layer {
            "I" => policies.identity.push(named),
            "B" => policies.boundary = Some(named),
            "S" => policies.session.push(named),
            _ => {
                policies.resource_must_allow = layer == "T";
                policies.resource = Some(named);
            }
        }
    }
    policies
}

fn read_statement(text: &str, is_trust: bool) -> Value {
    let (text, conditions) = match text.split_once(" if") {
        Some((text, conditions)) => (text, conditions.trim()),
        None => (text, ""),
    };
    let mut words = text.split_whitespace();
    let effect = if words.next() == Some("A") { "Allow" } else { "Deny" };
    let mut statement = json!({"Effect": effect});
    element(&mut statement, "Action", words.next().expect("ACTIONS"));
    if !is_trust {
        element(&mut statement, "Resource", words.next().expect("RESOURCES"));
    }
    if let Some(word) = words.next() {
        let name = if word == "to" { "Principal" } else { "NotPrincipal" };
        let principal = words.next().expect("PRINCIPALS");
        statement[name] = match principal.split_once(':') {
            Some((kind, value)) => json!({kind: value}),
            None => json!(principal),
        };
    }
    for condition in conditions.split(" & ").filter(|it| !it.is_empty()) {
        let (operator, rest) = condition.split_once('(').expect("OPERATOR(KEY)=VALUES");
        let (key, values) = rest.split_once(")=").expect("OPERATOR(KEY)=VALUES");
        statement["Condition"][operator][key] = json!(texts(values));
    }
    statement
}

fn element(statement: &mut Value, name: &str, list: &str) {
    match list.strip_prefix('!') {
        Some(list) => statement[format!("Not{name}")] = json!(texts(list)),
        None => statement[name] = json!(texts(list)),
    }
}

/// Commas inside of a variable are its own.
fn texts(list: &str) -> Vec<String> {
    let (mut found, mut in_variable) = (vec![String::new()], false);
    for character in list.chars() {
        match character {
            ',' if !in_variable => found.push(String::new()),
            other => {
                in_variable = (in_variable || other == '{') && other != '}';
                found.last_mut().expect("never empty").push(other);
            }
        }
    }
    found
}
