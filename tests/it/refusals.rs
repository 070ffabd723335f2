//! Messages about wrong manifests and spaces: file, line, key, what was given and what is allowed.
//! `snapshots/refusals.snap` has every message; read it as the person who made the mistake.
//! `INSTA_UPDATE=always` rewrites it.

mod mutations;
mod slips;

use repro::document;
use repro::manifest::{self, Assessment, Diagnostic, Diagnostics, Overrides};
use repro::space::parse_space;
use repro::study;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const MANIFEST: &str = include_str!("refusals/manifest.toml");
const SPACE: &str = include_str!("refusals/space.toml");

/// A folder with a valid manifest and a valid space.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        fs::write(sandbox.path("manifest.toml"), MANIFEST).unwrap();
        fs::write(sandbox.path("space.toml"), SPACE).unwrap();
        fs::create_dir(sandbox.path("folder")).unwrap();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The diagnostics about a manifest of these bytes.
    fn refusal(
        &self,
        what: &str,
        manifest: impl AsRef<[u8]>,
        overrides: &Overrides,
    ) -> Diagnostics {
        let path = self.path("edited.toml");
        fs::write(&path, manifest).unwrap();
        refused(what, manifest::load(&path, overrides))
    }

    /// A message as it is in the snapshot.
    fn redact(&self, diagnostics: &Diagnostics) -> String {
        let folder = format!("{}/", self.0.path().display());
        diagnostics.to_string().replace(&folder, "").replace("edited.toml", "manifest.toml")
    }
}

fn refused<T>(what: &str, result: Result<T, Diagnostics>) -> Diagnostics {
    let Err(diagnostics) = result else { panic!("{what} must be refused") };
    assert!(!diagnostics.0.is_empty(), "{what}");
    diagnostics
}

/// The text with `find`, which it contains once, replaced.
fn edited(text: &str, find: &str, replace: &str) -> String {
    assert_eq!(text.matches(find).count(), 1, "{find:?} must be there exactly once");
    text.replace(find, replace)
}

fn assert_says_where(diagnostics: &Diagnostics, file: &Path) {
    for diagnostic in &diagnostics.0 {
        assert_eq!(diagnostic.file, file, "{diagnostic}");
        let line = diagnostic.place.as_ref().and_then(|place| place.line);
        assert!(line.is_some(), "no line: {diagnostic}");
    }
}

fn assert_says_what(diagnostics: &Diagnostics) {
    for diagnostic in &diagnostics.0 {
        let Diagnostic { key, problem, expected, hint, .. } = diagnostic;
        assert!(!key.is_empty() && !problem.is_empty(), "{diagnostic}");
        assert!(!expected.is_empty() || hint.is_some(), "what is allowed? {diagnostic}");
    }
}

/// One entry of the snapshot: the edit, then the message.
fn enter(out: &mut String, what: &str, edit: &str, message: &str) {
    write!(out, "## {what}\n{edit}{message}\n\n").unwrap();
}

/// The edit as `diff` shows it.
fn diff((_, find, replace): &slips::Slip) -> String {
    let signed = |sign, text: &str| {
        text.lines().fold(String::new(), |out, line| out + &format!("{sign} {line}\n"))
    };
    signed('-', find) + &signed('+', replace)
}

#[test]
fn shipped_manifests_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut manifests = 0;
    let entries = [folder.join("paper"), folder].map(|folder| fs::read_dir(folder).unwrap());
    for entry in entries.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let overrides = Overrides::default();
            let text = if study::is_study(&path) {
                study::load(&path, &overrides).map(|study| study.text)
            } else {
                let points = manifest::load_points(&path, &overrides, &|_| Err(String::new()));
                points.map(|points| points[0].text.clone())
            };
            let text = text.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
            let file = fs::read_to_string(path).unwrap();
            // The points of a table name their network.
            // Those of a lookup name the table's experiment, and those of a sweep have no such section.
            let is_changed = ["\n[table]\n", "\n[search.table]\n", "\n[sweep."];
            assert!(text == file || is_changed.iter().any(|it| file.contains(it)), "{text}");
            manifests += 1;
        }
    }
    assert!(manifests > 3);
}

