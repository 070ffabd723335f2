//! Whether the files of a report are those that the database gives.

use super::ReportFile;
use crate::report::writer::SIGNATURE;
use anyhow::{Context, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// One sentence for each file below `folder` that is missing or differs. The paragraph that names the
/// command and the program is not compared.
///
/// # Errors
/// When a file cannot be read.
pub fn differences(files: &[ReportFile], folder: &Path) -> Result<Vec<String>> {
    let differs = files.iter().map(|file| {
        let path = file.place(folder).join(&file.name);
        match fs::read(&path) {
            Ok(content) => Ok(first_difference(&content, &file.content)
                .map(|what| format!("{}: {what}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Some(format!("{}: missing", path.display())))
            }
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    });
    Ok(differs.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The first place where two files differ, in words.
fn first_difference(written: &[u8], expected: &[u8]) -> Option<String> {
    let (Ok(written_text), Ok(expected_text)) = (str::from_utf8(written), str::from_utf8(expected))
    else {
        return (written != expected).then(|| "differs from the database".to_owned());
    };
    let lines = |text: &str| -> Vec<(usize, String)> {
        let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.to_owned()));
        numbered.filter(|(_, line)| !line.contains(SIGNATURE)).collect()
    };
    let (written, expected) = (lines(written_text), lines(expected_text));
    let pairs = written.iter().zip(&expected);
    let differing = pairs.clone().find(|((_, a), (_, b))| a != b).map(|((number, _), _)| *number);
    let shorter = (written.len() != expected.len())
        .then(|| written.len().min(expected.len()))
        .map(|common| written.get(common).map_or(written_text.lines().count(), |(n, _)| *n));
    let line = differing.or(shorter)?;
    Some(format!("line {line} differs from the database"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_line_is_named() {
        let differs = |a: &str, b: &str| first_difference(a.as_bytes(), b.as_bytes());
        let signed = |by: &str| format!("# x\n\n{SIGNATURE}`{by}`.\n\n| 1 |\n");
        assert_eq!(differs(&signed("repro report"), &signed("repro report --check")), None);
        let changed = signed("a").replace("| 1 |", "| 2 |");
        let line = Some("line 5 differs from the database".to_owned());
        assert_eq!(differs(&signed("a"), &changed), line);
        assert_eq!(differs("a\nb\n", "a\n"), Some("line 2 differs from the database".to_owned()));
        assert_eq!(differs("a\n", "a\nb\n"), Some("line 1 differs from the database".to_owned()));
        assert!(first_difference(&[0xff, 1], &[0xff, 2]).is_some());
    }
}
