//! Where a page comes from, which every page says at its beginning.

use super::page::{Page, Part};
use super::prose::Prose;
use crate::hex::hex;
use anyhow::Result;
use sha2::{Digest, Sha256};

/// What writes a report.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// As it was typed.
    pub command_line: &'a str,
    /// The program's version with its git revision.
    pub program: &'a str,
}

/// How the first paragraph of every page begins. It differs between two reports of the same runs if their
/// commands or programs differ.
pub const SIGNATURE: &str = "Written from the results database by ";

/// How each verdict of a page begins in the list at its beginning.
pub const VERDICT: &str = "verdict: ";

impl Writer<'_> {
    /// The page with the command, the program, the fingerprint of its data and its verdicts at its beginning.
    ///
    /// # Errors
    /// When the data cannot be written.
    pub fn sign(&self, mut page: Page) -> Result<Page> {
        let fingerprint = hex(&Sha256::digest(page.csv()?));
        let signature = Prose::from(SIGNATURE).code(self.command_line).text(format!(
            " with repro {}. Each row of measured numbers names its runs.",
            self.program
        ));
        let data = Prose::from("data: sha256 ")
            .code(fingerprint)
            .text(" of ")
            .code(format!("{}.csv", page.stem));
        let verdicts = page.verdicts.iter().map(|verdict| format!("{VERDICT}{verdict}").into());
        let facts: Vec<Prose> = std::iter::once(data).chain(verdicts).collect();
        if let Some(opening) = page.sections.first_mut() {
            opening.parts.insert(0, Part::Paragraph(signature));
            match opening.parts.get_mut(1) {
                Some(Part::List(others)) => others.extend(facts),
                _ => opening.parts.insert(1, Part::List(facts)),
            }
        }
        Ok(page)
    }
}
