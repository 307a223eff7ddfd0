//! Whether JSON has the shape that was promised: keys in their order, types,
//! fixed values.
//!
//! A shape is JSON itself. Texts in angle brackets stand for what may differ:
//! `"<text>"`, `"<number>"`, `"<float>"` (a number as text), `"<count>"` (not
//! negative and whole), `"<any>"`. An array of one shape is an array of at
//! least one of these; an object with the only key `"<each>"` is one of any
//! keys. Everything else must be equal, keys in the same order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// JSON whose objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// # Panics
    ///
    /// When it is not JSON.
    #[track_caller]
    pub fn parse(text: &str) -> Json {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        from.deserialize_any(Ordered)
    }
}

struct Ordered;

impl<'de> Visitor<'de> for Ordered {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = from.next_entry()? {
            pairs.push(pair);
        }
        Ok(Json::Object(pairs))
    }
}

/// What is wrong with `found`, and where; `Ok` when it has the shape.
///
/// # Errors
///
/// The first difference.
pub fn check(shape: &Json, found: &Json) -> Result<(), String> {
    at("$", shape, found)
}

fn at(path: &str, shape: &Json, found: &Json) -> Result<(), String> {
    let differs = |expected: &str| Err(format!("{path}: expected {expected}, found {}", shown(found)));
    match (shape, found) {
        (Json::Text(kind), found) if kind.starts_with('<') && kind.ends_with('>') => {
            let holds = match (&kind[..], found) {
                ("<any>", _) | ("<text>", Json::Text(_)) | ("<number>", Json::Number(_)) => true,
                ("<float>", Json::Text(text)) => text.parse::<f64>().is_ok(),
                ("<count>", Json::Number(number)) => *number >= 0.0 && number.fract() == 0.0,
                _ => false,
            };
            if holds { Ok(()) } else { differs(kind) }
        }
        (Json::List(shapes), Json::List(found)) => match &shapes[..] {
            [each] if found.is_empty() => differs(&format!("some of {each:?}")),
            [each] => {
                let mut all = found.iter().enumerate();
                all.try_for_each(|(index, one)| at(&format!("{path}[{index}]"), each, one))
            }
            _ if shapes.len() != found.len() => differs(&format!("{} elements", shapes.len())),
            _ => {
                let mut all = shapes.iter().zip(found).enumerate();
                all.try_for_each(|(index, (shape, one))| at(&format!("{path}[{index}]"), shape, one))
            }
        },
        (Json::Object(shapes), Json::Object(found)) => match &shapes[..] {
            [(key, each)] if key == "<each>" => {
                found.iter().try_for_each(|(key, one)| at(&format!("{path}.{key}"), each, one))
            }
            _ => {
                let keys = |of: &[(String, Json)]| of.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
                if keys(shapes) != keys(found) {
                    return Err(format!(
                        "{path}: expected the keys {:?}, found {:?}",
                        keys(shapes),
                        keys(found)
                    ));
                }
                let mut all = shapes.iter().zip(found);
                all.try_for_each(|((key, shape), (_, one))| at(&format!("{path}.{key}"), shape, one))
            }
        },
        (shape, found) if shape == found => Ok(()),
        (shape, _) => differs(&shown(shape)),
    }
}

fn shown(json: &Json) -> String {
    let mut text = format!("{json:?}");
    if text.len() > 300 {
        text = text.chars().take(300).collect::<String>() + "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_find_what_differs() {
        let holds = |shape: &str, found: &str| check(&Json::parse(shape), &Json::parse(found)).is_ok();
        let yes = [
            (r#"{"a":1,"b":["<number>"]}"#, r#"{"a":1,"b":[1,2.5]}"#),
            (r#"{"<each>":"<text>"}"#, r#"{"x":"1","y":"2"}"#),
            (r#"["<number>","<float>"]"#, r#"[1.5,"+Inf"]"#),
            ("[]", "[]"),
        ];
        for (shape, found) in yes {
            assert!(holds(shape, found), "{shape} {found}");
        }
        let no = [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            (r#"["<number>"]"#, "[]"),
            ("[]", "[1]"),
            (r#""<float>""#, "1"),
            (r#""<number>""#, r#""1""#),
            (r#""success""#, r#""error""#),
            (r#"["<number>","<float>"]"#, r#"[1]"#),
        ];
        for (shape, found) in no {
            assert!(!holds(shape, found), "{shape} {found}");
        }
    }
}
