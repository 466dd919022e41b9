//! Expressions: what they give, what they cost, and what is none.

use kube_cel::cel::Value;
use serde_json::{Value as Json, json};

use super::*;

/// An object that everything is a field of.
struct One(Value);

impl Scope for One {
    fn get(&self, name: &str, _: &mut Budget) -> Option<Result<Value, Error>> {
        (name == "object").then(|| Ok(self.0.clone()))
    }
}

fn environment() -> Environment {
    Environment::default().with("object", Type::Dyn)
}

fn eval(expression: &str, object: &Json) -> Result<Json, Error> {
    let program = compile(expression, &environment(), &[]).map_err(Error::Told)?;
    let mut budget = Budget::new(PER_OBJECT);
    let found = program.eval(&One(value::from_json(object)), &mut budget)?;
    value::to_json(&found, &mut budget)
}

fn refused(expression: &str) -> String {
    compile(expression, &environment(), &[]).map(drop).unwrap_err()
}

#[test]
fn expressions_give_what_upstream_gives() {
    let object = json!({
        "spec": {"replicas": 3, "image": "registry/app:1.2", "ports": [80, 443]},
        "labels": {"a": "x", "b": "y"},
        "none": null,
        "metadata": {"namespace": "x", "annotations": {"a.b/c": "d"}},
    });
    for (expression, expected) in [
        ("object.spec.replicas >= 3 && object.spec.replicas < 4.5", json!(true)),
        ("has(object.spec.replicas) && !has(object.spec.other)", json!(true)),
        ("object.spec.other == 1 || true", json!(true)),
        ("object.spec.ports.all(p, p > 10)", json!(true)),
        ("object.spec.ports.exists(p, p == 80 || p.other)", json!(true)),
        ("[1, 'a'.size(), object.spec.replicas].map(i, i * 2)", json!([2, 2, 6])),
        ("object.labels.exists_one(k, object.labels[k] == 'x')", json!(true)),
        ("object.spec.ports.filter(p, p < 100)", json!([80])),
        ("object.spec.ports.map(p, p > 100, string(p))", json!(["443"])),
        ("object.labels.all(k, v, k != v)", json!(true)),
        ("object.spec.ports.transformList(i, p, i + p)", json!([80, 444])),
        ("object.?spec.?other.orValue('none')", json!("none")),
        ("object.spec[?'image'].hasValue()", json!(true)),
        ("object.?spec.replicas.optMap(it, it + 1).value()", json!(4)),
        ("'äö'.size()", json!(2)),
        ("object.spec.image.split(':')[1]", json!("1.2")),
        ("object.spec.image.matches('^registry/.*$')", json!(true)),
        ("'a-b-c'.replace('-', '')", json!("abc")),
        ("'%s has %d'.format(['it', 3])", json!("it has 3")),
        ("'abc' in ['x', 'abc'] && 'a' in object.labels", json!(true)),
        ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", json!(true)),
        ("url('https://example.com:80/a').getHost()", json!("example.com:80")),
        (
            "ip('192.168.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3')",
            json!(true),
        ),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", json!(true)),
        ("!format.dns1123Label().validate('ok').hasValue()", json!(true)),
        ("format.named('nope').hasValue()", json!(false)),
        ("format.named('dns1123Label').value().validate('A').hasValue()", json!(true)),
        ("format.named('dns1123Label').value().validate('a').hasValue()", json!(false)),
        ("jsonpatch.escapeKey('a/b~c')", json!("a~1b~0c")),
        ("sets.contains([1, 2, 3], [1]) && [1, 2].isSorted()", json!(true)),
        ("duration('1h') > duration('59m') ? 'long' : 'short'", json!("long")),
        ("timestamp('2024-02-03T04:05:06Z').getFullYear()", json!(2024)),
        ("type(object.spec) == map && type(1) == int", json!(true)),
        ("object.none == null", json!(true)),
        ("object.metadata.namespace == 'x'", json!(true)),
        ("object.metadata.annotations['a.b/c']", json!("d")),
        ("object.metadata.?annotations[?'other'].orValue('')", json!("")),
        (
            "object.metadata.annotations.?other.hasValue()\n  // a comment\n  || 'é' < 'ê'",
            json!(true),
        ),
        (
            "b'abc'.size() == 3 && 2u + 3u == 5u && 7 % 4 == 3 && -object.spec.replicas == -3",
            json!(true),
        ),
        ("[[1, 2], [3]].map(l, l.map(i, i + 1))", json!([[2, 3], [4]])),
        ("{'a': [1]}.all(k, k == 'a') && {'a': 1} == {'a': 1} && 1.5 > 1", json!(true)),
        (
            "['b', 'a'].isSorted() || [1, 5, 2].max() == 5 && ['x', 'y'].join('-') == 'x-y'",
            json!(true),
        ),
        ("'a1b22'.findAll('[0-9]+')", json!(["1", "22"])),
        (
            "[dyn(1), dyn('a')].exists(x, x == 'a') && string(true) + string(1.5) == 'true1.5'",
            json!(true),
        ),
        ("{'a': 1, ?'b': optional.none()}", json!({"a": 1})),
        ("object.labels.transformMapEntry(k, v, {v: k})", json!({"x": "a", "y": "b"})),
        ("[3, 4].transformMapEntry(i, v, i > 0, {string(i): v})", json!({"1": 4})),
        ("object.spec.ports.first().value() + object.spec.ports.last().value()", json!(523)),
        (
            "[optional.of(1), optional.none()].unwrapOpt() + [optional.of(2)].unwrapOpt()",
            json!([1, 2]),
        ),
        ("object.labels.existsOne(k, v, v == 'x')", json!(true)),
        ("'b'.lowerAscii() + \"'\" + r'\\n'", json!("b'\\n")),
    ] {
        assert_eq!(eval(expression, &object), Ok(expected), "{expression}");
    }
}