#[test]
fn every_mistake_has_a_helpful_message() {
    let sandbox = Sandbox::new();
    let good = manifest::load(&sandbox.path("manifest.toml"), &Overrides::default());
    assert!(good.is_ok(), "{}", good.unwrap_err());
    let mut out = String::from("# Manifests\n\n");
    for slip in slips::IN_MANIFEST {
        let text = edited(MANIFEST, slip.1, slip.2);
        let diagnostics = sandbox.refusal(slip.0, text, &Overrides::default());
        assert_says_where(&diagnostics, &sandbox.path("edited.toml"));
        assert_says_what(&diagnostics);
        enter(&mut out, slip.0, &diff(slip), &sandbox.redact(&diagnostics));
    }
    out += "# Spaces\n\n";
    let path = Path::new("space.toml");
    for slip in slips::IN_SPACE {
        let diagnostics = refused(slip.0, parse_space(&edited(SPACE, slip.1, slip.2), path));
        assert_says_where(&diagnostics, path);
        assert_says_what(&diagnostics);
        enter(&mut out, slip.0, &diff(slip), &diagnostics.to_string());
    }
    out += "# Not TOML\n\n";
    for slip in slips::IN_SYNTAX {
        let text = edited(MANIFEST, slip.1, slip.2);
        let diagnostics = sandbox.refusal(slip.0, text, &Overrides::default());
        assert_says_where(&diagnostics, &sandbox.path("edited.toml"));
        for diagnostic in &diagnostics.0 {
            assert!(!diagnostic.expected.is_empty(), "what is allowed? {diagnostic}");
        }
        enter(&mut out, slip.0, &diff(slip), &sandbox.redact(&diagnostics));
    }
    out += "# The command line\n\n";
    for (what, set) in slips::IN_OVERRIDE {
        let overrides = Overrides { sets: vec![(*set).to_owned()], seeds: Vec::new() };
        let diagnostics = sandbox.refusal(what, MANIFEST, &overrides);
        enter(&mut out, what, &format!("--set {set:?}\n"), &sandbox.redact(&diagnostics));
    }
    let overrides = Overrides { sets: Vec::new(), seeds: vec![1, 1] };
    let diagnostics = sandbox.refusal("a seed given twice", MANIFEST, &overrides);
    enter(&mut out, "a seed given twice", "seeds 1, 1\n", &sandbox.redact(&diagnostics));
    out += "# Files\n\n";
    for (what, diagnostics) in odd_files(&sandbox) {
        enter(&mut out, what, "", &sandbox.redact(&diagnostics));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("refusals", out));
}

/// The keys in the tables of docs/manifest.md, with their defaults: those of a manifest of runs, then
/// those of `[scaling]`.
fn documented_keys() -> [Vec<(String, String)>; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md");
    let text = fs::read_to_string(path).unwrap();
    let (of_runs, rest) = text.split_once("\n## Memory studies").unwrap();
    let (of_studies, _) = rest.split_once("\n## Space files").unwrap();
    [of_runs, of_studies].map(|text| {
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((key.to_owned(), cells[3].to_owned()))
        });
        rows.collect()
    })
}

fn assert_documented(documented: &[(String, String)], keys: Vec<document::Key>) {
    let mut keys: Vec<_> = keys.into_iter().filter(|key| !key.is_section()).collect();
    for key in &keys {
        assert!(!key.expected.as_ref().unwrap().is_empty(), "{}: no range", key.path);
    }
    for (key, default) in documented {
        let position = keys.iter().position(|known| known.path == *key);
        let known = keys.remove(position.unwrap_or_else(|| panic!("no reader knows {key}")));
        if default == "required" {
            assert!(known.is_required, "{key} is documented as required");
        }
    }
    assert!(keys.is_empty(), "not documented: {keys:?}");
}

