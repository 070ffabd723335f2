//! A report before it is written in any format: sections of paragraphs, lists, tables and figures.

use super::prose::Prose;
use super::table::ReportTable;
use polars::prelude::DataFrame;

/// The report of one experiment.
#[derive(Clone, Debug)]
pub struct Page {
    /// The experiment's name.
    pub title: String,
    /// The beginning of the names of its files.
    pub stem: String,
    /// Subfolder of the report folder, for example `memory`.
    pub folder: Option<&'static str>,
    /// The first has no heading: it says where the page comes from.
    pub sections: Vec<Section>,
    /// What the runs show, a sentence each, for those who read no further and for the index of all reports.
    pub verdicts: Vec<String>,
    /// One row per run (of a memory study one per point, of an exhaustive table one per network and seed),
    /// every number at full precision.
    pub data: DataFrame,
    /// The ids of its runs, ascending.
    pub runs: Vec<i64>,
}

/// A heading and what is below it.
#[derive(Clone, Debug)]
pub struct Section {
    /// `None` for the first section of a page.
    pub heading: Option<Prose>,
    /// Whether it belongs to the section before it.
    pub is_subsection: bool,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub enum Part {
    Paragraph(Prose),
    List(Vec<Prose>),
    Table(ReportTable),
    Figure(Figure),
}

/// A picture beside a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its file, beside the page.
    pub file: String,
    /// What it shows, for those who cannot see it.
    pub alt: String,
    pub svg: String,
}

impl Section {
    #[must_use]
    pub fn new(heading: impl Into<Prose>, parts: Vec<Part>) -> Self {
        Self { heading: Some(heading.into()), is_subsection: false, parts }
    }

    /// A part of the section before it.
    #[must_use]
    pub fn below(heading: impl Into<Prose>, parts: Vec<Part>) -> Self {
        Self { is_subsection: true, ..Self::new(heading, parts) }
    }

    /// The beginning of a page.
    #[must_use]
    pub fn opening(parts: Vec<Part>) -> Self {
        Self { heading: None, is_subsection: false, parts }
    }
}

impl Part {
    /// A paragraph of this program's text, in which backticks enclose code.
    #[must_use]
    pub fn marked(text: &str) -> Self {
        Self::Paragraph(Prose::marked(text))
    }

    /// A paragraph.
    #[must_use]
    pub fn paragraph(text: impl Into<Prose>) -> Self {
        Self::Paragraph(text.into())
    }

    /// A list of sentences; `None` if there are none.
    #[must_use]
    pub fn list<P: Into<Prose>>(items: impl IntoIterator<Item = P>) -> Option<Self> {
        let items: Vec<Prose> = items.into_iter().map(Into::into).collect();
        (!items.is_empty()).then_some(Self::List(items))
    }
}

impl Page {
    /// All tables, in order.
    pub fn tables(&self) -> impl Iterator<Item = &ReportTable> {
        self.parts().filter_map(|part| match part {
            Part::Table(table) => Some(table),
            _ => None,
        })
    }

    /// All figures, in order.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.parts().filter_map(|part| match part {
            Part::Figure(figure) => Some(figure),
            _ => None,
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.sections.iter().flat_map(|section| &section.parts)
    }
}
