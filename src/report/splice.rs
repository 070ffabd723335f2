//! Tables of a report within other Markdown files, such as a README.
//!
//! A line `<!-- repro: EXPERIMENT/TABLE | HEADING | … | where HEADING = VALUE -->` begins a table, and
//! `<!-- repro: end -->` ends it. Without headings it has all columns; without `where`, all rows.

use super::page::Page;
use super::table::{ReportTable, ShownColumn, cells_of};
use crate::document::nearest;
use crate::text::Table;
use anyhow::{Context, Result, bail};

const START: &str = "<!-- repro: ";
const STOP: &str = " -->";
const END: &str = "<!-- repro: end -->";

/// A file with the tables of these pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    pub text: String,
    /// How many tables are of these pages. Those of other reports stay as they are.
    pub tables: usize,
}

/// The text with its tables as the pages have them.
///
/// # Errors
/// When a table does not end, or names what a page does not have.
pub fn splice(text: &str, pages: &[Page]) -> Result<Spliced> {
    let (mut spliced, mut tables) = (String::with_capacity(text.len()), 0);
    let mut lines = text.split_inclusive('\n').enumerate();
    while let Some((i, line)) = lines.next() {
        spliced.push_str(line);
        let Some(request) = line.trim().strip_prefix(START).filter(|_| line.trim() != END) else {
            continue;
        };
        let request = request.strip_suffix(STOP).unwrap_or(request);
        let mut old = String::new();
        let end = loop {
            match lines.next() {
                Some((_, line)) if line.trim() == END => break line,
                Some((_, line)) => old.push_str(line),
                None => bail!("line {}: {END:?} is missing below it", i + 1),
            }
        };
        match table(request, pages).with_context(|| format!("line {}", i + 1))? {
            Some(table) => {
                tables += 1;
                spliced.push_str(&table.markdown());
            }
            None => spliced.push_str(&old),
        }
        spliced.push_str(end);
    }
    Ok(Spliced { text: spliced, tables })
}

/// What is asked for; `None` where no page is of that experiment.
fn table(request: &str, pages: &[Page]) -> Result<Option<Table>> {
    let mut parts = request.split(" | ").map(str::trim);
    let place = parts.next().unwrap_or_default();
    let (experiment, name) = place.rsplit_once('/').context("name a table as EXPERIMENT/TABLE")?;
    let Some(page) = pages.iter().find(|page| page.title == experiment) else { return Ok(None) };
    let names = || page.tables().map(|table| table.name);
    let Some(table) = page.tables().find(|table| table.name == name) else {
        bail!(unknown("table", name, names()));
    };
    let (mut shown, mut rows) = (Vec::new(), (0..table.runs.len()).collect::<Vec<_>>());
    for part in parts {
        match part.strip_prefix("where ") {
            Some(condition) => {
                let (heading, value) =
                    condition.split_once(" = ").context("write where HEADING = VALUE")?;
                let column = column(table, heading)?;
                rows.retain(|row| column.cells[*row] == value);
            }
            None => shown.push(column(table, part)?),
        }
    }
    if shown.is_empty() {
        shown = table.columns.iter().collect();
    }
    Ok(Some(cells_of(&shown, rows)))
}

fn column<'a>(table: &'a ReportTable, heading: &str) -> Result<&'a ShownColumn> {
    let headings = || table.columns.iter().map(|column| &column.heading[..]);
    let found = table.columns.iter().find(|column| column.heading == heading);
    found.with_context(|| unknown("column", heading, headings()))
}

fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match nearest(name, names.iter().copied()) {
        Some(hint) => format!("no {what} {name:?}; did you mean {hint:?}?"),
        None => format!("no {what} {name:?}; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::{Part, Section};
    use crate::report::table::Columns;

    fn page() -> Page {
        let rows = [("random", 1.0), ("dmasking", 2.0)];
        let table = Columns::of("methods", &rows)
            .text("method", "method", |row| row.0.to_owned())
            .number("top1", "top-1 %", |row| Some(row.1), |x| format!("{x:.1}"))
            .table();
        Page {
            title: "small".to_owned(),
            stem: "small".to_owned(),
            folder: None,
            data: table.frame.clone(),
            sections: vec![Section::opening(vec![Part::Table(table)])],
            verdicts: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn spliced(marker: &str) -> Result<Spliced> {
        splice(&format!("before\n<!-- repro: {marker} -->\nold\n{END}\nafter\n"), &[page()])
    }

    #[test]
    fn a_table_is_replaced_between_its_marks() {
        let all = spliced("small/methods").unwrap();
        assert_eq!(all.tables, 1);
        assert!(all.text.starts_with("before\n<!-- repro: small/methods -->\n| method "));
        assert!(all.text.ends_with(&format!("|\n{END}\nafter\n")) && !all.text.contains("old"));
        assert_eq!(splice(&all.text, &[page()]).unwrap(), all);
        let one = spliced("small/methods | top-1 % | where method = dmasking").unwrap().text;
        assert!(one.contains("2.0") && !one.contains("1.0") && !one.contains("random"), "{one}");
        let other = spliced("large/methods").unwrap();
        assert!(other.text.contains("\nold\n") && other.tables == 0);
    }

    #[test]
    fn what_a_page_does_not_have_is_named() {
        let message = |marker| format!("{:#}", spliced(marker).unwrap_err());
        assert_eq!(
            message("small/method"),
            "line 2: no table \"method\"; did you mean \"methods\"?"
        );
        assert_eq!(
            message("small/methods | accuracy"),
            "line 2: no column \"accuracy\"; there are method, top-1 %"
        );
        let endless = splice("<!-- repro: small/methods -->\n", &[page()]).unwrap_err();
        assert!(endless.to_string().contains("is missing below it"));
    }
}
