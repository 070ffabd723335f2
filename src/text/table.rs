//! A table: its cells once, and each format that writes them.

use super::{escape, one_line};
use std::fmt;

/// Rows of text under headings. Cells may hold any text; each format escapes what it must.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    /// Numbers keep to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

/// Longer cells, which are prose, push only what stands right of them in their own row.
const WIDEST: usize = 64;

impl Table {
    /// A column whose heading begins with `>` is aligned to the right.
    pub fn new(headings: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let (mut table, headings) =
            (Self { headings: vec![], right: vec![], rows: vec![] }, headings.into_iter());
        for heading in headings {
            let heading = heading.as_ref();
            table.right.push(heading.starts_with('>'));
            table.headings.push(heading.trim_start_matches('>').to_owned());
        }
        table
    }

    /// Adds a row of one cell per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal, each line with its end; empty without rows.
    #[must_use]
    pub fn text(&self) -> String {
        if self.is_empty() { String::new() } else { format!("{self}\n") }
    }

    /// For a Markdown file.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (widths, mut lines) = self.aligned(escape, 3);
        let rule = |(width, right): (&usize, &bool)| {
            if *right { "-".repeat(width - 1) + ":" } else { "-".repeat(*width) }
        };
        lines.insert(1, widths.iter().zip(&self.right).map(rule).collect());
        lines.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
    }

    /// The columns' widths, and headings and rows padded to them.
    fn aligned(&self, clean: fn(&str) -> String, least: usize) -> (Vec<usize>, Vec<Vec<String>>) {
        let all = std::iter::once(&self.headings).chain(&self.rows);
        let mut lines: Vec<Vec<String>> =
            all.map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
        let mut widths = vec![least; self.headings.len()];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().min(WIDEST).max(*width);
            }
        }
        for line in &mut lines {
            for ((cell, width), right) in line.iter_mut().zip(&widths).zip(&self.right) {
                *cell = if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            }
        }
        (widths, lines)
    }
}

/// For a terminal, without a line break at the end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, lines) = self.aligned(one_line, 0);
        for (i, cells) in lines.iter().enumerate() {
            let line = cells.join("  ");
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([">n", "name"]);
        table.row(["7".to_owned(), "smoke".to_owned()]);
        table.row(["12".to_owned(), "x|\u{1b}".to_owned()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cells() {
        assert_eq!(table().to_string(), " n  name\n 7  smoke\n12  x|\\u{1b}");
    }

    #[test]
    fn cells_cannot_break_a_markdown_table() {
        let lines = ["|   n | name       |", "| --: | ---------- |", "|   7 | smoke      |"];
        let expected = lines.join("\n") + "\n|  12 | x\\|\\\\u{1b} |\n";
        assert_eq!(table().markdown(), expected);
    }
}