#[test]
fn errors_are_told_in_upstreams_words() {
    let object = json!({"a": 1, "list": [1], "text": "x"});
    for (expression, why) in [
        ("object.b", "no such key: b"),
        ("object.a.b", "no such overload"),
        ("object.list[1]", "index out of bounds: 1"),
        ("object.a / 0", "division by zero"),
        ("object.a + object.text", "no such overload"),
        ("object.list.all(it, it.b)", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("object.a && true", "no such overload"),
        ("[1, 2].transformMapEntry(i, v, {'k': v})", "insert failed: key k already exists"),
        ("9223372036854775807 + object.a", "integer overflow"),
    ] {
        assert_eq!(eval(expression, &object), Err(Error::told(why)), "{expression}");
    }
}

#[test]
fn what_cannot_work_is_refused_before_it_runs() {
    let prefix = "compilation failed: ERROR: <input>:";
    for (expression, why) in [
        (
            "object.a == b",
            "1:13: undeclared reference to 'b' (in container '')\n | object.a == b\n | ............^",
        ),
        ("nothing(1)", "1:1: undeclared reference to 'nothing' (in container '')"),
        ("1 + 'a'", "1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        (
            "'a'.startsWith(1)",
            "1:15: found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        ("[1, 'a']", "1:1: expected type 'int' but found 'string'"),
        ("1.all(x, x)", "1:1: expression of type 'int' cannot be range of a comprehension"),
        ("object.matches('(')", "1:15: invalid matches argument"),
        // Upstream's environment has no bindings.
        ("cel.bind(x, 1, x)", "1:1: undeclared reference to 'cel' (in container '')"),
        ("Object{a: 1}", "1:1: undeclared reference to 'Object' (in container '')"),
    ] {
        let found = refused(expression);
        assert!(found.starts_with(&format!("{prefix}{why}")), "{expression}: {found}");
    }
    assert!(refused("object.").starts_with("compilation failed: ERROR: <input>:1:8: Syntax error"));
    let wanted = compile("1 + 1", &environment(), &[Type::Bool]).map(drop);
    assert_eq!(wanted, Err("must evaluate to bool".to_owned()));
    let wanted = compile("1 + 1", &environment(), &[Type::String, Type::Null]).map(drop);
    assert_eq!(wanted, Err("must evaluate to one of string, null".to_owned()));
}

#[test]
fn fields_of_known_types_are_checked() {
    let spec = Record::of("Spec", [("replicas".to_owned(), Type::Int)]);
    let known =
        Environment::default().with("object", Record::of("It", [("spec".to_owned(), spec)]));
    let check = |it: &str| {
        compile(it, &known, &[Type::Bool]).map(drop).map_err(|it| {
            it.trim_start_matches("compilation failed: ERROR: <input>:")
                .lines()
                .next()
                .unwrap()
                .to_owned()
        })
    };
    assert_eq!(check("object.spec.replicas > 1"), Ok(()));
    assert_eq!(
        check("object.spec.replicas > '1'"),
        Err("1:22: found no matching overload for '_>_' applied to '(int, string)'".to_owned())
    );
    assert_eq!(
        check("object.spec.replicas > 0 && object.spec.replica > 0"),
        Err("1:40: undefined field 'replica'".to_owned())
    );
}

#[test]
fn an_expression_that_costs_without_end_is_ended() {
    let many = json!({"list": vec![1; 300], "text": "a".repeat(100_000)});
    let loops = |depth: usize| {
        (0..depth).map(|it| format!("object.list.all(x{it}, ")).collect::<String>()
            + "1 == 1"
            + &")".repeat(depth)
    };
    for expression in [
        loops(3),
        loops(7),
        // Nothing hides the end of the budget.
        format!("{} || true", loops(4)),
        format!("[1].exists(x, {}) || true", loops(4)),
        "object.list.map(a, object.list.map(b, object.list.map(c, object.text))) == []".to_owned(),
        "object.list.map(a, object.list.map(b, object.text + object.text)) == []".to_owned(),
        "object.text.replace('a', object.text) == ''".to_owned(),
        "object.list.all(a, object.text.matches('(a|b)*c' + string(a)) || true)".to_owned(),
        "object.list.all(a, object.list.all(b, object.text.contains('b') || true))".to_owned(),
    ] {
        assert_eq!(eval(&expression, &many), Err(Error::Cost), "{expression}");
    }
}

#[test]
fn all_expressions_share_one_budget() {
    let program = compile("object.list.all(a, a == 1)", &environment(), &[]).unwrap();
    let object = One(value::from_json(&json!({"list": vec![1; 300]})));
    let mut budget = Budget::new(5000);
    assert_eq!(program.eval(&object, &mut budget), Ok(true.into()));
    let last = (0..10).map(|_| program.eval(&object, &mut budget)).last().unwrap();
    assert_eq!(last, Err(Error::Budget));
}

#[test]
fn what_a_library_would_write_without_end_is_refused() {
    for expression in
        ["quantity('1e2000000000').asApproximateFloat()", "'%.999999999f'.format([1.0])"]
    {
        assert!(matches!(eval(expression, &json!({})), Err(Error::Told(_))), "{expression}");
    }
}

#[test]
fn an_expression_of_any_shape_is_refused_or_evaluated_and_ends_no_thread() {
    let most = MOST_OPERATORS;
    let shapes = [
        "1+".repeat(most - 10) + "1 == 1",
        "true&&".repeat(most / 2 - 1) + "true",
        "object".to_owned() + &".a".repeat(most - 1),
        "object".to_owned() + &"[0]".repeat(most - 1),
        "1 in ".repeat(most - 2) + "[1]",
        "(".repeat(MOST_NESTED) + "true" + &")".repeat(MOST_NESTED),
        "!".repeat(MOST_PREFIXES) + "true",
        "-".repeat(MOST_PREFIXES) + "1 == 1",
        "true?true:".repeat(MOST_NESTED) + "true",
        "true?".repeat(MOST_NESTED) + "true" + &":true".repeat(MOST_NESTED),
        "[true].all(x,".repeat(MOST_NESTED / 2) + "x" + &")".repeat(MOST_NESTED / 2),
        "{1:".repeat(MOST_NESTED) + "1" + &"}".repeat(MOST_NESTED) + " == {}",
        "[".repeat(MOST_NESTED) + &"]".repeat(MOST_NESTED) + " == []",
        "1+".repeat(LONGEST / 2 - 5) + "1 == 1",
        "true&&".repeat(LONGEST / 6 - 5) + "true",
        "true?true:".repeat(LONGEST / 10 - 5) + "true",
        "object".to_owned() + &".a".repeat(LONGEST / 2 - 10),
        "object".to_owned() + &"[0]".repeat(LONGEST / 3 - 10),
        "(".repeat(LONGEST / 2),
        "!".repeat(LONGEST - 10) + "true",
        "1 in ".repeat(LONGEST / 5 - 5) + "[1]",
        "true||false&&".repeat(LONGEST / 13 - 5) + "true",
    ];
    for shape in shapes {
        // Refused, or an answer: either is one.
        drop(eval(&shape, &json!({"a": 1})));
    }
}

/// What upstream takes: many signs, and few of them in each other.
#[test]
fn many_choices_negations_and_differences_beside_each_other_are_no_depth() {
    let clause = "(!has(object.spec) ? true : object.a - 1 == -object.b - -1)";
    let many = [clause; 30].join(" && ");
    let words = format!("'n' != '{}'", "!?-([{".repeat(200));
    let comment = format!("true // {}\n && true", "((((!!!!----????".repeat(50));
    let list = format!("[{}].size() == 90", ["true ? 1 : 2"; 90].join(", "));
    for expression in [many, words, comment, list] {
        let found = eval(&expression, &json!({"a": 3, "b": -3}));
        assert_eq!(found, Ok(json!(true)), "{expression}");
    }
}

#[test]
fn what_could_outgrow_the_stack_is_refused_with_its_reason() {
    for (expression, why) in [
        ("(".repeat(17) + "true" + &")".repeat(17), "it is nested too deep"),
        ("true?true:".repeat(17) + "true", "it is nested too deep"),
        ("!".repeat(65) + "true", "it is nested too deep"),
        ("- ".repeat(65) + "1 == 1", "it is nested too deep"),
        ("1 + ".repeat(513) + "1 == 1", "it has too many operators"),
        (format!("'{}' == ''", "a".repeat(LONGEST)), "it is longer than 10240 bytes"),
    ] {
        assert_eq!(refused(&expression), why, "{expression}");
    }
}

/// One that costs all that it may leaves its worker to the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_takes_long_holds_up_no_other_task() {
    let scope = lifecycle::Scope::new();
    let object = json!({"list": vec![1; 300]});
    let (told, done) = tokio::sync::oneshot::channel();
    let evaluating = scope.spawn("evaluates", async move {
        let found =
            eval("object.list.all(a, object.list.all(b, object.list.all(c, a == c)))", &object);
        assert_eq!(found, Err(Error::Cost));
        told.send(std::time::Instant::now()).unwrap();
    });
    let counting = scope.spawn("counts", async {
        let mut slowest = std::time::Duration::ZERO;
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            tokio::task::yield_now().await;
            slowest = slowest.max(begun.elapsed());
        }
        (std::time::Instant::now(), slowest)
    });
    let counted = counting.await.unwrap().unwrap();
    let ended = done.await.unwrap();
    evaluating.await.unwrap().unwrap();
    assert!(counted.0 < ended, "the other task was over first, {:?} between its steps", counted.1);
}

