//! A query's tree as JSON, in the shape of Prometheus' `/api/v1/parse_query`
//! (`web/api/v1/translate_ast.go`). Parentheses are not in our tree, so there are
//! no nodes of theirs.

use std::fmt::Write as _;

use lm_model::Matcher;

use crate::ast::*;
use crate::parse::{Features, ParseError, call_shape, parse_with};
use crate::text;

/// The tree of `query` as JSON.
///
/// # Errors
///
/// When the text is no query.
pub fn tree_json(query: &str, features: Features) -> Result<String, ParseError> {
    let mut to = String::new();
    node(&mut to, &parse_with(query, features)?);
    Ok(to)
}

fn node(to: &mut String, expr: &Expr) {
    match expr {
        Expr::Number(value) => {
            to.push_str("{\"type\":\"numberLiteral\",\"val\":");
            string(to, &text::number(*value));
        }
        Expr::String(value) => {
            to.push_str("{\"type\":\"stringLiteral\",\"val\":");
            string(to, value);
        }
        Expr::Selector(of) => {
            to.push_str("{\"type\":\"vectorSelector\"");
            selector(to, of);
        }
        Expr::Range(of) => {
            let _ = write!(to, "{{\"type\":\"matrixSelector\",\"range\":{}", of.range_millis);
            selector(to, &of.selector);
        }
        Expr::Subquery(of) => {
            let step = of.step_millis.unwrap_or(0);
            let _ = write!(to, "{{\"type\":\"subquery\",\"range\":{},\"step\":{step}", of.range_millis);
            times(to, of.offset_millis, of.at);
            field(to, "expr", &of.expr);
        }
        Expr::Negate(inner) => {
            to.push_str("{\"type\":\"unaryExpr\",\"op\":\"-\"");
            field(to, "expr", inner);
        }
        Expr::Binary(of) => binary(to, of),
        Expr::Aggregate(of) => {
            let _ = write!(to, "{{\"type\":\"aggregation\",\"op\":\"{}\"", of.op.name());
            let (names, is_without) = match &of.grouping {
                Grouping::By(names) => (names, false),
                Grouping::Without(names) => (names, true),
            };
            to.push_str(",\"grouping\":");
            strings(to, names);
            let _ = write!(to, ",\"without\":{is_without}");
            match &of.param {
                Some(param) => field(to, "param", param),
                None => to.push_str(",\"param\":null"),
            }
            field(to, "expr", &of.expr);
        }
        Expr::Call(of) => call(to, of),
    }
    to.push('}');
}

fn field(to: &mut String, name: &str, expr: &Expr) {
    let _ = write!(to, ",\"{name}\":");
    node(to, expr);
}

fn selector(to: &mut String, of: &Selector) {
    to.push_str(",\"name\":");
    let name = of.matchers.iter().find(|matcher| *matcher.name == *lm_model::METRIC_NAME);
    let is_plain = |matcher: &&Matcher| matcher.op == lm_model::MatchOp::Eq;
    string(to, name.filter(is_plain).map_or("", |matcher| &matcher.value));
    times(to, of.offset_millis, of.at);
    to.push_str(",\"matchers\":[");
    for (index, matcher) in of.matchers.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        let _ = write!(to, "{{\"type\":\"{}\",\"name\":", matcher.op);
        string(to, &matcher.name);
        to.push_str(",\"value\":");
        string(to, &matcher.value);
        to.push('}');
    }
    to.push(']');
    if let Some(extension) = of.extension {
        let _ = write!(to, ",\"{}\":true", extension.name());
    }
}

fn times(to: &mut String, offset_millis: i64, at: Option<At>) {
    let _ = write!(to, ",\"offset\":{offset_millis}");
    let (timestamp, start_or_end) = match at {
        None => (None, "null"),
        Some(At::Time(time)) => (Some(time.as_millis()), "null"),
        Some(At::Start) => (None, "\"start\""),
        Some(At::End) => (None, "\"end\""),
    };
    match timestamp {
        Some(millis) => {
            let _ = write!(to, ",\"timestamp\":{millis}");
        }
        None => to.push_str(",\"timestamp\":null"),
    }
    let _ = write!(to, ",\"startOrEnd\":{start_or_end}");
}

