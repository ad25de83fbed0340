//! Who may know whom inside the core.

use crate::assert_tidy;
use crate::source::{Source, files};

/// Modules on one level.
struct Floor {
    name: &'static str,
    /// From the ground up: where a floor is a stack, each may know those before it.
    modules: &'static [&'static str],
    /// Whether modules of the floor may know those before them, or none of the floor.
    stack: bool,
    /// Modules further down that it may not know all the same.
    but: &'static [&'static str],
    /// What may not occur in its code.
    without: &'static [&'static str],
}

/// The house, from the ground up. A floor knows floors below it only.
const FLOORS: &[Floor] = &[
    Floor {
        name: "0 (words)",
        modules: &["time", "error", "id"],
        stack: true,
        but: &[],
        without: &["async fn", ".await"],
    },
    Floor {
        name: "1 (values)",
        modules: &["lease", "status", "message", "packed", "delivery", "report"],
        stack: true,
        but: &[],
        without: &["async fn", ".await", "async_trait", "tokio::"],
    },
    Floor {
        name: "2 (ports)",
        modules: &["signal", "ports"],
        stack: true,
        but: &[],
        without: &[],
    },
    Floor {
        name: "3 (policy)",
        modules: &["policy"],
        stack: false,
        but: &["ports", "signal"],
        without: &["async fn", ".await", "async_trait", "tokio::"],
    },
    Floor {
        name: "4 (fittings)",
        modules: &["observe", "memory", "publish"],
        stack: false,
        but: &[],
        without: &[],
    },
    Floor {
        name: "5 (orchestrators)",
        modules: &["produce", "relay", "consume"],
        stack: false,
        but: &["memory", "publish"],
        without: &[],
    },
    Floor {
        name: "6 (edges)",
        modules: &["env", "testing"],
        stack: false,
        but: &[],
        without: &[],
    },
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS
        .iter()
        .position(|floor| floor.modules.contains(&module))
}

/// The module of the core that a file belongs to.
fn module_of(file: &Source) -> &str {
    let inside = file.path.trim_start_matches("crates/outbox-core/src/");
    inside.split(['/', '.']).next().unwrap_or_default()
}

/// Why a module may not know another, where it may not.
fn objection(module: &str, other: &str) -> Option<String> {
    let (Some(own), Some(others)) = (floor_of(module), floor_of(other)) else {
        return None;
    };
    let floor = &FLOORS[own];
    let place = |module| floor.modules.iter().position(|known| *known == module);
    let allowed = match others.cmp(&own) {
        std::cmp::Ordering::Less => !floor.but.contains(&other),
        std::cmp::Ordering::Equal => {
            other == module || (floor.stack && place(other) < place(module))
        }
        std::cmp::Ordering::Greater => false,
    };
    (!allowed).then(|| format!("floor {} may not know `{other}`", floor.name))
}

/// The modules of the core that some code names by `crate::`.
fn known(code: &str) -> Vec<&str> {
    let end = |path: &str| path.find(|c: char| !c.is_alphanumeric() && c != '_');
    let mut known = Vec::new();
    for path in code.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                known.extend(
                    group
                        .split(',')
                        .map(str::trim)
                        .map(|p| &p[..end(p).unwrap_or(p.len())]),
                );
            }
            None => known.push(&path[..end(path).unwrap_or(path.len())]),
        }
    }
    known
}

fn core() -> Vec<Source> {
    let mut files = files("crates/outbox-core/src", "rs");
    files.retain(|file| !file.is_test() && !file.path.ends_with("src/lib.rs"));
    files
}

#[test]
fn a_module_knows_only_floors_below_its_own() {
    let mut breaches = Vec::new();
    for file in core() {
        let (module, code) = (module_of(&file), file.shipped());
        if floor_of(module).is_none() {
            breaches.push(format!("{}: `{module}` stands on no floor", file.path));
        }
        let objections = known(&code)
            .into_iter()
            .filter_map(|o| objection(module, o));
        breaches.extend(objections.map(|objection| format!("{}: {objection}", file.path)));
    }
    breaches.dedup();
    assert_tidy(&breaches);
}

#[test]
fn no_floor_uses_what_it_does_without() {
    let mut breaches = Vec::new();
    for file in core() {
        let Some(floor) = floor_of(module_of(&file)).map(|floor| &FLOORS[floor]) else {
            continue;
        };
        let code = file.shipped();
        for word in floor.without.iter().filter(|word| code.contains(**word)) {
            let floor = floor.name;
            breaches.push(format!(
                "{}: floor {floor} does without `{word}`",
                file.path
            ));
        }
    }
    assert_tidy(&breaches);
}

/// What only one file may do, in the whole workspace.
const ALONE: &[(&str, &str)] = &[
    ("SystemTime", "crates/outbox-core/src/time.rs"),
    ("rand::", "crates/outbox-core/src/id.rs"),
];

#[test]
fn only_one_file_asks_the_system_for_the_time_and_one_for_randomness() {
    let mut breaches = Vec::new();
    let sources = ["crates", "src"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"));
    for file in sources.filter(|file| !file.is_test()) {
        let code = file.shipped();
        for (word, alone) in ALONE.iter().filter(|(_, alone)| file.path != *alone) {
            if code.contains(word) {
                breaches.push(format!("{}: only {alone} may use `{word}`", file.path));
            }
        }
    }
    assert_tidy(&breaches);
}

#[test]
fn the_table_of_floors_catches_what_it_should() {
    assert_eq!(objection("relay", "ports"), None);
    assert_eq!(objection("id", "time"), None);
    for (module, other) in [
        ("time", "id"),
        ("policy", "ports"),
        ("memory", "publish"),
        ("relay", "consume"),
        ("relay", "memory"),
        ("publish", "env"),
    ] {
        assert!(objection(module, other).is_some(), "{module} -> {other}");
    }
    assert_eq!(
        known("use crate::{id::A, time};\ncrate::ports::X"),
        ["id", "time", "ports"]
    );
}
