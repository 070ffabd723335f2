//! A table of a report: its values once as a frame, its cells once as text. Every format is written from
//! these two.

use super::frame::{column, csv_of_frame};
use crate::text::{self, NOTHING, Unit, list, or_dash};
use polars::prelude::{Column, DataFrame, PolarsResult};

/// A table with one row per run, group of runs or part of a network.
#[derive(Clone, Debug)]
pub struct ReportTable {
    /// Names the table's own file, as in `small-results.csv`.
    pub name: &'static str,
    /// What readers see.
    pub columns: Vec<ShownColumn>,
    /// The ids of the runs behind each row.
    pub runs: Vec<Vec<i64>>,
    /// The values at full precision, and the ids of the runs behind each row.
    pub frame: DataFrame,
}

/// A column as readers see it.
#[derive(Clone, Debug)]
pub struct ShownColumn {
    pub heading: String,
    /// Numbers are aligned to the right.
    pub right: bool,
    /// One per row.
    pub cells: Vec<String>,
    /// What the rows are sorted by, where the column is one of numbers.
    pub values: Option<Vec<Option<f64>>>,
    /// Whether it names the runs behind each row.
    pub is_runs: bool,
}

/// A mean over runs, or the number of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// The standard deviation (n - 1) of two or more numbers.
    pub sd: Option<f64>,
    /// How many runs have the number.
    pub n: usize,
    /// How many runs the row is about.
    pub of: usize,
}

/// The columns of a table over `rows`, one call each. `name` is the column's name in the frame, `heading`
/// what readers see.
pub struct Columns<'a, R> {
    name: &'static str,
    rows: &'a [R],
    shown: Vec<ShownColumn>,
    data: Vec<Column>,
    runs: Vec<Vec<i64>>,
}

impl ReportTable {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// For terminals and Markdown.
    #[must_use]
    pub fn cells(&self) -> text::Table {
        let columns: Vec<&ShownColumn> = self.columns.iter().collect();
        cells_of(&columns, 0..self.runs.len())
    }

    /// All values at full precision; unknown ones are empty.
    ///
    /// # Errors
    /// When the frame cannot be written.
    pub fn csv(&self) -> PolarsResult<String> {
        csv_of_frame(self.frame.clone())
    }
}

/// Some columns and rows of a table, for terminals and Markdown.
pub fn cells_of(columns: &[&ShownColumn], rows: impl IntoIterator<Item = usize>) -> text::Table {
    let align = |column: &&ShownColumn| {
        format!("{}{}", if column.right { ">" } else { "" }, column.heading)
    };
    let mut table = text::Table::new(columns.iter().map(align));
    for row in rows {
        table.row(columns.iter().map(|column| column.cells[row].clone()));
    }
    table
}

impl Spread {
    /// Of the numbers that some of `of` runs have; `None` without numbers.
    #[must_use]
    pub fn over(values: &[f64], of: usize) -> Option<Self> {
        let (mean, sd) = super::frame::mean_and_sd(values)?;
        Some(Self { mean, sd, n: values.len(), of })
    }

    /// `81.25 ± 0.30`, with the number of runs where some lack it.
    fn cell(&self, unit: Unit) -> String {
        let cell = self.sd.map_or_else(|| unit.cell(self.mean), |sd| unit.spread(self.mean, sd));
        if self.n == self.of { cell } else { format!("{cell} (n = {})", self.n) }
    }
}

impl<'a, R> Columns<'a, R> {
    #[must_use]
    pub fn of(name: &'static str, rows: &'a [R]) -> Self {
        Self { name, rows, shown: Vec::new(), data: Vec::new(), runs: vec![Vec::new(); rows.len()] }
    }

    /// Some more columns if `condition` holds.
    #[must_use]
    pub fn when(self, condition: bool, more: impl FnOnce(Self) -> Self) -> Self {
        if condition { more(self) } else { self }
    }

    #[must_use]
    pub fn text(self, name: &str, heading: &str, of: impl Fn(&R) -> String) -> Self {
        self.maybe_text(name, heading, |row| Some(of(row)))
    }

    /// With a dash where there is no text.
    #[must_use]
    pub fn maybe_text(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<String>,
    ) -> Self {
        let texts: Vec<Option<String>> = self.rows.iter().map(of).collect();
        let cells = texts.iter().map(|text| or_dash(text.as_deref())).collect();
        self.show(heading, false, cells, None);
        self.data.push(Column::new(name.into(), texts));
        self
    }

    /// Text that is aligned as a number.
    #[must_use]
    pub fn label(self, name: &str, heading: &str, of: impl Fn(&R) -> String) -> Self {
        self.maybe_label(name, heading, |row| Some(of(row)))
    }

