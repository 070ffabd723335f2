//! All pages as one HTML file that works offline: style, script, figures and the details of runs are
//! in it. Every text from outside is escaped.

use crate::env::utc;
use crate::report::measured::{MeasuredRun, StepValue};
use crate::report::page::{Page, Part, Section};
use crate::report::prose::{Prose, Span, keeping_ends};
use crate::report::table::{ReportTable, ShownColumn};
use crate::store::{ManifestRecord, Measurement, RunRow};
use crate::text::{duration, run_ids, xml};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
const LIVE: &str = include_str!("live.js");

/// Tables with more rows can be filtered.
const FEW_ROWS: usize = 5;
/// Longer histories are thinned to this many points.
const MOST_POINTS: usize = 120;

/// What the page shows about a run when its number is clicked.
#[derive(Clone, Debug)]
pub struct RunDetails {
    id: i64,
    manifest: Arc<ManifestRecord>,
    /// `facts` and `history` as the inside of a JSON object: of many runs this is much smaller than values.
    json: String,
}

impl RunDetails {
    /// Of a run and some of its measurements.
    #[must_use]
    pub fn of(run: &RunRow, measurements: &[Measurement]) -> Self {
        let environment = &run.environment;
        let facts = [
            ("experiment", run.experiment.clone()),
            ("method", run.method.clone()),
            ("seed", run.seed.to_string()),
            ("status", run.status.name().to_owned()),
            ("attempt", run.attempt.to_string()),
            ("error", run.error.clone().unwrap_or_default()),
            ("started (UTC)", utc(run.started_at)),
            ("duration", duration(run.last_seen_at - run.started_at)),
            ("command", run.command.clone()),
            ("revision", environment.git_revision.clone().unwrap_or_default()),
            ("device", environment.device.clone()),
            ("processor", environment.cpu.clone()),
            ("system", environment.os.clone()),
            ("libraries", environment.libraries.clone()),
            ("manifest sha256", run.manifest.sha256.clone()),
        ];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
        let facts: Vec<Value> = facts.map(|(name, value)| json!([name, value])).collect();
        let measured = MeasuredRun::new(run, measurements);
        let several = measured.all().filter(|(_, series)| series.len() > 1);
        let history: Map<String, Value> =
            several.map(|(metric, series)| (metric.to_string(), json!(thinned(series)))).collect();
        let json = format!("\"facts\":{},\"history\":{}", json!(facts), json!(history));
        Self { id: run.id, manifest: Arc::clone(&run.manifest), json }
    }
}

/// At most [`MOST_POINTS`] finite values, among them the last finite one.
fn thinned(series: &[StepValue]) -> Vec<StepValue> {
    let finite = || series.iter().rev().filter(|(_, value)| value.is_finite());
    let every = finite().count().div_ceil(MOST_POINTS).max(1);
    let mut points: Vec<StepValue> = finite().step_by(every).copied().collect();
    points.reverse();
    points
}

/// The file.
#[must_use]
pub fn document(pages: &[Page], details: &[RunDetails]) -> String {
    with_script(pages, details, "")
}

/// The page for a server that has the database's version at `/version`: it reloads itself when that changes, but not
/// while a run is open or a table is filtered.
#[must_use]
pub fn live_document(pages: &[Page], details: &[RunDetails], version: &str) -> String {
    let script = format!("const shown = {};\n{LIVE}", without_tags(&json!(version).to_string()));
    with_script(pages, details, &script)
}

fn with_script(pages: &[Page], details: &[RunDetails], script: &str) -> String {
    let title = match pages {
        [page] => format!("{} – repro report", xml(&page.title)),
        _ => "repro report".to_owned(),
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    if pages.len() > 1 {
        html.push_str("<nav aria-label=\"Experiments\">\n");
        for page in pages {
            let (anchor, title) = (anchor(page), xml(&page.title));
            let _ = writeln!(html, "<a href=\"#{anchor}\">{title}</a>");
        }
        html.push_str("</nav>\n");
    }
    html.push_str("<main>\n");
    for page in pages {
        add_page(&mut html, page);
    }
    html.push_str(
        "</main>\n<dialog id=\"run\"><button class=\"close\" aria-label=\"Close\">×</button>\
         <div class=\"content\"></div></dialog>\n<script type=\"application/json\" id=\"runs\">",
    );
    add_data(&mut html, details);
    let _ = write!(html, "</script>\n<script>\n{SCRIPT}{script}</script>\n</body>\n</html>\n");
    html
}

/// The id of a page's element. No other element has an id that begins so.
fn anchor(page: &Page) -> String {
    xml(&format!("page-{}/{}", page.folder.unwrap_or("experiments"), page.stem))
}

/// Adds the runs by id as JSON. They share the texts of manifests and spaces. No text can end the script element.
fn add_data(html: &mut String, details: &[RunDetails]) {
    let (mut places, mut texts) = (BTreeMap::new(), Vec::<&str>::new());
    let mut place = |text| {
        *places.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() - 1
        })
    };
    html.push_str("{\"runs\":{");
    for (i, run) in details.iter().enumerate() {
        let (comma, id) = (if i == 0 { "" } else { "," }, run.id);
        let (manifest, space) = (place(&*run.manifest.text), place(&run.manifest.space_text));
        let _ = write!(html, "{comma}\"{id}\":{{\"manifest\":{manifest},\"space\":{space},");
        html.push_str(&without_tags(&run.json));
        html.push('}');
    }
    html.push_str("},\"texts\":");
    html.push_str(&without_tags(&json!(texts).to_string()));
    html.push('}');
}

