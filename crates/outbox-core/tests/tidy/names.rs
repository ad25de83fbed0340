//! Names that are not used here, and what the names that are used must come with.

use crate::assert_tidy;
use crate::source::{Source, code, files, identifiers, rust};

/// Words that no name has as a part, and why.
const BANNED: &[(&str, &str)] = &[
    ("job", "we say message, delivery or task"),
    ("lock", "we lease"),
    ("util", "a name says what is in it"),
    ("utils", "a name says what is in it"),
    ("common", "a name says what is in it"),
    ("helper", "a name says what is in it"),
    ("helpers", "a name says what is in it"),
    ("impl", "types are nouns"),
    ("dao", "backend types carry the backend"),
    ("interface", "ports are roles"),
    ("repository", "ports are roles"),
];

/// Other people's types, whose names we do not choose.
const FOREIGN: &[&str] = &["LazyLock", "OnceLock", "RwLock"];

/// What a name follows where it is given.
const GIVERS: &[&str] = &[
    "fn", "struct", "enum", "trait", "mod", "type", "const", "static", "let", "union",
];

/// The parts of a name, in small letters: `TaskLock` and `task_lock` are both `task`, `lock`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small_before = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && small_before) {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
        small_before = c.is_lowercase() || c.is_numeric();
    }
    words
}

/// The names that `code` gives: after a giver, and every name of a type or a variant.
fn given(code: &str) -> Vec<&str> {
    let mut given = Vec::new();
    let mut before = "";
    for name in identifiers(code) {
        let is_type = name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
        if GIVERS.contains(&before) || is_type {
            given.push(name);
        }
        before = name;
    }
    given
}

/// What is wrong with a name, where something is.
fn objection(name: &str) -> Option<String> {
    let words = words(name);
    let banned = BANNED
        .iter()
        .find(|(word, _)| words.iter().any(|w| w == word));
    if let Some((word, why)) = banned.filter(|_| !FOREIGN.contains(&name)) {
        return Some(format!("`{name}` has `{word}` in it: {why}"));
    }
    let boasts = words.windows(2).any(|pair| pair == ["exactly", "once"]);
    boasts.then(|| format!("`{name}` promises too much: we say effectively once"))
}

fn objections(file: &Source) -> Vec<String> {
    let stem = file.path.rsplit('/').next().unwrap_or_default();
    let code = code(&file.text);
    let names = given(&code).into_iter().chain(stem.split('.').next());
    let mut objections: Vec<String> = names.filter_map(objection).collect();
    objections.sort();
    objections.dedup();
    objections
}

#[test]
fn no_name_has_a_banned_word_in_it() {
    let mut breaches = Vec::new();
    for file in rust() {
        let objections = objections(&file).into_iter();
        breaches.extend(objections.map(|objection| format!("{}: {objection}", file.path)));
    }
    assert_tidy(&breaches);
}

#[test]
fn every_port_states_its_contract_and_what_a_dropped_call_leaves() {
    let mut breaches = Vec::new();
    for file in files("crates/outbox-core/src/ports", "rs") {
        for (name, doc) in items(&file, "pub trait ") {
            for section in ["# Contract", "# Cancel safety"] {
                // `Appender` and `Clock` add nothing to the contract of what they stand for.
                if !doc.contains(section) && !["Appender", "Clock"].contains(&name.as_str()) {
                    breaches.push(format!("{}: port `{name}` has no `{section}`", file.path));
                }
            }
        }
    }
    assert_tidy(&breaches);
}

#[test]
fn every_public_async_function_says_what_a_dropped_call_leaves() {
    let mut breaches = Vec::new();
    for file in files("crates", "rs").iter().filter(|file| !file.is_test()) {
        for (name, doc) in items(file, "pub async fn ") {
            if !doc.contains("# Cancel safety") {
                breaches.push(format!("{}: `{name}` has no `# Cancel safety`", file.path));
            }
        }
    }
    assert_tidy(&breaches);
}

/// The items of a file that begin with `start`, each with the text that stands over it.
fn items(file: &Source, start: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let begins = lines.iter().enumerate().filter_map(|(place, line)| {
        let name = identifiers(line.strip_prefix(start)?).next()?;
        let over = lines[..place].iter().rev();
        let over = over.take_while(|line| line.starts_with("///") || line.starts_with("#["));
        Some((
            name.to_owned(),
            over.copied().collect::<Vec<_>>().join("\n"),
        ))
    });
    begins.collect()
}

/// What spans are named by, in `observe::names`.
const SPAN: &str = "SPAN_";

#[test]
fn every_span_is_named_by_a_constant_and_every_such_constant_names_one() {
    let mut breaches = Vec::new();
    let mut unused: Vec<String> = Vec::new();
    let sources = files("crates", "rs");
    let sources: Vec<_> = sources.iter().filter(|file| !file.is_test()).collect();
    for file in &sources {
        if file.path.ends_with("observe/names.rs") {
            let names = identifiers(&file.text).filter(|name| name.starts_with(SPAN));
            unused.extend(names.map(str::to_owned));
        }
    }
    for file in &sources {
        for (place, _) in file.text.match_indices("_span!(") {
            let named = file.text[place..]
                .trim_start_matches("_span!(")
                .trim_start();
            match named.strip_prefix("names::") {
                Some(rest) if rest.starts_with(SPAN) => {
                    let name = identifiers(rest).next().unwrap_or_default();
                    unused.retain(|known| known != name);
                }
                _ => breaches.push(format!(
                    "{}: a span is not named by a constant of observe::names",
                    file.path
                )),
            }
        }
    }
    breaches.extend(
        unused
            .iter()
            .map(|name| format!("no span is named by `{name}`")),
    );
    assert_tidy(&breaches);
}

#[test]
fn a_name_is_judged_by_its_words() {
    for fine in [
        "Clock", "unlocked", "block", "Implied", "Jobs2Do", "RwLock", "simple",
    ] {
        assert_eq!(objection(fine), None);
    }
    for bad in [
        "TaskLock",
        "lock",
        "http_util",
        "StoreImpl",
        "TaskDao",
        "ExactlyOnce",
    ] {
        assert!(objection(bad).is_some(), "{bad}");
    }
    let names = given("fn lock(x: Job) { let y = Kind::Util; }");
    assert_eq!(names, ["lock", "Job", "y", "Kind", "Util"]);
}
