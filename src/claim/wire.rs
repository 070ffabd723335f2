//! Reads a claim from its file.

use super::{
    Claim, CostEvidence, Judge, Mark, Measure, PairedEvidence, PublishedNumber, RunFilter,
    Tolerance,
};
use crate::document::{Diagnostics, Document, Section};
use std::path::Path;

#[derive(Clone, Copy)]
enum JudgeName {
    SpaceGrowth,
    ConstantCost,
    PairedSuperiority,
    CostRatio,
}

const JUDGES: [(&str, JudgeName); 4] = [
    ("space_growth", JudgeName::SpaceGrowth),
    ("constant_cost", JudgeName::ConstantCost),
    ("paired_superiority", JudgeName::PairedSuperiority),
    ("cost_ratio", JudgeName::CostRatio),
];

const MEASURES: [(&str, Measure); 2] =
    [("test_top1", Measure::TestTop1), ("macs_per_param", Measure::MacsPerParam)];

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
    let estimand = sentence(file, "estimand");
    let name = file.name("judge", &JUDGES);
    let judge = name.and_then(|name| judge(file, name));
    let needs = sentence(file, "needs");
    let manifests = file.require("manifests", MANIFESTS).and_then(|value| {
        value.list(1..=16, MANIFESTS, |member| Some(member.text(MANIFESTS)?.to_owned()))
    });
    let tolerance = file.optional("tolerance", |value| value.section(tolerance));
    let numbers = file.optional("number", |value| {
        value.list(1..=16, "sections [[number]]", |member| member.section(number))
    });
    let claim = Claim {
        id: id?,
        statement: statement?,
        source: source?,
        estimand: estimand?,
        judge: judge?,
        needs: needs?,
        manifests: manifests?,
        tolerance: tolerance?,
        published: numbers?.unwrap_or_default(),
    };
    complete(file, claim)
}

const MANIFESTS: &str = "a list of manifest files";

fn judge(file: &Section<'_>, name: JudgeName) -> Option<Judge> {
    match name {
        JudgeName::SpaceGrowth => Some(Judge::SpaceGrowth),
        JudgeName::ConstantCost => Some(Judge::ConstantCost),
        JudgeName::PairedSuperiority => file
            .section("evidence", paired)
            .map(|evidence| Judge::PairedSuperiority(Box::new(evidence))),
        JudgeName::CostRatio => file.section("evidence", cost).map(Judge::CostRatio),
    }
}

fn paired(section: &Section<'_>) -> Option<PairedEvidence> {
    let measure = section.name("measure", &MEASURES);
    let classes = section.optional("classes", |value| value.whole(2..=65_536));
    let least_seeds = section.whole("least_seeds", 2..=1000);
    let better = section.section("better", filter);
    let worse = section.section("worse", filter);
    Some(PairedEvidence {
        measure: measure?,
        classes: classes?,
        least_seeds: least_seeds?,
        better: better?,
        worse: worse?,
    })
}

fn cost(section: &Section<'_>) -> Option<CostEvidence> {
    let classes = section.whole("classes", 2..=65_536);
    let reference = section.real("reference", 0.0..);
    Some(CostEvidence { classes: classes?, reference: reference? })
}

fn filter(section: &Section<'_>) -> Option<RunFilter> {
    let text = |key| section.optional(key, |value| Some(value.text("a name")?.to_owned()));
    let [experiment, network, objective, input_channels] =
        ["experiment", "network", "objective", "input_channels"].map(text);
    Some(RunFilter {
        experiment: experiment?,
        network: network?,
        objective: objective?,
        input_channels: input_channels?,
    })
}

/// These judges compare with a published number.
fn complete(file: &Section<'_>, claim: Claim) -> Option<Claim> {
    let compares = !matches!(claim.judge, Judge::PairedSuperiority(_));
    if compares && (claim.published.is_empty() || claim.tolerance.is_none()) {
        return file.get("judge")?.fail(
            "this judge compares with a published number",
            "give [[number]] and [tolerance]",
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
        for key in [
            "id",
            "statement",
            "judge",
            "needs",
            "estimand",
            "manifests",
            "tolerance.value",
            "tolerance.reason",
        ] {
            assert!(keys.contains(&key), "{key}: {diagnostics}");
        }
        assert!(keys.contains(&"number[1].mark") && keys.contains(&"number[1].sorce"));
        assert!(diagnostics.to_string().contains("c.toml:4:9"), "{diagnostics}");
    }

    #[test]
    fn a_judge_needs_a_number_and_a_tolerance() {
        let text = "id = \"C1\"\nstatement = \"s\"\nsource = \"a\"\nneeds = \"n\"\nestimand = \"e\"\n\
                    manifests = [\"m.toml\"]\n";
        let judged = |judge: &str| parse(Path::new("c"), &format!("{text}judge = \"{judge}\"\n"));
        let diagnostics = judged("constant_cost").unwrap_err().to_string();
        assert!(diagnostics.contains("compares with a published number"), "{diagnostics}");
        let diagnostics = judged("paired_superiority").unwrap_err().to_string();
        assert!(diagnostics.contains("a section [evidence]"), "{diagnostics}");
    }
}