    /// Text that is aligned as a number, with a dash where there is none.
    #[must_use]
    pub fn maybe_label(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<String>,
    ) -> Self {
        self = self.maybe_text(name, heading, of);
        if let Some(column) = self.shown.last_mut() {
            column.right = true;
        }
        self
    }

    /// A whole number.
    #[must_use]
    pub fn whole(self, name: &str, heading: &str, of: impl Fn(&R) -> Option<u64>) -> Self {
        self.whole_as(name, heading, of, |_, value| value.to_string())
    }

    /// A whole number that the cell shows in its own way.
    #[must_use]
    pub fn whole_as(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<u64>,
        show: impl Fn(&R, u64) -> String,
    ) -> Self {
        let values: Vec<Option<u64>> = self.rows.iter().map(of).collect();
        let cell = |(row, value): (&R, &Option<u64>)| {
            value.map_or_else(|| NOTHING.to_owned(), |value| show(row, value))
        };
        let cells = self.rows.iter().zip(&values).map(cell).collect();
        let sort = values.iter().map(|value| value.map(|value| value as f64)).collect();
        self.show(heading, true, cells, Some(sort));
        self.data.push(Column::new(name.into(), values));
        self
    }

    /// A number, with a dash where there is none.
    #[must_use]
    pub fn number(
        self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<f64>,
        show: impl Fn(f64) -> String,
    ) -> Self {
        self.number_as(name, heading, of, |_, value| show(value))
    }

    /// A number that the cell shows in its own way.
    #[must_use]
    pub fn number_as(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<f64>,
        show: impl Fn(&R, f64) -> String,
    ) -> Self {
        let values: Vec<Option<f64>> = self.rows.iter().map(of).collect();
        let cell = |(row, value): (&R, &Option<f64>)| {
            value.map_or_else(|| NOTHING.to_owned(), |value| show(row, value))
        };
        let cells = self.rows.iter().zip(&values).map(cell).collect();
        self.data.push(Column::new(name.into(), &values[..]));
        self.show(heading, true, cells, Some(values));
        self
    }

    /// A word instead of a dash where the last column has no value.
    #[must_use]
    pub fn or_word(mut self, word: &str) -> Self {
        let cells = self.shown.last_mut().map(|column| &mut column.cells);
        for cell in cells.into_iter().flatten().filter(|cell| *cell == NOTHING) {
            word.clone_into(cell);
        }
        self
    }

    /// Mean ± standard deviation. The frame has `NAME`, `NAME_sd` and `NAME_n`.
    #[must_use]
    pub fn spread(
        mut self,
        name: &str,
        heading: &str,
        unit: Unit,
        of: impl Fn(&R) -> Option<Spread>,
    ) -> Self {
        let all: Vec<Option<Spread>> = self.rows.iter().map(of).collect();
        let cells = all.iter().map(|s| or_dash(s.as_ref().map(|s| s.cell(unit)))).collect();
        let mean = all.iter().map(|spread| spread.map(|spread| spread.mean)).collect();
        self.show(heading, true, cells, Some(mean));
        self.data.extend([
            column(name, &all, |s| s.map(|s| s.mean)),
            column(&format!("{name}_sd"), &all, |s| s.and_then(|s| s.sd)),
            column(&format!("{name}_n"), &all, |s| s.map(|s| s.n as u64)),
        ]);
        self
    }

    /// `1.2 to 3.4`, with a dash where there is none. The frame has `NAME_low` and `NAME_high`.
    #[must_use]
    pub fn interval(
        self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<(f64, f64)>,
        show: impl Fn(f64) -> String,
    ) -> Self {
        self.interval_as(name, heading, of, |_, ends| {
            or_dash(ends.map(|(low, high)| format!("{} to {}", show(low), show(high))))
        })
    }

    /// An interval that the cell shows in its own way.
    #[must_use]
    pub fn interval_as(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<(f64, f64)>,
        show: impl Fn(&R, Option<(f64, f64)>) -> String,
    ) -> Self {
        let all: Vec<Option<(f64, f64)>> = self.rows.iter().map(of).collect();
        let cells = self.rows.iter().zip(&all).map(|(row, ends)| show(row, *ends)).collect();
        let low = all.iter().map(|ends| ends.map(|(low, _)| low)).collect();
        self.show(heading, false, cells, Some(low));
        self.data.extend([
            column(&format!("{name}_low"), &all, |ends| ends.map(|(low, _)| low)),
            column(&format!("{name}_high"), &all, |ends| ends.map(|(_, high)| high)),
        ]);
        self
    }

