//! The modules of `src/` and which may use which: one way, without circles, between modules and
//! between files. Some libraries, `unsafe`, printing and the wall clock are kept in a module of their
//! own.

mod graph;
mod source;

use graph::{Edge, Source, circles, edges, sources};
use source::Token;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Each module and those that it may use, all of which stand above it. A module is a file or a folder
/// of `src/`; `cmd` is the binary with `main.rs`. docs/architecture.md describes them.
const MODULES: &[(&str, &[&str])] = &[
    ("rng", &[]),
    ("env", &[]),
    ("memory", &[]),
    ("text", &[]),
    ("recipe", &[]),
    ("tiling", &[]),
    ("hex", &[]),
    ("progress", &[]),
    ("child", &[]),
    ("document", &[]),
    ("space", &["document", "hex", "text"]),
    ("zoo", &["document", "space"]),
    ("record", &["space"]),
    ("claim", &["document"]),
    ("cost", &["recipe", "space", "tiling"]),
    ("ops", &["memory", "recipe", "space", "tiling"]),
    ("checkpoint", &["hex", "ops", "record"]),
    ("artifacts", &["checkpoint"]),
    ("monitor", &["checkpoint", "env", "memory", "progress", "record"]),
    ("tape", &["memory", "ops", "space"]),
    ("nn", &["hex", "ops", "recipe", "rng", "space", "tape"]),
    ("net", &["cost", "nn", "ops", "recipe", "rng", "space", "tape", "text"]),
    ("data", &["child", "hex", "ops", "progress", "recipe", "rng"]),
    (
        "train",
        &[
            "checkpoint",
            "data",
            "net",
            "nn",
            "ops",
            "progress",
            "recipe",
            "record",
            "rng",
            "tape",
            "monitor",
        ],
    ),
    (
        "search",
        &[
            "checkpoint",
            "cost",
            "data",
            "net",
            "nn",
            "ops",
            "progress",
            "recipe",
            "record",
            "rng",
            "space",
            "tape",
            "train",
            "monitor",
        ],
    ),
    ("trained", &["data", "net", "nn", "recipe", "space", "text"]),
    ("manifest", &["cost", "document", "hex", "recipe", "space", "text", "zoo"]),
    ("store", &["artifacts", "checkpoint", "env", "hex", "record", "space", "text"]),
    (
        "export",
        &[
            "checkpoint",
            "data",
            "env",
            "hex",
            "net",
            "ops",
            "record",
            "space",
            "store",
            "text",
            "trained",
        ],
    ),
    ("compare", &["record", "store", "text"]),
    (
        "bench",
        &[
            "cost", "data", "manifest", "memory", "net", "nn", "ops", "recipe", "record", "rng",
            "search", "space", "tiling", "train",
        ],
    ),
    (
        "runner",
        &[
            "artifacts",
            "checkpoint",
            "cost",
            "data",
            "document",
            "env",
            "export",
            "hex",
            "manifest",
            "memory",
            "net",
            "nn",
            "ops",
            "progress",
            "recipe",
            "record",
            "rng",
            "search",
            "space",
            "store",
            "text",
            "tiling",
            "train",
            "monitor",
            "trained",
        ],
    ),
    (
        "evaluation",
        &[
            "cost", "data", "monitor", "ops", "progress", "record", "runner", "space", "store",
            "train", "trained",
        ],
    ),
    (
        "selftest",
        &[
            "bench", "data", "document", "manifest", "memory", "monitor", "net", "nn", "ops",
            "progress", "record", "rng", "search", "space",
        ],
    ),
    (
        "report",
        &[
            "claim", "cost", "document", "env", "hex", "recipe", "record", "rng", "space", "store",
            "text", "zoo",
        ],
    ),
    (
        "study",
        &[
            "bench", "claim", "cost", "data", "document", "env", "manifest", "memory", "monitor",
            "recipe", "record", "report", "rng", "runner", "space", "store", "text",
        ],
    ),
    ("ledger", &["claim", "recipe", "record", "report", "store", "study", "text", "zoo"]),
    (
        "cmd",
        &[
            "claim",
            "ledger",
            "evaluation",
            "trained",
            "zoo",
            "net",
            "artifacts",
            "bench",
            "checkpoint",
            "child",
            "compare",
            "cost",
            "data",
            "document",
            "env",
            "export",
            "manifest",
            "memory",
            "ops",
            "progress",
            "recipe",
            "record",
            "report",
            "rng",
            "runner",
            "space",
            "store",
            "study",
            "text",
            "tiling",
            "monitor",
            "selftest",
        ],
    ),
];