/// What was begun on a worker and goes on elsewhere costs what it costs, and no more.
#[test]
fn an_evaluation_that_begins_anew_is_paid_once() {
    let object = One(value::from_json(&json!({"list": vec![1; 300]})));
    let program =
        compile("object.list.all(a, object.list.exists(b, a == b && a > 0))", &environment(), &[]);
    let program = program.unwrap();
    let spent = |inline: u64| {
        let mut budget = Budget { inline, ..Budget::new(PER_OBJECT) };
        assert_eq!(program.eval(&object, &mut budget), Ok(true.into()));
        PER_OBJECT - budget.left
    };
    assert_eq!(spent(0), spent(PER_OBJECT));
    assert_eq!(spent(100), spent(PER_OBJECT));
}

#[test]
fn a_name_is_bound_to_a_value_where_there_are_bindings() {
    let bound = |text: &str| compile(text, &environment().with_bindings(), &[]);
    let object = json!({"spec": {"ports": [80, 443], "replicas": 3}});
    for (text, expected) in [
        ("cel.bind(it, object.spec, it.replicas > 2 && it.ports.size() == 2)", json!(true)),
        ("cel.bind(a, 1, cel.bind(b, a + 1, a + b)) + [1].map(a, a)[0]", json!(4)),
        ("cel.bind(all, [1, 2], all.map(it, cel.bind(next, it + 1, next * 2)))", json!([4, 6])),
    ] {
        let program = bound(text).unwrap();
        let mut budget = Budget::new(PER_OBJECT);
        let found = program.eval(&One(value::from_json(&object)), &mut budget).unwrap();
        assert_eq!(value::to_json(&found, &mut budget).unwrap(), expected, "{text}");
    }
    let told = bound("cel.bind(it, 'a', it + 1)").map(drop).unwrap_err();
    assert!(told.contains("found no matching overload for '_+_'"), "{told}");
    let told = bound("cel.bind(it.x, 'a', it)").map(drop).unwrap_err();
    assert!(told.ends_with("cel.bind() variable names must be simple identifiers"), "{told}");
    assert!(refused("cel.bind(it, 1, it)").contains("undeclared reference to 'cel'"));
}
