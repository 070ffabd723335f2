//! The rooms of `src/` and who may use whom: one way, without circles. Some libraries, `unsafe`,
//! printing and the wall clock have a room of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use, all of which stand above it: so there are no circles.
/// A room is a file or a folder of `src/`; `cmd` is the binary with `main.rs`.
const ROOMS: &[(&str, &[&str])] = &[
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
    ("space", &["document", "hex"]),
    ("record", &["space"]),
    ("claim", &["document"]),
    ("monitor", &["memory", "progress", "record"]),
    ("cost", &["recipe", "space", "tiling"]),
    ("ops", &["memory", "space", "tiling"]),
    ("tape", &["memory", "ops", "space"]),
    ("nn", &["hex", "ops", "recipe", "rng", "space", "tape"]),
    ("net", &["cost", "nn", "ops", "recipe", "rng", "space", "tape"]),
    ("data", &["child", "hex", "progress", "recipe", "rng"]),
    (
        "train",
        &["data", "net", "nn", "ops", "progress", "recipe", "record", "rng", "tape", "monitor"],
    ),
    (
        "search",
        &[
            "cost", "data", "net", "nn", "ops", "progress", "recipe", "record", "rng", "space",
            "train", "monitor",
        ],
    ),
    ("manifest", &["cost", "document", "recipe", "space"]),
    ("store", &["env", "record", "space"]),
    (
        "bench",
        &[
            "cost", "data", "manifest", "memory", "net", "nn", "ops", "recipe", "record", "rng",
            "search", "space", "train",
        ],
    ),
    (
        "runner",
        &[
            "cost", "data", "env", "hex", "manifest", "memory", "net", "nn", "progress", "recipe",
            "record", "rng", "search", "space", "store", "train", "monitor",
        ],
    ),
    (
        "report",
        &["claim", "cost", "document", "env", "recipe", "record", "rng", "space", "store", "text"],
    ),
    (
        "study",
        &[
            "bench", "claim", "cost", "data", "document", "env", "manifest", "memory", "monitor",
            "recipe", "record", "report", "rng", "runner", "space", "store", "text",
        ],
    ),
    (
        "cmd",
        &[
            "bench", "cost", "data", "document", "env", "manifest", "memory", "ops", "progress",
            "recipe", "record", "report", "runner", "space", "store", "study", "text", "monitor",
        ],
    ),
];

/// Words that only some rooms may hold, and where what they stand for is to be had otherwise.
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
    (&["SystemTime", "UNIX_EPOCH"], &["env"], "use env::now"),
    (&["async", "await"], &["store"], "store's façade blocks: nothing else need wait"),
];

/// A file of `src/` without comments, texts and tests: those may use what they need.
struct Source {
    /// As in `src/space/wire.rs`.
    name: String,
    room: String,
    /// Whether `super` is the crate itself.
    is_room_head: bool,
    tokens: Vec<Token>,
}

struct Token {
    line: usize,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let sources = files.iter().map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let parts: Vec<&str> = name.split('/').skip(1).collect();
        let room = parts[0].trim_end_matches(".rs").replace("main", "cmd");
        let is_room_head = parts.len() == 1 || parts[1..] == ["mod.rs"];
        let text = fs::read_to_string(path).unwrap();
        Source { name, room, is_room_head, tokens: without_tests(tokens(&text)) }
    });
    sources.filter(|source| source.room != "lib").collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            files.push(path);
        }
    }
}

/// Names and single signs; comments, texts and characters are left out.
fn tokens(code: &str) -> Vec<Token> {
    let chars: Vec<char> = code.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let until = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..chars.len()).find(|&i| chars[i..].starts_with(&end));
        found.map_or(chars.len(), |i| i + end.len())
    };
    let (mut tokens, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        i = match (at(i), at(i + 1)) {
            ('/', '/') => until(i, "\n") - 1,
            ('/', '*') => until(i, "*/"),
            ('r', '"') => until(i + 2, "\""),
            ('r', '#') if at(i + 2) == '"' => until(i + 3, "\"#"),
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i + 1
            }
            // A character; a lifetime has no second quote.
            ('\'', '\\') => until(i + 3, "'"),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            (c, _) if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                tokens.push(Token { line, text: chars[start..i].iter().collect() });
                i
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.to_string() });
                }
                i + 1
            }
        };
        i = i.min(chars.len()).max(start + 1);
        line += chars[start..i].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Leaves out the module `tests`.
fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    const HEAD: [&str; 10] = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"];
    let is_head = |window: &[Token]| window.iter().map(|token| token.text.as_str()).eq(HEAD);
    if let Some(start) = tokens.windows(HEAD.len()).position(is_head) {
        let mut depth = 0;
        let end = tokens[start..].iter().position(|token| {
            depth += i32::from(token.text == "{") - i32::from(token.text == "}");
            token.text == "}" && depth == 0
        });
        tokens.drain(start..end.map_or(tokens.len(), |end| start + end + 1));
    }
    tokens
}

