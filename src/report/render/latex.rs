//! Tables in `LaTeX` with the packages booktabs and siunitx, and a document that shows them all.

use crate::report::page::{Page, Part, Section};
use crate::report::prose::{Prose, Span, keeping_ends};
use crate::report::table::{ReportTable, ShownColumn};
use crate::text::{NOTHING, one_line, run_ids};
use std::fmt::Write;

/// More rows do not fit a page; the document names their file instead.
const MOST_ROWS: usize = 38;

/// One table, for `\input`. A comment behind each row names its runs.
#[must_use]
pub fn table(table: &ReportTable) -> String {
    let kinds: Vec<ColumnKind> = table.columns.iter().map(ColumnKind::of).collect();
    let specification: String = kinds.iter().map(ColumnKind::specification).collect();
    let headings: Vec<String> =
        table.columns.iter().map(|column| format!("{{{}}}", escape(&column.heading))).collect();
    let mut latex = format!(
        "% needs \\usepackage{{booktabs}} and \\usepackage[separate-uncertainty]{{siunitx}}\n\
         \\begin{{tabular}}{{{specification}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        headings.join(" & ")
    );
    for (row, ids) in table.runs.iter().enumerate() {
        let cells: Vec<String> = kinds
            .iter()
            .zip(&table.columns)
            .map(|(kind, column)| kind.cell(&column.cells[row]))
            .collect();
        let comment =
            if ids.is_empty() { String::new() } else { format!(" % {}", run_ids(sorted(ids))) };
        let _ = writeln!(latex, "{} \\\\{comment}", cells.join(" & "));
    }
    latex + "\\bottomrule\n\\end{tabular}\n"
}

fn sorted(ids: &[i64]) -> Vec<i64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// A document of the page's text and tables. `names` are the tables with the names of their files.
#[must_use]
pub fn document(page: &Page, names: &[(String, &ReportTable)]) -> String {
    let mut names = names.iter();
    let mut body = String::new();
    for section in &page.sections {
        add_section(&mut body, page, section, &mut names);
    }
    format!(
        "% compile with: pdflatex {}.tex\n{PREAMBLE}\\begin{{document}}\n\\section*{{{}}}\n{body}\
         \\end{{document}}\n",
        page.stem,
        escape(&page.title)
    )
}

const PREAMBLE: &str = "\\documentclass{article}
\\usepackage[a4paper,landscape,margin=15mm]{geometry}
\\usepackage[T1]{fontenc}
\\usepackage[utf8]{inputenc}
\\usepackage{booktabs,graphicx,textcomp}
\\usepackage[separate-uncertainty]{siunitx}
\\newsavebox\\tablebox
% A table that is too wide is scaled down.
\\newcommand\\fittedtable[1]{\\par\\medskip\\noindent\\sbox\\tablebox{\\input{#1}}%
  \\ifdim\\wd\\tablebox>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox\\tablebox}%
  \\else\\usebox\\tablebox\\fi\\par\\medskip}
\\setlength\\parindent{0pt}
\\setlength\\parskip{4pt}
\\sloppy
";

fn add_section<'a>(
    body: &mut String,
    page: &Page,
    section: &Section,
    names: &mut impl Iterator<Item = &'a (String, &'a ReportTable)>,
) {
    if let Some(heading) = &section.heading {
        let level = if section.is_subsection { "subsubsection" } else { "subsection" };
        let _ = writeln!(body, "\\{level}*{{{}}}", prose(heading));
    }
    for part in &section.parts {
        match part {
            Part::Paragraph(text) => {
                let _ = writeln!(body, "{}\n", prose(text));
            }
            Part::List(items) => {
                let items: String =
                    items.iter().map(|item| format!("\\item {}\n", prose(item))).collect();
                let _ = writeln!(body, "\\begin{{itemize}}\n{items}\\end{{itemize}}");
            }
            Part::Table(table) if table.is_empty() => {}
            Part::Table(table) => {
                let Some((name, _)) = names.next() else { continue };
                let (file, rows) = (format!("{}-{name}", page.stem), table.runs.len());
                let _ = if rows > MOST_ROWS {
                    let name = escape(&format!("{file}.tex"));
                    writeln!(body, "A table of {rows} rows is in \\texttt{{{name}}}.\n")
                } else {
                    writeln!(body, "\\fittedtable{{{file}}}")
                };
            }
            Part::Figure(figure) => {
                let _ = writeln!(body, "% figure: {}", one_line(&figure.file));
            }
        }
    }
}

fn prose(text: &Prose) -> String {
    let span = |span: &Span| match span {
        Span::Text(text) => keeping_ends(text, escape),
        Span::Code(text) => format!("\\texttt{{{}}}", escape(text)),
    };
    text.spans().iter().map(span).collect()
}

/// How siunitx or `LaTeX` aligns a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnKind {
    Text,
    /// Numbers with units or options beside them.
    Right,
    /// Digits before and after the decimal point, and those of the standard deviation.
    Numbers {
        whole: usize,
        decimals: usize,
        deviation: Option<usize>,
        sign: bool,
    },
}