#[test]
fn the_documentation_names_every_key() {
    let [of_runs, of_studies] = documented_keys();
    assert_documented(&of_runs, manifest::keys());
    // Studies share the first sections with runs.
    let own = study::keys().into_iter().filter(|key| key.path.starts_with("scaling"));
    assert_documented(&of_studies, own.collect());
}

#[test]
fn a_batch_of_one_needs_maps_of_several_pixels() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("tiny.toml"), edited(SPACE, "[16, 24, 32]", "[8, 24, 32]")).unwrap();
    let manifest = edited(MANIFEST, "\"space.toml\"", "\"tiny.toml\"");
    let batches = |search: usize, train: usize| {
        let manifest = edited(&manifest, "batch_size = 64", &format!("batch_size = {search}"));
        let manifest = edited(&manifest, "batch_size = 32", &format!("batch_size = {train}"));
        let path = sandbox.path("edited.toml");
        fs::write(&path, manifest).unwrap();
        manifest::load(&path, &Overrides::default())
    };
    assert!(batches(2, 2).is_ok());
    let keys = |search: usize, train: usize| -> Vec<String> {
        let diagnostics = refused("a batch of one", batches(search, train)).0;
        assert!(diagnostics.iter().all(|d| d.problem.contains("batch norm one value per channel")));
        diagnostics.into_iter().map(|diagnostic| diagnostic.key).collect()
    };
    assert_eq!(keys(1, 2), ["search.batch_size"]);
    assert_eq!(keys(2, 1), ["train.batch_size"]);
}

/// A manifest with `[search.table]`, and the messages when it does not fit its table.
#[test]
fn a_lookup_fits_its_table() {
    let sandbox = Sandbox::new();
    let space = "name = \"few\"\nchannel_divisor = 8\ntypes = [\"k3_hswish\", \"skip\"]\n\
                 [input]\nresolutions = [32]\nchannels = 3\nclasses = 10\n\
                 [stem]\nkernel = 3\nstride = 2\nwidth = 16\nactivation = \"hswish\"\n\
                 [[stage]]\nblocks = 2\nstride = 2\nexpansion = 2\nwidth = 16\n\
                 [head]\nwidth = 64\nactivation = \"hswish\"\n";
    fs::write(sandbox.path("space.toml"), space).unwrap();
    fs::write(
        sandbox.path("other.toml"),
        edited(space, "stride = 2\nexpansion", "stride = 1\nexpansion"),
    )
    .unwrap();
    let (head, rest) = MANIFEST.split_once("[search]").unwrap();
    let (search, train) = rest.split_once("[train]").unwrap();
    let (train, rank) = train.split_once("[rank_correlation]").unwrap();
    let head = edited(head, "\"tiny\"", "\"every_one\"");
    let table = format!("{head}[table]\n\n[train]{train}");
    fs::write(sandbox.path("table.toml"), &table).unwrap();
    fs::write(sandbox.path("smaller.toml"), edited(&table, "\"space.toml\"", "\"other.toml\""))
        .unwrap();
    let scaled = edited(&table, "\"cifar10\"", "\"fashion-mnist\"");
    fs::write(sandbox.path("scaled.toml"), edited(&scaled, "[data]", "[data]\nside = 32")).unwrap();
    let (search, _) = search.split_once("[search.budget]").unwrap();
    let lookup = format!("{head}[search]{search}[search.table]\nmanifest = \"table.toml\"\n");
    let load = |text: &str| {
        fs::write(sandbox.path("edited.toml"), text).unwrap();
        manifest::load(&sandbox.path("edited.toml"), &Overrides::default())
    };

    let good = load(&lookup).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(good.assessment, Assessment::Table("every_one".to_owned()));
    assert_eq!(good.train(), None);
    // What is stored with a run needs no other file.
    let stored = (&good.text[..], space);
    let again = manifest::parse(Path::new("gone/manifest.toml"), stored, &Overrides::default());
    assert_eq!(again.unwrap().assessment, good.assessment);

    let mut out = String::new();
    let mut refuse = |what: &str, text: String| {
        let diagnostics = refused(what, load(&text));
        assert_says_what(&diagnostics);
        enter(&mut out, what, "", &sandbox.redact(&diagnostics));
    };
    let other = |name: &str| edited(&lookup, "\"table.toml\"", &format!("\"{name}\""));
    refuse("training beside a lookup", format!("{lookup}[train]{train}"));
    refuse("a rank correlation beside a lookup", format!("{lookup}[rank_correlation]{rank}"));
    refuse("a table of another space", other("smaller.toml"));
    refuse("a misspelt table", other("tabel.toml"));
    refuse("a manifest without a table", other("manifest.toml"));
    refuse("a folder for a table", other("folder"));
    refuse("a number for a table", edited(&lookup, "\"table.toml\"", "3"));
    refuse("another experiment", format!("{lookup}experiment = \"another\"\n"));
    refuse(
        "neither training nor a lookup",
        edited(&lookup, "[search.table]\nmanifest = \"table.toml\"\n", ""),
    );
    refuse("a lookup without a table", edited(&lookup, "manifest = \"table.toml\"\n", ""));
    refuse("a mistake in the table", other("scaled.toml"));
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("lookups", out));
}