/// The rooms that a file names in paths, each with the first line that does.
fn uses(source: &Source) -> BTreeMap<String, usize> {
    let tokens = &source.tokens;
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mut found = BTreeMap::new();
    for i in 0..tokens.len() {
        let in_library = matches!((source.room.as_str(), text(i)), ("cmd", "repro") | (_, "crate"));
        // In the binary `crate` is the binary itself.
        let is_root = in_library && !(source.room == "cmd" && text(i) == "crate")
            || source.is_room_head && text(i) == "super";
        if !is_root || text(i + 1) != ":" || text(i + 2) != ":" {
            continue;
        }
        let mut names = vec![i + 3];
        if text(i + 3) == "{" {
            names = members(i + 3, &text);
        }
        for name in names {
            found.entry(text(name).to_owned()).or_insert(tokens[name].line);
        }
    }
    found.remove(&source.room);
    // `super::*` and the like: what a room's head says to its own tests.
    found.retain(|name, _| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

/// The first names of the paths within the braces that open at `open`.
fn members<'a>(open: usize, text: &impl Fn(usize) -> &'a str) -> Vec<usize> {
    let (mut depth, mut names) = (0, Vec::new());
    for i in open.. {
        match text(i) {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 || text(i).is_empty() {
            break;
        }
        if depth == 1 && matches!(text(i), "{" | ",") && !matches!(text(i + 1), "}" | ",") {
            names.push(i + 1);
        }
    }
    names
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, rooms)| *rooms)
}

#[test]
fn the_table_of_rooms_has_no_circles() {
    for (i, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            assert!(
                ROOMS[..i].iter().any(|(above, _)| above == used),
                "the table lets {room} use {used}, which does not stand above it: that is a \
                 circle, or {room} must move below {used}"
            );
        }
    }
}

#[test]
fn rooms_use_only_what_the_table_lets_them_use() {
    let mut faults = String::new();
    for source in sources() {
        let Source { name, room, .. } = &source;
        let Some(allowed) = allowed(room) else {
            writeln!(
                faults,
                "{name}: there is no room {room}: put the file into a room, or add the room to \
                 the table in tests/it/rooms.rs and in README.md"
            )
            .unwrap();
            continue;
        };
        let all = if allowed.is_empty() { "no other".to_owned() } else { allowed.join(", ") };
        for (used, line) in uses(&source) {
            if !allowed.contains(&used.as_str()) {
                writeln!(
                    faults,
                    "{name}:{line}: {room} -> {used} is not allowed: {room} may use {all}. Move \
                     what is needed to a room that both may use; if the edge is right, add it to \
                     the table in tests/it/rooms.rs"
                )
                .unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn nothing_reaches_out_of_its_room_by_super() {
    let mut faults = String::new();
    for source in sources() {
        let chains = source.tokens.windows(4).filter(|window| {
            window.iter().map(|token| token.text.as_str()).eq(["super", ":", ":", "super"])
        });
        for chain in chains {
            let Source { name, room, .. } = &source;
            writeln!(faults, "{name}:{}: write crate::{room}::…", chain[0].line).unwrap();
        }
    }
    assert!(faults.is_empty(), "super::super hides which room is meant:\n{faults}");
}

#[test]
fn libraries_with_a_room_of_their_own_appear_nowhere_else() {
    let mut faults = String::new();
    for source in sources() {
        for (i, Token { line, text }) in source.tokens.iter().enumerate() {
            let kept = KEPT_IN.iter().find(|(words, ..)| words.contains(&text.as_str()));
            let Some((_, rooms, instead)) = kept else { continue };
            // `.stdout(…)` gives a child process its output.
            let is_method = i > 0 && source.tokens[i - 1].text == ".";
            let is_await = text == "await";
            if rooms.contains(&source.room.as_str()) || is_method && !is_await {
                continue;
            }
            let (name, rooms) = (&source.name, rooms.join(" and "));
            writeln!(faults, "{name}:{line}: `{text}` belongs in {rooms} only: {instead}").unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_reader_of_paths_sees_them_all_and_nothing_else() {
    let code = "//! crate::store\nuse crate::rng::Seed;\nuse crate::{\n    cost::{self, count},\n    \
                data,\n};\n/* crate::store */\nfn f<'a>() {\n    let c = ('\"', '\\'', \"crate::store \
                \\\" \", r#\"crate::store \"\"#);\n    crate::tape::f(super::net::g());\n}\n\
                #[cfg(test)]\nmod tests {\n    fn f() { crate::store::g() }\n}\n\
                use crate::monitor::Quiet;\n";
    let source = |room: &str, is_room_head| Source {
        name: "src/x.rs".to_owned(),
        room: room.to_owned(),
        is_room_head,
        tokens: without_tests(tokens(code)),
    };
    let found: Vec<_> = uses(&source("ops", true)).into_iter().collect();
    let expected =
        [("cost", 4), ("data", 5), ("net", 10), ("rng", 2), ("tape", 10), ("monitor", 16)];
    assert_eq!(found, expected.map(|(name, line)| (name.to_owned(), line)));
    assert!(!uses(&source("ops", false)).contains_key("net"));
    assert!(!uses(&source("tape", true)).contains_key("tape"));
    assert!(uses(&source("cmd", false)).is_empty());
}

#[test]
fn every_room_has_a_place_in_the_table_once() {
    let names: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(names.len(), ROOMS.len());
    let here: BTreeSet<String> = sources().into_iter().map(|source| source.room).collect();
    let here: BTreeSet<&str> = here.iter().map(String::as_str).collect();
    assert_eq!(here, names, "rooms of src, rooms of the table");
    let used: BTreeSet<(String, String)> = sources()
        .iter()
        .flat_map(|source| uses(source).into_keys().map(|to| (source.room.clone(), to)))
        .collect();
    let mut faults = String::new();
    for (room, allowed) in ROOMS {
        for to in *allowed {
            if !used.contains(&((*room).to_owned(), (*to).to_owned())) {
                writeln!(faults, "{room} -> {to} is allowed and not used: take it out").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
