//! Texts that agree with each other and with the code.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use outbox_core::env::VARIABLES;
use outbox_core::observe::names::{DEAD_LETTER_METRICS, METRICS, Metric};

use crate::assert_tidy;
use crate::source::{Source, files, identifiers, root, rust};

/// Every text for people: those at the root, and the documentation.
pub(crate) fn texts() -> Vec<Source> {
    let at_root = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut texts: Vec<Source> = at_root.into_iter().map(text).collect();
    texts.extend(files("docs", "md"));
    texts
}

/// One text by its path from the root.
pub(crate) fn text(path: &str) -> Source {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    Source {
        path: path.to_owned(),
        text,
    }
}

/// The cells of every row of every table in `text`, without their heads.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.starts_with('|');
    let mut rows = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| is_row(line)) {
        let below = lines.get(place + 1).copied().unwrap_or_default();
        if !line.starts_with("|--") && !below.starts_with("|--") {
            let cells = line.trim_matches('|').split(" |");
            rows.push(
                cells
                    .map(|cell| cell.trim().trim_start_matches("| ").to_owned())
                    .collect(),
            );
        }
    }
    rows
}

/// What stands between backquotes in `text`, outside blocks of code.
pub(crate) fn spans(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

/// The part of `text` from the head `head` to the next one of its rank.
fn section<'t>(text: &'t str, head: &str) -> Option<&'t str> {
    let start = text.find(&format!("{head}\n"))? + head.len();
    let rank = &head[..=head.rfind('#')?];
    let end = text[start..].find(&format!("\n{rank} "));
    Some(&text[start..end.map_or(text.len(), |end| start + end)])
}

#[test]
fn every_page_is_linked_from_the_index() {
    let index = text("docs/README.md").text;
    let pages = files("docs", "md");
    let missing = pages
        .iter()
        .filter(|page| page.path != "docs/README.md")
        .filter_map(|page| {
            let path = page.path.trim_start_matches("docs/");
            let linked = index.contains(&format!("({path})"));
            (!linked).then(|| format!("{}: docs/README.md does not link it", page.path))
        });
    assert_tidy(&missing.collect::<Vec<_>>());
}

#[test]
fn every_link_leads_somewhere() {
    let mut breaches = Vec::new();
    for text in texts() {
        for link in text.text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = Path::new(&text.path).parent().unwrap();
            if !root().join(plain(&folder.join(target))).exists() {
                breaches.push(format!("{}: links {target}, which is not there", text.path));
            }
        }
    }
    assert_tidy(&breaches);
}

/// A path without `..` in it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[test]
fn every_snippet_is_compiled_by_the_facade() {
    let facade = text("src/lib.rs").text;
    let breaches = texts().into_iter().filter_map(|text| {
        let compiled = facade.contains(&format!("/{}\"", text.path));
        let forgotten = text.text.contains("```rust") && !compiled;
        forgotten.then(|| format!("{}: src/lib.rs does not compile its snippets", text.path))
    });
    assert_tidy(&breaches.collect::<Vec<_>>());
}

#[test]
fn every_path_that_a_text_names_is_in_the_code() {
    let code = rust();
    let known: BTreeSet<&str> = code
        .iter()
        .flat_map(|file| identifiers(&file.text))
        .collect();
    let mut breaches = Vec::new();
    for text in texts() {
        for span in spans(&text.text)
            .into_iter()
            .filter(|span| span.contains("::"))
        {
            let unknown = identifiers(span).find(|name| !known.contains(name));
            breaches.extend(unknown.map(|name| {
                format!(
                    "{}: `{span}` names `{name}`, which is not in the code",
                    text.path
                )
            }));
        }
    }
    assert_tidy(&breaches);
}

#[test]
fn every_outbox_name_in_a_text_is_a_metric_or_stands_in_the_schema() {
    let schema: String = files("crates", "sql")
        .into_iter()
        .map(|file| file.text)
        .collect();
    let tables: BTreeSet<&str> = identifiers(&schema).collect();
    let metrics: BTreeSet<&str> = all_metrics().map(|metric| metric.name).collect();
    let mut breaches = Vec::new();
    for text in texts() {
        // The glossary's tables name what others have, too: see there.
        for span in spans(&text.text)
            .into_iter()
            .filter(|_| !text.path.ends_with("GLOSSARY.md"))
        {
            let is_name = span.starts_with("outbox_") && !span.contains("::");
            let known = tables.contains(span) || metrics.contains(span) || span == "outbox_core";
            if is_name && !known {
                breaches.push(format!(
                    "{}: `{span}` is neither metric nor table",
                    text.path
                ));
            }
        }
    }
    assert_tidy(&breaches);
}

