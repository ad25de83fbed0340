//! The workspace's own files, and their code without comments, texts and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the workspace.
pub(crate) struct Source {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below `folder` of the root whose name ends in `.extension`, by path.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), folder, extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file that the project ships or tests with.
pub(crate) fn rust() -> Vec<Source> {
    let folders = ["src", "crates", "examples", "tests"];
    folders.into_iter().flat_map(|f| files(f, "rs")).collect()
}

fn collect(folder: &Path, name: &str, extension: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if path.is_dir() && !name.ends_with("/target") {
            collect(&path, &name, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path: name, text });
        }
    }
}

impl Source {
    /// Whether the whole file is there for tests alone.
    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split(['/', '.']).collect();
        ["tests", "fakes", "benches", "outbox-redis-harness"]
            .iter()
            .any(|folder| parts.contains(folder))
    }

    /// The code that ships: without comments, texts and the module of tests at its end.
    pub(crate) fn shipped(&self) -> String {
        let code = code(&self.text);
        match code.find("#[cfg(test)]\nmod tests {") {
            Some(end) => code[..end].to_owned(),
            None => code,
        }
    }
}

/// `text` without comments and without what stands in quotes; lines stay lines.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip(rest);
        if skipped > 0 {
            let (gone, left) = rest.split_at(skipped);
            code.extend(gone.chars().filter(|c| *c == '\n'));
            rest = left;
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// How many bytes of a comment or of a quoted text stand at the start of `rest`.
fn skip(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with("r\"") || rest.starts_with("r#\"") {
        let close = if rest.starts_with("r#") { "\"#" } else { "\"" };
        let end = rest[3..].find(close).map(|end| 3 + end + close.len());
        return end.unwrap_or(rest.len());
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

/// The bytes of a text in quotes, escapes among them.
fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = true;
    for (place, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return place + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The identifiers in `code`.
pub(crate) fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

#[test]
fn comments_and_texts_are_no_code() {
    let text = "let a = \"job \\\" lock\"; // util\n/* common */ f('\"', 'x') r#\"job\"# 'a\n";
    assert_eq!(code(text), "let a = ; \n f(, )  'a\n");
}
