//! The index of a folder of reports: what each of them is of, and its verdicts.

use super::writer::{SIGNATURE, VERDICT};
use crate::text::{NOTHING, plural};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The index's own file.
pub const FILE: &str = "README.md";

/// What the index says of a report.
struct Entry {
    title: String,
    /// Relative to the folder.
    place: String,
    program: String,
    verdicts: Vec<String>,
}

/// The index of the Markdown pages in the folder and its subfolders that this program wrote, by place.
///
/// # Errors
/// When the folder or a page cannot be read.
pub fn index(folder: &Path) -> Result<String> {
    let mut files = markdown_files(folder)?;
    for subfolder in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(markdown_files(&subfolder)?);
    }
    files.sort();
    let mut pages = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let place = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        pages.extend(Entry::of(&text, place));
    }
    let mut text = format!(
        "# Reports\n\n{} in this folder, written by `repro report`, with what they say of claims and \
         comparisons. `repro report --index` writes this list.\n\n\
         | report | verdicts | program |\n|---|---|---|\n",
        plural(pages.len(), "report")
    );
    for Entry { title, place, program, verdicts } in &pages {
        // All of these are Markdown already.
        let verdicts = if verdicts.is_empty() { NOTHING.to_owned() } else { verdicts.join("; ") };
        let _ = writeln!(text, "| [{title}]({place}) | {verdicts} | {program} |");
    }
    Ok(text)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    read().with_context(|| folder.display().to_string())
}

fn markdown_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_page = |path: &PathBuf| {
        path.is_file()
            && path.extension().is_some_and(|extension| extension == "md")
            && path.file_name().is_some_and(|name| name != FILE)
    };
    Ok(entries(folder)?.into_iter().filter(is_page).collect())
}

impl Entry {
    /// `None` where this program did not write the page.
    fn of(text: &str, place: String) -> Option<Self> {
        let signature = text.lines().find(|line| line.starts_with(SIGNATURE))?;
        let (_, program) = signature.rsplit_once(" with repro ")?;
        let (program, _) = program.split_once(". Each row")?;
        let verdict = |line: &str| Some(line.strip_prefix("- ")?.strip_prefix(VERDICT)?.to_owned());
        Some(Self {
            title: text.lines().next()?.trim_start_matches("# ").to_owned(),
            place,
            program: program.to_owned(),
            verdicts: text.lines().filter_map(verdict).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_program_are_listed_with_their_verdicts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("memory")).unwrap();
        let signed = format!("{SIGNATURE}`repro report` with repro 0.1.0 (abc). Each row of");
        write("b.md", &format!("# b\n\n{signed}\n\n- {VERDICT}C1: reproduced\n- {VERDICT}x\n"));
        write("memory/a.md", &format!("# a\\_1\n\n{signed}\n"));
        write("notes.md", "# by hand\n");
        let text = index(folder.path()).unwrap();
        write(FILE, &text);
        assert_eq!(index(folder.path()).unwrap(), text);
        assert!(text.contains("2 reports in this folder"), "{text}");
        let row = |title: &str| text.lines().find(|line| line.contains(title)).unwrap().to_owned();
        assert!(
            row("[b](b.md)").contains("C1: reproduced; x") && row("[b]").contains("0.1.0 (abc)")
        );
        assert!(row("[a\\_1](memory/a.md)").contains("–"), "{text}");
        assert!(!text.contains("by hand"));
    }
}