/// Files that do not exist, are not text, or hold something else.
fn odd_files(sandbox: &Sandbox) -> Vec<(&'static str, Diagnostics)> {
    let none = Overrides::default();
    let load = |path: &str| refused(path, manifest::load(&sandbox.path(path), &none));
    let latin1: Vec<u8> =
        edited(MANIFEST, "seconds", "\u{e9}t\u{e9}").chars().map(|c| c as u8).collect();
    let utf16: Vec<u8> =
        format!("\u{feff}{MANIFEST}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::File::create(sandbox.path("huge.toml")).unwrap().set_len(8 << 30).unwrap();
    let made =
        std::process::Command::new("mkfifo").arg(sandbox.path("pipe.toml")).status().unwrap();
    assert!(made.success());
    let brackets = format!("a={}", "[".repeat(9999));
    let elsewhere = edited(MANIFEST, "\"space.toml\"", "\"broken.toml\"");
    let read = |what, bytes: &[u8]| (what, sandbox.refusal(what, bytes, &none));
    let with_space = |what, space: &[u8]| {
        fs::write(sandbox.path("broken.toml"), space).unwrap();
        read(what, elsewhere.as_bytes())
    };
    vec![
        ("no such file", load("nowhere.toml")),
        ("a misspelt file", load("manifset.toml")),
        ("a file in no folder", load("no/such/folder/manifest.toml")),
        ("a file taken for a folder", load("manifest.toml/search")),
        ("a folder", load("folder")),
        ("a space for a manifest", load("space.toml")),
        read("an empty file", b""),
        read("Latin-1", &latin1),
        read("UTF-16", &utf16),
        read("a binary file", &[0, 1, 2, 0, 255, 254]),
        read("a file that is too long", "#".repeat((1 << 20) + 1).as_bytes()),
        ("a file of 8 GiB", load("huge.toml")),
        ("an endless device", load("/dev/zero")),
        ("a pipe", load("pipe.toml")),
        read("deeply nested brackets", brackets.as_bytes()),
        with_space("an empty space", b""),
        with_space("a manifest for a space", MANIFEST.as_bytes()),
        read(
            "a device for a space",
            edited(MANIFEST, "\"space.toml\"", "\"/dev/zero\"").as_bytes(),
        ),
        read("a huge space", edited(MANIFEST, "\"space.toml\"", "\"huge.toml\"").as_bytes()),
        with_space("a space that is not UTF-8", b"name = \"caf\xe9\""),
        with_space("a mistake in the space", edited(SPACE, "[16, 24]", "[24, 16]").as_bytes()),
    ]
}