/// JSON in which no HTML element begins or ends.
fn without_tags(json: &str) -> String {
    json.replace('<', "\\u003c")
}

fn add_page(html: &mut String, page: &Page) {
    let _ = writeln!(html, "<article id=\"{}\">\n<h1>{}</h1>", anchor(page), xml(&page.title));
    for section in &page.sections {
        add_section(html, section);
    }
    html.push_str("</article>\n");
}

fn add_section(html: &mut String, section: &Section) {
    html.push_str("<section>\n");
    if let Some(heading) = &section.heading {
        let level = if section.is_subsection { "h3" } else { "h2" };
        let _ = writeln!(html, "<{level}>{}</{level}>", prose(heading));
    }
    for part in &section.parts {
        match part {
            Part::Paragraph(text) => {
                let _ = writeln!(html, "<p>{}</p>", prose(text));
            }
            Part::List(items) => {
                html.push_str("<ul>\n");
                for item in items {
                    let _ = writeln!(html, "<li>{}</li>", prose(item));
                }
                html.push_str("</ul>\n");
            }
            Part::Table(table) if table.is_empty() => {}
            Part::Table(table) => add_table(html, table),
            Part::Figure(figure) => {
                let (alt, svg) = (xml(&figure.alt), figure.svg.trim_end());
                let _ = writeln!(html, "<figure aria-label=\"{alt}\">{svg}</figure>");
            }
        }
    }
    html.push_str("</section>\n");
}

fn add_table(html: &mut String, table: &ReportTable) {
    let _ = writeln!(html, "<div class=\"table\" data-name=\"{}\">", table.name);
    if table.runs.len() > FEW_ROWS {
        html.push_str(
            "<label class=\"filter\">Filter <input type=\"search\" placeholder=\"method, seed, …\"></label>\n",
        );
    }
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for column in &table.columns {
        let _ = write!(
            html,
            "<th scope=\"col\"{}><button type=\"button\">{}</button></th>",
            class(column),
            xml(&column.heading)
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (row, ids) in table.runs.iter().enumerate() {
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        let title =
            if ids.is_empty() { String::new() } else { format!(" title=\"{}\"", run_ids(sorted)) };
        let _ = write!(html, "<tr{title}>");
        for column in &table.columns {
            add_cell(html, column, row, ids);
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div></div>\n");
}

fn class(column: &ShownColumn) -> &'static str {
    if column.right { " class=\"number\"" } else { "" }
}

/// A cell with what it is sorted by. Runs can be opened.
fn add_cell(html: &mut String, column: &ShownColumn, row: usize, ids: &[i64]) {
    let value = column.values.as_ref().and_then(|values| values[row]).filter(|v| v.is_finite());
    let value = value.map_or_else(String::new, |value| format!(" data-value=\"{value}\""));
    let _ = write!(html, "<td{}{value}>", class(column));
    if column.is_runs && !ids.is_empty() {
        let links = ids.iter().map(|id| format!("<a href=\"#run-{id}\">{id}</a>"));
        html.push_str(&links.collect::<Vec<_>>().join(", "));
    } else {
        html.push_str(&xml(&column.cells[row]));
    }
    html.push_str("</td>");
}

fn prose(text: &Prose) -> String {
    let span = |span: &Span| match span {
        Span::Code(text) => format!("<code>{}</code>", xml(text)),
        Span::Text(text) => keeping_ends(text, xml),
    };
    text.spans().iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_the_script() {
        let manifest = ManifestRecord {
            sha256: String::new(),
            name: String::new(),
            text: "x".to_owned(),
            space_name: String::new(),
            space_text: "</script><b>".to_owned(),
            space_candidates: String::new(),
            space_log10: 0.0,
        };
        let json = "\"facts\":[[\"error\",\"<!--<script>\"]]".to_owned();
        let details = RunDetails { id: 1, manifest: Arc::new(manifest), json };
        let mut data = String::new();
        add_data(&mut data, &[details]);
        assert!(!data.contains('<'), "{data}");
        let value: Value = serde_json::from_str(&data).unwrap();
        let place = value["runs"]["1"]["space"].as_u64().unwrap() as usize;
        assert_eq!(value["texts"][place], "</script><b>");
    }
}
