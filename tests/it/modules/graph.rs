//! The files of `src/` and which of them use which: a name that a module only passes on counts for
//! the file that defines it.

use super::source::{self, Names, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The root module of the binary; that of the library is empty.
const BINARY: &str = "bin";

/// A file of `src/`.
pub struct Source {
    /// As in `src/space/wire.rs`.
    pub name: String,
    /// Its module as segments, as in `["space", "wire"]`; those of the binary begin with [`BINARY`].
    pub path: Vec<String>,
    pub tokens: Vec<Token>,
    names: Names,
}

impl Source {
    pub fn new(name: &str, code: &str) -> Self {
        let mut path: Vec<String> =
            name.trim_end_matches(".rs").split('/').skip(1).map(str::to_owned).collect();
        if path.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            path.pop();
        }
        if name == "src/main.rs" || path.first().is_some_and(|first| first == "cmd") {
            path.insert(0, BINARY.to_owned());
        }
        let tokens = source::read(code);
        let names = source::names(&tokens);
        Self { name: name.to_owned(), path, tokens, names }
    }

    /// The module of `src/` that it belongs to; the binary's is `cmd`.
    pub fn module(&self) -> &str {
        let first = self.path.first().map_or("lib", String::as_str);
        if first == BINARY { "cmd" } else { first }
    }
}

/// All files of `src/` but those that hold tests alone.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let sources = files.iter().map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        Source::new(&name, &fs::read_to_string(path).unwrap())
    });
    sources.collect()
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
            && !folder.ends_with("tests")
        {
            files.push(path);
        }
    }
}

/// That one file uses names of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Their places in the list of sources.
    pub from: usize,
    pub to: usize,
    pub line: usize,
    /// What the first takes from the second.
    pub name: String,
}

/// Every edge between two files.
pub fn edges(sources: &[Source]) -> Vec<Edge> {
    let files: BTreeMap<&[String], usize> =
        sources.iter().enumerate().map(|(i, source)| (&source.path[..], i)).collect();
    let graph = Graph { sources, files };
    let mut edges = BTreeSet::new();
    for from in 0..sources.len() {
        for (path, line) in graph.named(from) {
            let Some((to, name)) = graph.resolve(&path, 0) else { continue };
            if to != from {
                edges.insert(Edge { from, to, line, name });
            }
        }
    }
    edges.into_iter().collect()
}

struct Graph<'a> {
    sources: &'a [Source],
    files: BTreeMap<&'a [String], usize>,
}

impl Graph<'_> {
    /// The paths that a file names, from the root of the library or of the binary.
    fn named(&self, from: usize) -> Vec<(Vec<String>, usize)> {
        let names = &self.sources[from].names;
        let imported = names.imports.values();
        // A module is imported for what its names are used for.
        let imported = imported.filter(|(path, _)| {
            self.absolute(from, path).is_none_or(|path| !self.files.contains_key(&path[..]))
        });
        let all = imported.chain(&names.paths);
        all.filter_map(|(path, line)| Some((self.absolute(from, path)?, *line))).collect()
    }

    /// A path from the root, if it begins within this package.
    fn absolute(&self, from: usize, path: &[String]) -> Option<Vec<String>> {
        let Source { path: here, names, .. } = &self.sources[from];
        let in_binary = here.first().is_some_and(|first| first == BINARY);
        let (first, rest) = path.split_first()?;
        let base = match first.as_str() {
            "crate" => here[..usize::from(in_binary)].to_vec(),
            "repro" if in_binary => Vec::new(),
            "self" => here.clone(),
            "super" => here[..here.len().checked_sub(1)?].to_vec(),
            child if names.children.contains(child) => {
                return Some([&here[..], path].concat());
            }
            import => {
                let (imported, _) = names.imports.get(import)?;
                // `use rand::rand` leads nowhere.
                if imported.first() == Some(first) {
                    return None;
                }
                self.absolute(from, imported)?
            }
        };
        Some([&base[..], rest].concat())
    }

    /// The file that defines what the path names, and the name.
    fn resolve(&self, path: &[String], depth: usize) -> Option<(usize, String)> {
        let module = (0..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n]))?;
        let (file, rest) = (self.files[&path[..module]], &path[module..]);
        let Some((name, rest)) = rest.split_first() else { return Some((file, String::new())) };
        let passed_on = self.sources[file].names.reexports.get(name).filter(|_| depth < 8);
        if let Some(target) = passed_on {
            let target = self.absolute(file, target)?;
            return self.resolve(&[&target[..], rest].concat(), depth + 1);
        }
        Some((file, name.clone()))
    }
}

/// Files that use each other in a circle, each circle by the places of its files. A file and those in
/// the folder of its name are one module told in several files: it may call what lies below it.
pub fn circles(sources: &[Source], edges: &[Edge]) -> Vec<Vec<usize>> {
    let is_head_of = |edge: &&Edge| sources[edge.to].path.starts_with(&sources[edge.from].path);
    let mut targets: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !is_head_of(edge)) {
        targets.entry(edge.from).or_default().insert(edge.to);
    }
    let reached = |from: usize| {
        let (mut seen, mut to_do) = (BTreeSet::new(), vec![from]);
        while let Some(file) = to_do.pop() {
            let next = targets.get(&file).into_iter().flatten();
            to_do.extend(next.filter(|file| seen.insert(**file)));
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..sources.len()).map(reached).collect();
    let mut circles: BTreeSet<Vec<usize>> = BTreeSet::new();
    for file in (0..sources.len()).filter(|file| reached[*file].contains(file)) {
        let together = reached[file].iter().filter(|other| reached[**other].contains(&file));
        circles.insert(together.copied().collect());
    }
    circles.into_iter().collect()
}