impl ColumnKind {
    fn of(column: &ShownColumn) -> Self {
        if !column.right {
            return Self::Text;
        }
        let (mut whole, mut decimals, mut deviation, mut sign) = (1, 0, None, false);
        for cell in column.cells.iter().filter(|cell| *cell != NOTHING) {
            let (mean, sd) =
                cell.split_once(" ± ").map_or((&cell[..], None), |(m, s)| (m, Some(s)));
            let Some((before, after)) = digits(mean) else { return Self::Right };
            whole = before.max(whole);
            decimals = after.max(decimals);
            sign |= mean.starts_with(['+', '-']);
            if let Some(sd) = sd {
                let Some((before, _)) = digits(sd) else { return Self::Right };
                deviation = Some(before.max(deviation.unwrap_or(1)));
            }
        }
        Self::Numbers { whole, decimals, deviation, sign }
    }

    fn specification(&self) -> String {
        match *self {
            Self::Text => "l".to_owned(),
            Self::Right => "r".to_owned(),
            Self::Numbers { whole, decimals, deviation, sign } => {
                let sign = if sign { "+" } else { "" };
                let deviation =
                    deviation.map_or_else(String::new, |before| format!(" +- {before}.{decimals}"));
                format!("S[table-format={sign}{whole}.{decimals}{deviation}]")
            }
        }
    }

    fn cell(&self, text: &str) -> String {
        match self {
            Self::Numbers { .. } if text == NOTHING => format!("{{{}}}", escape(text)),
            Self::Numbers { .. } => text.replace('±', "+-"),
            _ => escape(text),
        }
    }
}

/// How many digits a plain number has before and after the decimal point; `None` of other text.
fn digits(text: &str) -> Option<(usize, usize)> {
    let number = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    (!before.is_empty() && plain(before) && plain(after)).then_some((before.len(), after.len()))
}

/// The text so that `LaTeX` shows it as it is. A character that the fonts may lack is written by its code.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        let _ = match c {
            '\\' => write!(escaped, "\\textbackslash{{}}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => write!(escaped, "\\{c}"),
            // At the start of a row or an item a bracket would be an argument.
            '[' | ']' => write!(escaped, "{{{c}}}"),
            // Two of these would become another character.
            '-' | ',' => write!(escaped, "{c}{{}}"),
            '\'' => write!(escaped, "\\textquotesingle{{}}"),
            '^' => write!(escaped, "\\textasciicircum{{}}"),
            '~' => write!(escaped, "\\textasciitilde{{}}"),
            '<' | '>' | '|' | '*' => write!(escaped, "\\ensuremath{{{c}}}"),
            '"' => write!(escaped, "\\textquotedbl{{}}"),
            '`' => write!(escaped, "\\textasciigrave{{}}"),
            '–' => write!(escaped, "--"),
            '→' => write!(escaped, "\\ensuremath{{\\rightarrow}}"),
            'α' => write!(escaped, "\\ensuremath{{\\alpha}}"),
            'λ' => write!(escaped, "\\ensuremath{{\\lambda}}"),
            'ρ' => write!(escaped, "\\ensuremath{{\\rho}}"),
            'τ' => write!(escaped, "\\ensuremath{{\\tau}}"),
            '±' => write!(escaped, "\\ensuremath{{\\pm}}"),
            '²' => write!(escaped, "\\ensuremath{{^2}}"),
            ' '..='~' | '\u{c0}'..='\u{ff}' => write!(escaped, "{c}"),
            _ => write!(escaped, "{{[}}U+{:04X}{{]}}", u32::from(c)),
        };
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(cells: &[&str]) -> ColumnKind {
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        let heading = String::new();
        let column = ShownColumn { heading, right: true, cells, values: None, is_runs: false };
        ColumnKind::of(&column)
    }

    #[test]
    fn columns_of_plain_numbers_are_aligned_at_the_point() {
        let numbers = kind(&["81.25", "–", "9.5 ± 10.25"]);
        assert_eq!(numbers.specification(), "S[table-format=2.2 +- 2.2]");
        assert_eq!(numbers.cell("9.5 ± 10.25"), "9.5 +- 10.25");
        assert_eq!(numbers.cell("–"), "{--}");
        assert_eq!(kind(&["+1.5", "-2"]).specification(), "S[table-format=+1.1]");
        assert_eq!(kind(&["3.52 M", "1"]), ColumnKind::Right);
        assert_eq!(kind(&["1", ""]), ColumnKind::Right);
    }

    #[test]
    fn text_cannot_be_markup() {
        let hostile = "\\input{/x} 50% $a_b$ ~^ <東> é";
        let escaped = "\\textbackslash{}input\\{/x\\} 50\\% \\$a\\_b\\$ \\textasciitilde{}\\textasciicircum{} \
                       \\ensuremath{<}{[}U+6771{]}\\ensuremath{>} é";
        assert_eq!(escape(hostile), escaped);
        assert_eq!(escape("--a,,b''"), "-{}-{}a,{},{}b\\textquotesingle{}\\textquotesingle{}");
    }
}
