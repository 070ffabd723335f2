//! A table: its cells once, and how each format writes them.

use super::cells::{escape, one_line};

/// Which side of a column its cells keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of text under titles.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Longer cells, which are prose, move what stands right of them instead of every other row.
const WIDEST: usize = 64;

impl Table {
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal; empty without rows.
    #[must_use]
    pub fn text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let (widths, mut lines) = self.aligned(one_line, 0);
        lines.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
        lines.iter().map(|cells| cells.join("  ").trim_end().to_owned() + "\n").collect()
    }

    /// For a Markdown file.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (widths, mut lines) = self.aligned(escape, 3);
        let rule = |(width, (_, align)): (&usize, &(&str, Align))| match align {
            Align::Left => "-".repeat(*width),
            Align::Right => "-".repeat(width - 1) + ":",
        };
        lines.insert(1, widths.iter().zip(&self.columns).map(rule).collect());
        lines.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
    }

    /// The columns' widths, and titles and rows padded to them.
    fn aligned(&self, clean: fn(&str) -> String, least: usize) -> (Vec<usize>, Vec<Vec<String>>) {
        let titles = self.columns.iter().map(|(title, _)| clean(title)).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect());
        let mut lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
        let mut widths = vec![least; self.columns.len()];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().min(WIDEST).max(*width);
            }
        }
        for line in &mut lines {
            for ((cell, width), (_, align)) in line.iter_mut().zip(&widths).zip(&self.columns) {
                *cell = match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                };
            }
        }
        (widths, lines)
    }
}
