//! Phrases that readers stumble over. The field has a standard term for each, or plain English has.

use std::fs;
use std::path::{Path, PathBuf};

/// What not to write, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("way forward", "forward pass"),
    ("way back", "backward pass"),
    ("ways back", "backward passes"),
    ("carried out", "run, executed"),
    ("carries out", "runs"),
    ("carry out", "run"),
    ("carries it out", "runs it"),
    ("course of a search", "search curves"),
    ("how a search went", "search curves"),
    ("looked at once", "evaluated once"),
    ("look at the test images", "evaluation on the test images"),
    ("trainings", "training runs"),
    ("found network", "derived network"),
    ("likeliest", "argmax, most probable"),
    ("smallest visible", "minimum detectable effect"),
    ("cannot be told from", "no significant difference between"),
    ("against chance", "versus random baselines"),
    ("one that guesses", "scored at chance accuracy"),
    ("decisions are others", "the projection onto the budget changed decisions"),
    ("to keep to the budget", "the projection onto the budget"),
    ("befalls", "happens to"),
    ("anew", "again"),
    ("as ever", "as usual"),
    ("nevertheless", "still"),
    ("thereby", "this"),
    ("is thought to need", "needs an estimated"),
    ("are thought to need", "need an estimated"),
    ("take the place of", "override, replace"),
    ("in turns", "alternating"),
    ("pieces of work", "tasks"),
    ("piece of work", "task"),
    ("images of α", "the architecture split"),
    ("weights' images", "the weight split"),
    ("steers by", "selects by, optimises"),
    ("rooms", "modules"),
    ("to be had", "available"),
    ("is not right", "is wrong, is invalid"),
];

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// The text in lower case on one line, without what marks a comment or breaks a string.
fn flat(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().trim_end_matches('\\');
        line.trim_start_matches("//").trim_start_matches(['/', '!', '#', '>']).trim()
    });
    lines.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether the phrase stands in the text as whole words.
fn has(text: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(phrase).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + phrase.len()..].chars());
        !before.is_some_and(is_word) && !after.clone().next().is_some_and(is_word)
    })
}

#[test]
fn texts_use_standard_terms() {
    let mut all = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    all.extend(
        [("docs", ".md"), ("reports", ".md"), ("src", ".rs"), ("tests", ".snap")]
            .map(|(f, e)| files(f, e))
            .concat(),
    );
    let mut found = Vec::new();
    for file in all {
        let text = flat(&fs::read_to_string(&file).unwrap());
        let bad = PHRASES.iter().filter(|(phrase, _)| has(&text, phrase));
        found.extend(bad.map(|(phrase, instead)| {
            format!("{}: \"{phrase}\"; better: {instead}", file.display())
        }));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn phrases_are_found_across_lines() {
    let text = flat("/// on the way\n    /// back, \"in \\\n     turns\"\n#> thus far_way back_");
    assert!(has(&text, "way back") && has(&text, "in turns"));
    assert!(!has(&text, "far") && !has(&flat("the found networks_of"), "found networks"));
}
