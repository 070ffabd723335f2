//! Pages in the formats that people and programs read.

mod check;
mod html;
mod json;
mod latex;
mod markdown;

use super::files;
use super::frame::csv_of_frame;
use super::page::Page;
use super::table::ReportTable;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use check::differences;
pub use html::{RunDetails, live_document};

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportFormat {
    /// A page with its figures and the CSV file of its runs.
    Markdown,
    /// One file for all pages.
    Html,
    /// A document, and each table in a file of its own.
    Latex,
    /// The runs, and each table in a file of its own.
    Csv,
    /// As CSV.
    Parquet,
    /// The page and its runs.
    Json,
}

impl ReportFormat {
    pub const ALL: [Self; 6] =
        [Self::Markdown, Self::Html, Self::Latex, Self::Csv, Self::Parquet, Self::Json];
}

/// A file that is not yet written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Below the folder of reports, for example `memory`.
    pub folder: Option<&'static str>,
    pub name: String,
    pub content: Vec<u8>,
}

impl ReportFile {
    /// Its folder, in the folder of reports.
    fn place(&self, reports: &Path) -> PathBuf {
        self.folder.map_or(reports.to_owned(), |name| reports.join(name))
    }
}

/// The files of these pages. `details` says more about each run to readers of HTML.
///
/// # Errors
/// When a frame cannot be written.
pub fn files(
    pages: &[Page],
    details: &[RunDetails],
    format: ReportFormat,
) -> Result<Vec<ReportFile>> {
    let of_page = match format {
        ReportFormat::Html => {
            let content = html::document(pages, details).into_bytes();
            return Ok(vec![ReportFile { folder: None, name: "report.html".to_owned(), content }]);
        }
        ReportFormat::Markdown => markdown_files,
        ReportFormat::Latex => latex_files,
        ReportFormat::Csv => csv_files,
        ReportFormat::Parquet => parquet_files,
        ReportFormat::Json => json_files,
    };
    let mut all: Vec<ReportFile> = Vec::new();
    let mut names = BTreeSet::new();
    for page in pages {
        let files = of_page(page);
        for file in files.with_context(|| format!("cannot write the report of {}", page.title))? {
            ensure!(
                names.insert((file.folder, file.name.clone())),
                "two reports would write the file {}: report one of the experiments into another folder \
                 with --experiment and --out",
                file.name
            );
            all.push(file);
        }
    }
    Ok(all)
}

fn file(page: &Page, name: String, content: impl Into<Vec<u8>>) -> ReportFile {
    ReportFile { folder: page.folder, name, content: content.into() }
}

fn markdown_files(page: &Page) -> Result<Vec<ReportFile>> {
    let figures =
        page.figures().map(|figure| file(page, figure.file.clone(), figure.svg.as_bytes()));
    let data = file(page, format!("{}.csv", page.stem), page.csv()?);
    let text = file(page, format!("{}.md", page.stem), page.markdown());
    Ok(figures.chain([data, text]).collect())
}

#[allow(clippy::unnecessary_wraps)] // As the others.
fn latex_files(page: &Page) -> Result<Vec<ReportFile>> {
    let (stem, tables) = (&page.stem, numbered(page));
    let document = file(page, format!("{stem}.tex"), latex::document(page, &tables));
    let of_table = |(name, table): &(String, &ReportTable)| {
        file(page, format!("{stem}-{name}.tex"), latex::table(table))
    };
    Ok(tables.iter().map(of_table).chain([document]).collect())
}

fn csv_files(page: &Page) -> Result<Vec<ReportFile>> {
    let mut files = vec![file(page, format!("{}.csv", page.stem), page.csv()?)];
    for (name, table) in numbered(page) {
        files.push(file(page, format!("{}-{name}.csv", page.stem), table.csv()?));
    }
    Ok(files)
}

fn parquet_files(page: &Page) -> Result<Vec<ReportFile>> {
    let data = super::export::frame(&page.data)?;
    let mut files = vec![file(page, format!("{}.parquet", page.stem), data)];
    for (name, table) in numbered(page) {
        let content = super::export::frame(&table.frame)?;
        files.push(file(page, format!("{}-{name}.parquet", page.stem), content));
    }
    Ok(files)
}

fn json_files(page: &Page) -> Result<Vec<ReportFile>> {
    Ok(vec![file(page, format!("{}.json", page.stem), json::page(page)?)])
}

/// The tables of a page with names of their own: `architecture`, `architecture-2`.
fn numbered(page: &Page) -> Vec<(String, &ReportTable)> {
    let mut all: Vec<(String, &ReportTable)> = Vec::new();
    for table in page.tables().filter(|table| !table.is_empty()) {
        let before = all.iter().filter(|(_, other)| other.name == table.name).count();
        let number = if before == 0 { String::new() } else { format!("-{}", before + 1) };
        all.push((format!("{}{number}", table.name), table));
    }
    all
}

impl Page {
    /// For a Markdown file.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// The runs at full precision.
    ///
    /// # Errors
    /// When the frame cannot be written.
    pub fn csv(&self) -> Result<String> {
        csv_of_frame(self.data.clone()).context("cannot write the runs as CSV")
    }
}

/// Writes the files below `folder`, which is created if necessary. Nothing is touched before everything
/// is computed. Returns what was written.
///
/// # Errors
/// When a file cannot be written.
pub fn write(reports: &[ReportFile], folder: &Path) -> Result<Vec<PathBuf>> {
    let written = reports.iter().map(|file| {
        let place = file.place(folder);
        files::make_folder(&place)?;
        files::replace(&place, &file.name, &file.content)
    });
    written.collect()
}