fn binary(to: &mut String, of: &Binary) {
    let _ =
        write!(to, "{{\"type\":\"binaryExpr\",\"op\":\"{}\",\"bool\":{}", of.op.symbol(), of.returns_bool);
    let is_between_vectors = [&of.left, &of.right].iter().all(|side| side.value_type() == ValueType::Vector);
    if is_between_vectors {
        let matching = &of.matching;
        let cardinality = match matching.cardinality {
            _ if of.op.is_set() => "many-to-many",
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
        };
        let _ = write!(to, ",\"matching\":{{\"card\":\"{cardinality}\",\"on\":{}", matching.is_on);
        to.push_str(",\"labels\":");
        strings(to, &matching.labels);
        to.push_str(",\"include\":");
        strings(to, &matching.include);
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            to.push_str(",\"fillValues\":{");
            for (index, (side, value)) in
                [("lhs", matching.fill_left), ("rhs", matching.fill_right)].into_iter().enumerate()
            {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(to, "{comma}\"{side}\":");
                match value {
                    Some(value) => string(to, &text::number(value)),
                    None => to.push_str("null"),
                }
            }
            to.push('}');
        }
        to.push('}');
    } else {
        to.push_str(",\"matching\":null");
    }
    field(to, "lhs", &of.left);
    field(to, "rhs", &of.right);
}

fn call(to: &mut String, of: &Call) {
    to.push_str("{\"type\":\"call\",\"func\":{\"name\":");
    string(to, of.function.name());
    let (types, variadic) = call_shape(of.function);
    let types: Vec<String> = types.iter().map(|value_type| type_name(*value_type).to_owned()).collect();
    to.push_str(",\"argTypes\":");
    strings(to, &types);
    let _ = write!(to, ",\"variadic\":{variadic},\"returnType\":");
    string(to, type_name(of.function.value_type()));
    to.push_str("},\"args\":[");
    for (index, arg) in of.args.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        node(to, arg);
    }
    to.push(']');
}

fn type_name(of: ValueType) -> &'static str {
    match of {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

fn strings(to: &mut String, texts: &[String]) {
    to.push('[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        string(to, text);
    }
    to.push(']');
}

fn string(to: &mut String, text: &str) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                to.push('\\');
                to.push(c);
            }
            c if c.is_control() => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_the_shape_of_prometheus() {
        let check = |query: &str, expected: &str| {
            assert_eq!(tree_json(query, Features::all()).unwrap(), expected.replace('\'', "\""), "{query}");
        };
        check("1.5", "{'type':'numberLiteral','val':'1.5'}");
        check("'a\\n\"'", r#"{"type":"stringLiteral","val":"a\u000a\""}"#);
        check(
            "up{job=~'a'} @ end() offset 5m",
            "{'type':'vectorSelector','name':'up','offset':300000,'timestamp':null,'startOrEnd':'end',\
             'matchers':[{'type':'=','name':'__name__','value':'up'},{'type':'=~','name':'job','value':'a'}]}",
        );
        check(
            "a and on(x) b",
            "{'type':'binaryExpr','op':'and','bool':false,'matching':{'card':'many-to-many','on':true,\
             'labels':['x'],'include':[]},'lhs':{'type':'vectorSelector','name':'a','offset':0,'timestamp':null,\
             'startOrEnd':null,'matchers':[{'type':'=','name':'__name__','value':'a'}]},'rhs':{'type':\
             'vectorSelector','name':'b','offset':0,'timestamp':null,'startOrEnd':null,'matchers':[{'type':'=',\
             'name':'__name__','value':'b'}]}}",
        );
        check(
            "sum by (x) (round(vector(1), 2))",
            "{'type':'aggregation','op':'sum','grouping':['x'],'without':false,'param':null,'expr':{'type':'call',\
             'func':{'name':'round','argTypes':['vector','scalar'],'variadic':1,'returnType':'vector'},'args':[\
             {'type':'call','func':{'name':'vector','argTypes':['scalar'],'variadic':0,'returnType':'vector'},\
             'args':[{'type':'numberLiteral','val':'1'}]},{'type':'numberLiteral','val':'2'}]}}",
        );
        assert!(tree_json("sum(", Features::all()).is_err());
    }
}
