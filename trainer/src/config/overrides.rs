//! `key.path=value` assignments on a TOML table, for `--set` on the command line.
//!
//! A path's parts are separated by dots; a part that is a number indexes an array (`data.train.0.repeat`).
//! The value is TOML (`3`, `true`, `[0.9, 1.1]`, `{ probability = 0.5 }`); what does not parse as TOML is
//! taken as a string, so that `name=toy` needs no quotes.

use super::recipe_error;
use crate::error::Result;
use toml::{Table, Value};

/// The deepest path followed: recipes are three levels deep.
const MAX_DEPTH: usize = 8;

/// Sets one value in `table`, creating the tables on the way; refuses a path through something else.
pub(super) fn apply(table: &mut Table, assignment: &str) -> Result<()> {
    let malformed = || {
        recipe_error(format!(
            "override `{assignment}` is not of the form key.path=value"
        ))
    };
    let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let keys: Vec<&str> = path.trim().split('.').map(str::trim).collect();
    if keys.iter().any(|key| key.is_empty()) || keys.len() > MAX_DEPTH {
        return Err(malformed());
    }
    let (last, parents) = keys.split_last().ok_or_else(malformed)?;
    let mut value = Some(parse_value(value.trim()));
    let Some((first, rest)) = parents.split_first() else {
        if let Some(value) = value.take() {
            table.insert((*last).to_owned(), value);
        }
        return Ok(());
    };
    let mut at = table
        .entry((*first).to_owned())
        .or_insert_with(|| Value::Table(Table::new()));
    for key in rest {
        at = step(at, key).ok_or_else(|| no_such_place(path, key))?;
    }
    let place = step(at, last).ok_or_else(|| no_such_place(path, last))?;
    if let Some(value) = value.take() {
        *place = value;
    }
    Ok(())
}

/// The value under `key`, made as an empty table where a table lacks it.
fn step<'a>(at: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match at {
        Value::Table(table) => Some(
            table
                .entry(key.to_owned())
                .or_insert_with(|| Value::Table(Table::new())),
        ),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn no_such_place(path: &str, key: &str) -> crate::error::Error {
    recipe_error(format!(
        "override path `{}` ends at `{key}`: neither a table's key nor an index within its array",
        path.trim()
    ))
}

fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_reach_their_place() {
        let cases = [
            ("a=1", "a = 1\n"),
            ("a = word", "a = \"word\"\n"),
            ("a=\"1\"", "a = \"1\"\n"),
            ("a.b.c=[0.5, 2]", "[a.b]\nc = [0.5, 2]\n"),
            ("a=x\nb=2", "a = \"\"\"\nx\nb=2\"\"\"\n"),
            ("a=", "a = \"\"\n"),
        ];
        for (assignment, expected) in cases {
            let mut table = Table::new();
            apply(&mut table, assignment).unwrap();
            assert_eq!(toml::to_string(&table).unwrap(), expected, "{assignment}");
        }
    }

    #[test]
    fn array_items_are_replaced_in_place() {
        let mut table: Table = toml::from_str("a = [{ b = 1 }, { b = 2 }]").unwrap();
        apply(&mut table, "a.1.b=5").unwrap();
        assert_eq!(table["a"][1]["b"], Value::Integer(5));
        assert_eq!(table["a"][0]["b"], Value::Integer(1));
        assert!(apply(&mut table, "a.2.b=5").is_err());
        assert!(apply(&mut table, "a.x.b=5").is_err());
    }
}
