//! Reads a claim from its file.

use super::{Claim, Judge, Mark, PublishedNumber, Tolerance};
use crate::document::{Diagnostics, Document, Section};
use std::path::Path;

const JUDGES: [(&str, Judge); 3] = [
    ("space_growth", Judge::SpaceGrowth),
    ("constant_cost", Judge::ConstantCost),
    ("none", Judge::None),
];

const MARKS: [(&str, Mark); 4] = [
    ("abstract", Mark::Abstract),
    ("computed", Mark::Computed),
    ("second_hand", Mark::SecondHand),
    ("recollection", Mark::Recollection),
];

/// The claim in `text`; `path` is for the messages.
///
/// # Errors
/// Every problem of the file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Claim, Diagnostics> {
    Document::new(path, text).read(claim)
}

fn claim(file: &Section<'_>) -> Option<Claim> {
    let id = file.identifier("id");
    let statement = sentence(file, "statement");
    let source = sentence(file, "source");
    let judge = file.name("judge", &JUDGES);
    let needs = sentence(file, "needs");
    let tolerance = file.optional("tolerance", |value| value.section(tolerance));
    let numbers = file.optional("number", |value| {
        value.list(1..=16, "sections [[number]]", |member| member.section(number))
    });
    let claim = Claim {
        id: id?,
        statement: statement?,
        source: source?,
        judge: judge?,
        needs: needs?,
        tolerance: tolerance?,
        published: numbers?.unwrap_or_default(),
    };
    complete(file, claim)
}

/// A judge that compares with a published number needs that number and a tolerance.
fn complete(file: &Section<'_>, claim: Claim) -> Option<Claim> {
    let judged = claim.judge != Judge::None;
    if judged && (claim.published.is_empty() || claim.tolerance.is_none()) {
        return file.get("judge")?.fail(
            "this judge compares with a published number",
            "give [[number]] and [tolerance], or judge = \"none\"",
        );
    }
    Some(claim)
}

fn tolerance(section: &Section<'_>) -> Option<Tolerance> {
    let value = section.real("value", 0.0..);
    let reason = sentence(section, "reason");
    Some(Tolerance { value: value?, reason: reason? })
}

fn number(section: &Section<'_>) -> Option<PublishedNumber> {
    let value = section.real("value", ..);
    let of = sentence(section, "of");
    let mark = section.name("mark", &MARKS);
    let source = sentence(section, "source");
    Some(PublishedNumber { value: value?, of: of?, mark: mark?, source: source? })
}

fn sentence(section: &Section<'_>, key: &'static str) -> Option<String> {
    const EXPECTED: &str = "text on one line";
    let value = section.require(key, EXPECTED)?;
    let text = value.text(EXPECTED)?;
    if text.trim().is_empty() || text.contains(char::is_control) {
        return value.refuse(EXPECTED);
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_claim_is_named() {
        let text = "id = \"C 1\"\nstatement = 3\nsource = \"abstract\"\njudge = \"space_grow\"\n\
                    [tolerance]\nvalue = -1\n[[number]]\nvalue = 14\nof = \"orders\"\n\
                    mark = \"abstrct\"\nsorce = \"abstract\"\n";
        let diagnostics = parse(Path::new("c.toml"), text).unwrap_err();
        let keys: Vec<&str> = diagnostics.0.iter().map(|c| c.key.as_str()).collect();
        for key in ["id", "statement", "judge", "needs", "tolerance.value", "tolerance.reason"] {
            assert!(keys.contains(&key), "{key}: {diagnostics}");
        }
        assert!(keys.contains(&"number[1].mark") && keys.contains(&"number[1].sorce"));
        assert!(diagnostics.to_string().contains("c.toml:4:9"), "{diagnostics}");
    }

    #[test]
    fn a_judge_needs_a_number_and_a_tolerance() {
        let text = "id = \"C1\"\nstatement = \"s\"\nsource = \"a\"\nneeds = \"n\"\n";
        let judged = |judge: &str| parse(Path::new("c"), &format!("{text}judge = \"{judge}\"\n"));
        assert!(judged("none").is_ok());
        let diagnostics = judged("constant_cost").unwrap_err().to_string();
        assert!(diagnostics.contains("compares with a published number"), "{diagnostics}");
    }
}
