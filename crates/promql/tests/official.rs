//! Runs the test scripts of Prometheus (see `testdata/README.md`).
//!
//! The table below is exact, so a case that starts to fail is noticed, and so
//! is one that starts to pass. Each instant query is run three times: as it is,
//! pinned to its time and evaluated at another, and within a range query.

#[path = "official/compare.rs"]
mod compare;
#[path = "official/properties.rs"]
mod properties;
#[path = "official/script.rs"]
mod script;
#[path = "official/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use lm_model::Timestamp;
use lm_promql::{Answer, Engine, Error, Expr, Features, Value};
use script::{Case, Command, Times};
use store::Store;

/// Per file: passed, failed, unsupported. The last eight are of experimental
/// parts of the language.
const TABLE: [(&str, [usize; 3]); 21] = [
    ("aggregators", [160, 0, 0]),
    ("at_modifier", [78, 0, 0]),
    ("collision", [2, 0, 0]),
    ("functions", [431, 0, 0]),
    ("histograms", [185, 0, 0]),
    ("literals", [25, 0, 0]),
    ("native_histograms", [522, 0, 0]),
    ("operators", [214, 0, 0]),
    ("range_queries", [18, 0, 0]),
    ("selectors", [31, 0, 0]),
    ("staleness", [17, 0, 0]),
    ("subquery", [34, 0, 0]),
    ("trig_functions", [19, 0, 0]),
    ("duration_expression", [59, 0, 0]),
    ("extended_vectors", [169, 0, 0]),
    ("fill-modifier", [46, 0, 0]),
    ("info", [53, 0, 0]),
    ("limit", [37, 0, 0]),
    ("name_label_dropping", [30, 0, 0]),
    ("start_timestamps", [0, 0, 26]),
    ("type_and_unit", [58, 0, 0]),
];

#[test]
fn official_scripts() {
    let mut differs = false;
    for (name, expected) in TABLE {
        let path = format!("{}/testdata/{name}.test", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the script is in testdata/");
        let mut counts = [0; 3];
        let mut unsupported: BTreeMap<&str, usize> = BTreeMap::new();
        let mut store = Store::default();
        for command in script::parse(&text) {
            match command {
                Command::Clear => store = Store::default(),
                Command::Load(load) => store.load(&load),
                Command::Eval(case) => match run(&store, &case) {
                    Outcome::Passed => counts[0] += 1,
                    Outcome::Failed(reason) => {
                        counts[1] += 1;
                        println!("{name}.test:{}: {}\n    {reason}", case.line, case.query);
                    }
                    Outcome::Unsupported(reason) => {
                        counts[2] += 1;
                        *unsupported.entry(reason).or_default() += 1;
                    }
                },
            }
        }
        println!("    (\"{name}\", {counts:?}), unsupported: {unsupported:?}");
        differs |= counts != expected;
    }
    assert!(!differs, "the table in this file is out of date, or something broke: see above");
}

enum Outcome {
    Passed,
    Failed(String),
    Unsupported(&'static str),
}

fn run(store: &Store, case: &Case) -> Outcome {
    if store.has_start_timestamps {
        return Outcome::Unsupported("start timestamps");
    }
    let result = check(store, case);
    match result {
        Ok(()) => Outcome::Passed,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn check(store: &Store, case: &Case) -> Result<(), String> {
    let expr = lm_promql::parse_with(&case.query, Features::all());
    let answer = expr.clone().map_err(Error::from).and_then(|expr| evaluate(store, &expr, case.times));
    compare::check(case, &answer)?;
    let (Ok(expr), Ok(answer), Times::Instant(at)) = (expr, answer, case.times) else { return Ok(()) };
    if let Some(pinned) = properties::pinned(&expr, Timestamp::from_millis(at)) {
        for other in [at + 77_000, at - 3_000_000] {
            let again = evaluate(store, &pinned, Times::Instant(other)).map_err(|error| error.to_string());
            compare::same_value(&answer.value, &again?.value).map_err(|why| format!("pinned: {why}"))?;
        }
    }
    if matches!(answer.value, Value::Vector(_)) && properties::is_free_of_range(&expr) {
        let times = Times::Range { start: at - 60_000, end: at + 60_000, step: 60_000 };
        // Elsewhere in the range the query may fail.
        if let Ok(Answer { value: Value::Matrix(series), .. }) = evaluate(store, &expr, times) {
            let vector = compare::vector_at(&series, Timestamp::from_millis(at));
            compare::same_value(&answer.value, &vector).map_err(|why| format!("in a range: {why}"))?;
        }
    }
    Ok(())
}

fn evaluate(store: &Store, expr: &Expr, times: Times) -> Result<Answer, Error> {
    let engine = Engine::default();
    let time = Timestamp::from_millis;
    match times {
        Times::Instant(at) => engine.instant(expr, store, time(at), &|| None),
        Times::Range { start, end, step } => {
            let step = Duration::from_millis(step as u64);
            engine.range(expr, store, time(start), time(end), step, &|| None)
        }
    }
}
