//! Rows under a heading: as a table, with commas, with tabs or as JSON.

use std::cmp::Ordering;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::cli::exit::{Failure, print};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Layout {
    /// For people.
    #[default]
    Table,
    /// Separated by commas.
    Csv,
    /// Separated by tabs.
    Tsv,
    /// An array of objects.
    Json,
}

/// A text and what it is sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Text,
    Time(i64),
    Duration(i64),
    Number(u64),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            key: Key::Text,
        }
    }

    pub(super) fn time(text: String, t: i64) -> Self {
        let key = Key::Time(t);
        Self { text, key }
    }

    pub(super) fn duration(text: String, ms: i64) -> Self {
        let key = Key::Duration(ms);
        Self { text, key }
    }

    pub(super) fn number(text: String, n: u64) -> Self {
        let key = Key::Number(n);
        Self { text, key }
    }

    /// Values of one kind by their size, anything else as text.
    fn order(&self, other: &Self) -> Ordering {
        match (self.key, other.key) {
            (Key::Time(left), Key::Time(right)) | (Key::Duration(left), Key::Duration(right)) => {
                left.cmp(&right)
            }
            (Key::Number(left), Key::Number(right)) => left.cmp(&right),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// Sorts by these columns, then by the first.
pub(super) fn sort(rows: &mut [Vec<Cell>], columns: &[usize]) {
    rows.sort_by(|left, right| {
        let columns = columns.iter().copied().chain([0]);
        columns
            .filter_map(|column| Some(left.get(column)?.order(right.get(column)?)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
}

/// Prints the rows.
pub(super) fn print_rows(
    header: &[&str],
    rows: &[Vec<Cell>],
    layout: Layout,
) -> Result<(), Failure> {
    let heading: Vec<_> = header.iter().map(|name| Cell::text(*name)).collect();
    match layout {
        Layout::Table => {
            for line in table(&heading, rows) {
                print(&line)?;
            }
        }
        Layout::Csv | Layout::Tsv => {
            let separator = if layout == Layout::Csv { ',' } else { '\t' };
            for row in std::iter::once(&heading).chain(rows) {
                print(&separated(row, separator))?;
            }
        }
        Layout::Json => {
            let objects = rows.iter().map(|row| {
                let fields = header.iter().zip(row);
                let fields = fields.map(|(name, cell)| ((*name).to_owned(), json(cell)));
                Value::Object(fields.collect::<Map<_, _>>())
            });
            let array = Value::Array(objects.collect());
            print(&serde_json::to_string_pretty(&array).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn json(cell: &Cell) -> Value {
    match cell.key {
        Key::Number(n) => Value::from(n),
        Key::Text | Key::Time(_) | Key::Duration(_) => Value::from(cell.text.as_str()),
    }
}

/// Bars between and around, names in the middle of their columns, as Thanos draws them.
fn table(heading: &[Cell], rows: &[Vec<Cell>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = std::iter::once(heading).chain(rows.iter().map(Vec::as_slice));
        let widths = cells.filter_map(|row| Some(row.get(column)?.text.chars().count()));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let line = |row: &[Cell], is_centred: bool| {
        let mut line = String::from("|");
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width.saturating_sub(cell.text.chars().count());
            let left = if is_centred { gap / 2 } else { 0 };
            line.push_str(&" ".repeat(left + 1));
            line.push_str(&cell.text);
            line.push_str(&" ".repeat(gap - left + 1));
            line.push('|');
        }
        line
    };
    let rule: String = widths
        .iter()
        .map(|width| format!("{}|", "-".repeat(width + 2)))
        .collect();
    let mut lines = vec![line(heading, true), format!("|{rule}")];
    lines.extend(rows.iter().map(|row| line(row, false)));
    lines
}

/// Fields that hold the separator, a quote or a line's end, or begin with a blank, are quoted.
fn separated(row: &[Cell], separator: char) -> String {
    let mut line = String::new();
    for (position, cell) in row.iter().enumerate() {
        if position != 0 {
            line.push(separator);
        }
        let text = &cell.text;
        let is_quoted = text.starts_with(' ') || text.contains([separator, '"', '\n', '\r']);
        if is_quoted {
            line.push('"');
            line.push_str(&text.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_middle_and_cells_on_the_left() {
        let rows = [vec![Cell::text("abcdef"), Cell::text("1")]];
        let heading = [Cell::text("ID"), Cell::text("LABELS")];
        assert_eq!(
            table(&heading, &rows),
            [
                "|   ID   | LABELS |",
                "|--------|--------|",
                "| abcdef | 1      |",
            ]
        );
    }

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        let row = ["a", "1,000", "say \"x\"", " b"].map(Cell::text);
        assert_eq!(separated(&row, ','), "a,\"1,000\",\"say \"\"x\"\"\",\" b\"");
        assert_eq!(separated(&row[..2], '\t'), "a\t1,000");
    }

    #[test]
    fn rows_are_sorted_by_what_their_cells_mean() {
        let row = |name: &str, n: u64, ms: i64| {
            vec![
                Cell::text(name),
                Cell::number(n.to_string(), n),
                Cell::duration(format!("{ms}ms"), ms),
            ]
        };
        let names = |rows: &[Vec<Cell>]| -> String {
            rows.iter().map(|row| row[0].text.as_str()).collect()
        };
        let mut rows = [row("c", 10, 9), row("b", 9, 10), row("a", 10, 9)];
        sort(&mut rows, &[1]);
        assert_eq!(names(&rows), "bac");
        sort(&mut rows, &[2, 0]);
        assert_eq!(names(&rows), "acb");
    }
}