#[test]
fn rules_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let files = ["yml", "json"]
        .into_iter()
        .flat_map(|extension| files("docs/monitoring", extension));
    let (mut breaches, mut asked) = (Vec::new(), 0);
    for file in files {
        for name in identifiers(&file.text).filter(|name| name.starts_with("outbox_")) {
            asked += 1;
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            if !all_metrics().any(|metric| metric.name == name) {
                breaches.push(format!("{}: there is no metric `{name}`", file.path));
            }
        }
        let groups = file.text.split("by (").skip(1);
        let labels = groups
            .filter_map(|rest| rest.split(')').next())
            .flat_map(identifiers);
        for label in labels.filter(|label| *label != "le") {
            if !all_metrics().any(|metric| metric.labels.contains(&label)) {
                breaches.push(format!("{}: there is no label `{label}`", file.path));
            }
        }
    }
    assert_tidy(&breaches);
    assert!(asked > 20, "{asked} metrics are asked for");
}

fn all_metrics() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(DEAD_LETTER_METRICS)
}

#[test]
fn the_page_on_operations_lists_every_metric_as_it_is() {
    let wanted = all_metrics().map(|metric| {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = if labels.is_empty() {
            "-".to_owned()
        } else {
            labels.join(", ")
        };
        let metric_type = format!("{:?}", metric.metric_type).to_lowercase();
        format!(
            "| `{}` | {metric_type} | {labels} | {} |",
            metric.name, metric.meaning
        )
    });
    assert_rows("docs/operations.md", "| metric | ", wanted);
}

#[test]
fn the_page_on_configuration_lists_every_variable_as_it_is() {
    let wanted = VARIABLES.iter().map(|variable| {
        format!(
            "| `{}` | {} | {} | {} |",
            variable.name, variable.form, variable.default, variable.meaning
        )
    });
    assert_rows("docs/configuration.md", "| variable | ", wanted);
}

/// Fails with the rows as they should be where the table under `head` is another.
fn assert_rows(path: &str, head: &str, wanted: impl Iterator<Item = String>) {
    let page = text(path).text;
    let lines = page
        .lines()
        .skip_while(|line| !line.starts_with(head))
        .skip(2);
    let found: Vec<&str> = lines.take_while(|line| line.starts_with('|')).collect();
    let wanted: Vec<String> = wanted.collect();
    let table = wanted.join("\n");
    assert!(
        found == wanted,
        "{path}: the table is not as the code; it should be\n{table}\n"
    );
}

#[test]
fn the_page_on_configuration_lists_every_setting() {
    let page = text("docs/configuration.md").text;
    let mut breaches = Vec::new();
    for file in rust().into_iter().filter(|file| !file.is_test()) {
        for (name, fields) in configurations(&file.shipped()) {
            let listed: BTreeSet<String> = section(&page, &format!("### {name}"))
                .map(rows)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|row| Some(row.first()?.trim_matches('`').to_owned()))
                .collect();
            if listed != fields {
                let (path, page) = (&file.path, "docs/configuration.md");
                breaches.push(format!(
                    "{path}: {page} lists {listed:?} of {name}: {fields:?}"
                ));
            }
        }
    }
    assert_tidy(&breaches);
}

/// The public structs of settings in `code`, with their public fields.
fn configurations(code: &str) -> Vec<(&str, BTreeSet<String>)> {
    let mut found = Vec::new();
    for rest in code.split("pub struct ").skip(1) {
        let name = identifiers(rest).next().unwrap_or_default();
        let is_settings = ["Config", "Policy", "Limits", "Thresholds", "Backoff"]
            .iter()
            .any(|end| name.ends_with(end));
        let body = rest.split("\n}").next().unwrap_or_default();
        let fields: BTreeSet<String> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
            .map(|(field, _)| field.to_owned())
            .collect();
        // What a macro writes has a table of its own.
        let written = !fields.iter().any(|field| field.starts_with('$'));
        if is_settings && written && !fields.is_empty() {
            found.push((name, fields));
        }
    }
    found
}

#[test]
fn tables_and_spans_are_read_as_they_stand() {
    let page = "a `b::c`\n\n| x | y |\n|---|---|\n| `1` | two, 2 |\n\n```rust\n`no`\n```\n`d`";
    assert_eq!(rows(page), [["`1`", "two, 2"]]);
    assert_eq!(spans(page), ["b::c", "1", "d"]);
    assert_eq!(
        section("## A\nx\n### B\ny\n## C\n", "## A"),
        Some("\nx\n### B\ny")
    );
}