/// Words that only some modules may hold, and what to do elsewhere.
const KEPT_IN: &[(&[&str], &[&str], &str)] = &[
    (&["polars"], &["report"], "let report make the table"),
    (&["sqlx", "tokio"], &["store"], "add a method to store::Store, or to record::Recorder"),
    (
        &["clap", "indicatif"],
        &["cmd"],
        "take plain arguments, and report through progress::Progress",
    ),
    (
        &["print", "println", "eprint", "eprintln", "dbg", "stdout", "stderr"],
        &["cmd"],
        "return what there is to say, and let cmd print it",
    ),
    (
        &["unsafe", "unsafe_code"],
        &["child", "ops", "memory"],
        "make it an operator, with a safe signature",
    ),
    (
        &["storage_and_layout", "CpuStorage", "InplaceOp2", "InplaceOp3", "CustomOp1", "CustomOp2"],
        &["ops"],
        "make it an operator: only they touch raw storage",
    ),
    (&["prost"], &["export"], "let export write the file"),
    (&["cudarc"], &["ops"], "call the GPU through ops::gpu"),
    (&["SystemTime", "UNIX_EPOCH"], &["env"], "use env::now"),
    (&["async", "await"], &["store"], "store's façade blocks: nothing else need wait"),
];

fn allowed(module: &str) -> Option<&'static [&'static str]> {
    MODULES.iter().find(|(name, _)| *name == module).map(|(_, uses)| *uses)
}

/// Edges between two modules; the library's root only lists its modules.
fn between_modules<'a>(
    sources: &'a [Source],
    edges: &'a [Edge],
) -> impl Iterator<Item = (&'a Edge, &'a str, &'a str)> {
    let pairs =
        edges.iter().map(|edge| (edge, sources[edge.from].module(), sources[edge.to].module()));
    pairs.filter(|(_, from, to)| from != to && *from != "lib")
}

