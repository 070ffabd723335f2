//! A page as Markdown, with its figures in files beside it.

use crate::report::page::{Page, Part, Section};
use crate::report::prose::{Prose, Span, keeping_ends};
use crate::text::{code, escape};

/// The whole page. Figures are named by their files.
#[must_use]
pub fn page(page: &Page) -> String {
    let title = format!("# {}\n", escape(&page.title));
    let sections = page.sections.iter().flat_map(section);
    std::iter::once(title).chain(sections).collect::<Vec<_>>().join("\n")
}

fn section(section: &Section) -> Vec<String> {
    let level = if section.is_subsection { "###" } else { "##" };
    let heading = section.heading.as_ref();
    let heading = heading.map(|heading| format!("{level} {}\n", prose(heading)));
    heading.into_iter().chain(section.parts.iter().map(part)).collect()
}

fn part(part: &Part) -> String {
    match part {
        Part::Paragraph(text) => format!("{}\n", prose(text)),
        Part::List(items) => items.iter().map(|item| format!("- {}\n", prose(item))).collect(),
        Part::Table(table) => table.cells().markdown(),
        Part::Figure(figure) => format!("![{}]({})\n", escape(&figure.alt), figure.file),
    }
}

fn prose(text: &Prose) -> String {
    text.spans().iter().map(span).collect()
}

fn span(span: &Span) -> String {
    match span {
        Span::Code(text) => code(text),
        Span::Text(text) => keeping_ends(text, escape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_keeps_its_spaces() {
        let text = Prose::from("a_b _c_ by ").code("x|`y`").text(" [z]");
        assert_eq!(prose(&text), r"a_b \_c\_ by `` x|`y` `` \[z\]");
        assert_eq!(prose(&Prose::from(" ")), " ");
    }
}