    /// From a first to a last value, `1 to 14`. The frame has `NAME_first` and `NAME_last`.
    #[must_use]
    pub fn ends(
        mut self,
        name: &str,
        heading: &str,
        of: impl Fn(&R) -> Option<(f64, f64)>,
        show: impl Fn(f64) -> String,
    ) -> Self {
        let all: Vec<Option<(f64, f64)>> = self.rows.iter().map(of).collect();
        let cell = |ends: &Option<(f64, f64)>| {
            or_dash(ends.map(|(first, last)| format!("{} to {}", show(first), show(last))))
        };
        let cells = all.iter().map(cell).collect();
        let last = all.iter().map(|ends| ends.map(|(_, last)| last)).collect();
        self.show(heading, true, cells, Some(last));
        self.data.extend([
            column(&format!("{name}_first"), &all, |ends| ends.map(|(first, _)| first)),
            column(&format!("{name}_last"), &all, |ends| ends.map(|(_, last)| last)),
        ]);
        self
    }

    /// The runs behind each row, as a column of their own.
    #[must_use]
    pub fn runs(mut self, heading: &str, of: impl Fn(&R) -> Vec<i64>) -> Self {
        self = self.of_runs(of);
        let cell = |ids: &Vec<i64>| {
            if ids.is_empty() { NOTHING.to_owned() } else { list(ids) }
        };
        let cells = self.runs.iter().map(cell).collect();
        let first = self.runs.iter().map(|ids| ids.first().map(|id| *id as f64)).collect();
        self.show(heading, true, cells, Some(first));
        if let Some(column) = self.shown.last_mut() {
            column.is_runs = true;
        }
        self
    }

    /// The runs behind each row, where the page names them elsewhere.
    #[must_use]
    pub fn of_runs(mut self, of: impl Fn(&R) -> Vec<i64>) -> Self {
        self.runs = self.rows.iter().map(of).collect();
        self
    }

    fn show(
        &mut self,
        heading: &str,
        right: bool,
        cells: Vec<String>,
        values: Option<Vec<Option<f64>>>,
    ) {
        let heading = heading.to_owned();
        self.shown.push(ShownColumn { heading, right, cells, values, is_runs: false });
    }

    /// The finished table.
    ///
    /// # Panics
    /// When two columns have the same name in the frame.
    #[must_use]
    pub fn table(mut self) -> ReportTable {
        let ids =
            |ids: &Vec<i64>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.data.push(column("run_ids", &self.runs, ids));
        let frame = DataFrame::new(self.rows.len(), self.data);
        let frame = frame.unwrap_or_else(|error| panic!("table {}: {error}", self.name));
        ReportTable { name: self.name, columns: self.shown, runs: self.runs, frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ReportTable {
        let rows = [(1_u64, Some(0.5)), (2, None)];
        Columns::of("small", &rows)
            .whole("seed", "seed", |row| Some(row.0))
            .number("top1", "top-1 %", |row| row.1, |x| Unit::Percent.cell(x))
            .spread("macs", "MACs", Unit::Count, |row| {
                Spread::over(&[2e6, 4e6][..row.0 as usize], 2)
            })
            .interval(
                "gain",
                "95 % interval",
                |row| row.1.map(|x| (x, 2.0 * x)),
                |x| format!("{x:.1}"),
            )
            .runs("runs", |row| vec![7; row.0 as usize])
            .table()
    }

    #[test]
    fn cells_are_short_and_values_exact() {
        let text = table().cells().to_string();
        let cells = |line: &str| -> Vec<String> {
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|c| !c.is_empty()).collect()
        };
        let rows: Vec<Vec<String>> = text.lines().skip(1).map(cells).collect();
        assert_eq!(rows[0], ["1", "50.00", "2.00 M (n = 1)", "0.5 to 1.0", "7"]);
        assert_eq!(rows[1], ["2", "–", "3.00 ± 1.41 M", "–", "7, 7"]);
        let csv = table().csv().unwrap();
        assert_eq!(
            csv,
            "seed,top1,macs,macs_sd,macs_n,gain_low,gain_high,run_ids\n\
             1,0.5,2000000.0,,1,0.5,1.0,7\n\
             2,,3000000.0,1414213.562373095,2,,,7 7\n"
        );
    }

    #[test]
    fn a_column_keeps_its_values_for_sorting() {
        let table = table();
        assert_eq!(table.columns[1].values, Some(vec![Some(0.5), None]));
        assert_eq!(table.runs, [vec![7], vec![7, 7]]);
    }
}