#[test]
fn the_table_has_no_circles() {
    for (i, (module, uses)) in MODULES.iter().enumerate() {
        for used in *uses {
            assert!(
                MODULES[..i].iter().any(|(above, _)| above == used),
                "the table lets {module} use {used}, which does not stand above it: that is a \
                 circle, or {module} must move below {used}"
            );
        }
    }
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let (sources, mut faults) = (sources(), String::new());
    let edges = edges(&sources);
    for (edge, from, to) in between_modules(&sources, &edges) {
        let allowed = allowed(from).unwrap_or_default();
        if !allowed.contains(&to) {
            let (file, line, name) = (&sources[edge.from].name, edge.line, &edge.name);
            let all = allowed.join(", ");
            writeln!(
                faults,
                "{file}:{line}: {from} may not use {to} ({name}), only: {all}. Move what is needed \
                 to a module that both may use; if the edge is right, add it to the table in \
                 tests/it/modules.rs and to docs/architecture.md"
            )
            .unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_table_lists_every_module_and_edge() {
    let sources = sources();
    let edges = edges(&sources);
    let listed: BTreeSet<&str> = MODULES.iter().map(|(module, _)| *module).collect();
    assert_eq!(listed.len(), MODULES.len(), "a module is listed twice");
    let here: BTreeSet<&str> =
        sources.iter().map(Source::module).filter(|module| *module != "lib").collect();
    assert_eq!(here, listed, "modules of src, modules of the table");
    let used: BTreeSet<(&str, &str)> =
        between_modules(&sources, &edges).map(|(_, from, to)| (from, to)).collect();
    let table = MODULES.iter().flat_map(|(from, uses)| uses.iter().map(move |to| (*from, *to)));
    let unused: Vec<(&str, &str)> = table.filter(|edge| !used.contains(edge)).collect();
    assert!(unused.is_empty(), "allowed, but not used; take them out: {unused:?}");
}

#[test]
fn the_architecture_page_names_every_module() {
    let page = include_str!("../../docs/architecture.md");
    let unnamed = |module: &&str| !page.contains(&format!("`{module}`"));
    let missing: Vec<&str> =
        MODULES.iter().map(|(module, _)| *module).filter(|module| unnamed(module)).collect();
    assert!(missing.is_empty(), "not in docs/architecture.md: {missing:?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = sources();
    let edges = edges(&sources);
    let circles = circles(&sources, &edges);
    assert!(circles.is_empty(), "\n{}", describe(&sources, &edges, &circles));
}

/// Each circle with the names that tie it.
fn describe(sources: &[Source], edges: &[Edge], circles: &[Vec<usize>]) -> String {
    let mut text = String::new();
    for circle in circles {
        writeln!(text, "a circle of {} files:", circle.len()).unwrap();
        let tying = edges.iter().filter(|e| circle.contains(&e.from) && circle.contains(&e.to));
        for Edge { from, to, line, name } in tying {
            let (from, to) = (&sources[*from].name, &sources[*to].name);
            writeln!(text, "  {from}:{line} takes {name} from {to}").unwrap();
        }
    }
    text
}

#[test]
fn a_circle_of_files_is_found() {
    let files = [
        ("src/a/mod.rs", "mod one;\nmod two;\npub use two::Two;\npub struct Head;"),
        ("src/a/one.rs", "use super::Two;\nuse super::Head;\npub struct One;"),
        ("src/a/two.rs", "use crate::b;\npub struct Two(b::Three);"),
        ("src/b.rs", "pub struct Three(crate::a::one::One);"),
        ("src/c.rs", "use crate::a::Two;\nuse crate::b::Three;"),
    ];
    let sources = files.map(|(name, code)| Source::new(name, code));
    let found = edges(&sources);
    let pairs: Vec<(usize, usize, &str)> =
        found.iter().map(|edge| (edge.from, edge.to, &edge.name[..])).collect();
    let expected = [
        (1, 0, "Head"),
        (1, 2, "Two"),
        (2, 3, "Three"),
        (3, 1, "One"),
        (4, 2, "Two"),
        (4, 3, "Three"),
    ];
    assert_eq!(pairs, expected);
    let circles = circles(&sources, &found);
    assert_eq!(circles, [vec![1, 2, 3]]);
    let text = describe(&sources, &found, &circles);
    assert!(text.contains("src/b.rs:1 takes One from src/a/one.rs"), "{text}");
    // A head that calls what lies below it is no circle.
    let head = ("src/a/mod.rs", "mod one;\npub struct Head;\nfn f() { one::g() }");
    let below = ("src/a/one.rs", "use super::Head;\npub fn g() {}");
    let sources = [head, below].map(|(name, code)| Source::new(name, code));
    let found = edges(&sources);
    assert_eq!(found.len(), 2);
    assert!(graph::circles(&sources, &found).is_empty());
}

#[test]
fn super_does_not_leave_a_module() {
    let mut faults = String::new();
    for source in sources() {
        let chains = source.tokens.windows(4).filter(|window| {
            window.iter().map(|token| token.text.as_str()).eq(["super", ":", ":", "super"])
        });
        for chain in chains {
            let module = source.module();
            writeln!(faults, "{}:{}: write crate::{module}::…", source.name, chain[0].line)
                .unwrap();
        }
    }
    assert!(faults.is_empty(), "super::super hides which module is meant:\n{faults}");
}

#[test]
fn libraries_stay_in_their_modules() {
    let mut faults = String::new();
    for source in sources() {
        for (i, Token { line, text }) in source.tokens.iter().enumerate() {
            let kept = KEPT_IN.iter().find(|(words, ..)| words.contains(&text.as_str()));
            let Some((_, modules, instead)) = kept else { continue };
            // `.stdout(…)` gives a child process its output.
            let is_method = i > 0 && source.tokens[i - 1].text == ".";
            if modules.contains(&source.module()) || is_method && text != "await" {
                continue;
            }
            let (name, modules) = (&source.name, modules.join(" and "));
            writeln!(faults, "{name}:{line}: `{text}` belongs in {modules} only: {instead}")
                .unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_reader_sees_every_path() {
    let code = "//! crate::store\nuse crate::rng::Seed;\nuse crate::{\n    cost::{self, count},\n    \
                data,\n};\n/* crate::store */\nfn f<'a>(x: crate::nn::Pass) {\n    let c = ('\"', '\\'', \
                \"crate::store \\\" \", r#\"crate::store \"\"#);\n    crate::tape::f(super::net::g());\n    \
                cost::h();\n}\n#[cfg(test)]\npub mod tests {\n    fn f() { crate::store::g() }\n}\n\
                use crate::monitor::Quiet as Silent;\n";
    let tokens = source::read(code);
    let names = source::names(&tokens);
    let found = |(path, line): &source::PathAt| (path.join("::"), *line);
    let paths: Vec<_> = names.paths.iter().map(found).collect();
    let expected =
        [("crate::nn::Pass", 8), ("crate::tape::f", 10), ("super::net::g", 10), ("cost::h", 11)];
    assert_eq!(paths, expected.map(|(path, line)| (path.to_owned(), line)));
    let imports: Vec<_> = names.imports.iter().map(|(name, at)| (&name[..], found(at))).collect();
    let expected = [
        ("Seed", "crate::rng::Seed", 2),
        ("Silent", "crate::monitor::Quiet", 17),
        ("cost", "crate::cost", 4),
        ("count", "crate::cost::count", 4),
        ("data", "crate::data", 5),
    ];
    assert_eq!(imports, expected.map(|(name, path, line)| (name, (path.to_owned(), line))));
}
