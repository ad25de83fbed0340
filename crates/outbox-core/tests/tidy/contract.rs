//! Promises, and the tests that hold them.

use std::collections::{BTreeMap, BTreeSet};

use crate::assert_tidy;
use crate::source::{Source, identifiers, rust};
use crate::texts::{rows, spans, text};

const PAGE: &str = "docs/contract.md";

/// How many numbers each section has; none where the section is one.
const SECTIONS: &[(u32, u32)] = &[
    (2, 5),
    (3, 3),
    (4, 12),
    (5, 4),
    (6, 0),
    (7, 2),
    (8, 12),
    (9, 4),
    (10, 5),
    (11, 0),
    (12, 22),
];

fn numbers() -> BTreeSet<String> {
    let of = |&(section, last): &(u32, u32)| match last {
        0 => vec![section.to_string()],
        last => (1..=last).map(|n| format!("{section}.{n}")).collect(),
    };
    SECTIONS.iter().flat_map(of).collect()
}

/// The kit's cases by name, each with its number.
fn cases(files: &[Source]) -> BTreeMap<&str, &str> {
    let kit = files
        .iter()
        .filter(|file| file.path.contains("/src/testing/") && !file.path.ends_with("/kit.rs"));
    let found = kit.flat_map(|file| file.text.split("case!(").skip(1));
    found
        .filter_map(|rest| {
            let (number, rest) = rest.trim_start().strip_prefix('"')?.split_once("\",")?;
            Some((identifiers(rest).next()?, number))
        })
        .collect()
}

/// The functions that are marked as tests.
fn tests(files: &[Source]) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    for file in files {
        for mark in ["#[test]", "#[tokio::test"] {
            for rest in file.text.split(mark).skip(1) {
                let name = rest.split_once("fn ").map(|(_, rest)| rest);
                tests.extend(name.and_then(|rest| identifiers(rest).next()));
            }
        }
    }
    tests
}

#[test]
fn every_promise_is_held_by_tests_that_are_there() {
    let (page, files) = (text(PAGE).text, rust());
    let (cases, tests) = (cases(&files), tests(&files));
    let (mut missing, mut breaches) = (numbers(), Vec::new());
    for row in rows(&page) {
        let [number, _, held_by] = &row[..] else {
            panic!("{PAGE}: a row has not three cells: {row:?}");
        };
        if !numbers().contains(number) {
            breaches.push(format!("{PAGE}: there is no {number}"));
        }
        let names = spans(held_by);
        if !names.is_empty() {
            missing.remove(number);
        }
        let known = |name: &str| cases.contains_key(name) || tests.contains(name);
        let unknown = names.into_iter().filter(|name| !known(name));
        breaches.extend(unknown.map(|name| format!("{PAGE}: `{name}` is no test")));
    }
    breaches.extend(
        missing
            .iter()
            .map(|number| format!("{PAGE}: nothing holds {number}")),
    );
    assert_tidy(&breaches);
}

#[test]
fn every_case_of_the_kit_is_about_a_promise() {
    let files = rust();
    let (cases, numbers) = (cases(&files), numbers());
    let whole = |number: &str| {
        SECTIONS
            .iter()
            .any(|(section, _)| section.to_string() == number)
    };
    let stray = cases
        .iter()
        .filter(|(_, number)| !numbers.contains(**number) && !whole(number));
    let breaches: Vec<_> = stray
        .map(|(name, number)| format!("{PAGE}: case `{name}` is of {number}, which is not there"))
        .collect();
    assert_tidy(&breaches);
    assert!(cases.len() >= 100, "{} cases", cases.len());
}
