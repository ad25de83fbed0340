//! Names from elsewhere that stay findable.

use std::collections::BTreeSet;

use crate::assert_tidy;
use crate::source::{Source, identifiers, rust};
use crate::texts::{rows, spans, text};

/// How a row says that a name has no counterpart here; a reason follows.
const NOT_TAKEN: &str = "not taken over";

/// What stands in a database, where the search of the code's documentation does not look.
const STORED: &[&str] = &["column ", "index ", "table "];

/// Each name of theirs with what the glossary says of it.
fn names() -> Vec<(String, String)> {
    let page = text("docs/GLOSSARY.md").text;
    let (_, theirs) = page.split_once("## Names from elsewhere").unwrap();
    let mut names = Vec::new();
    for row in rows(theirs) {
        let [name, ours] = &row[..] else {
            panic!("docs/GLOSSARY.md: a row has not two cells: {row:?}");
        };
        let spans = spans(name).into_iter();
        names.extend(spans.map(|name| (name.to_owned(), ours.clone())));
    }
    names
}

/// The code that has a documentation to be searched.
fn shipped() -> Vec<Source> {
    rust().into_iter().filter(|file| !file.is_test()).collect()
}

/// A name as the search of the documentation compares it.
fn searched(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

#[test]
fn every_name_of_theirs_is_found_in_the_code_or_has_a_reason_why_not() {
    let code = shipped();
    let words = code.iter().flat_map(|file| identifiers(&file.text));
    let known: BTreeSet<String> = words.map(searched).collect();
    let mut breaches = Vec::new();
    for (name, ours) in names() {
        let is_plain = identifiers(&name).next() == Some(&name);
        let stored = STORED.iter().any(|place| ours.starts_with(place));
        if let Some(reason) = ours.strip_prefix(NOT_TAKEN) {
            if !reason.contains(": ") {
                breaches.push(format!(
                    "docs/GLOSSARY.md: `{name}` is not taken over, but why?"
                ));
            }
        } else if is_plain && !stored && !known.contains(&searched(&name)) {
            let rule = "is neither an alias nor a name in the code";
            breaches.push(format!("docs/GLOSSARY.md: `{name}` {rule}"));
        }
    }
    assert_tidy(&breaches);
}

/// What the designs call their interfaces and classes: these have aliases, not just mentions.
const CLASSES: &[&str] = &[
    "BaseTask",
    "DeduplicationCacheInterface",
    "DlqEntry",
    "DomainEvent",
    "EventOutbox",
    "EventProducingOperation",
    "EventRelayWorker",
    "ExponentialWithJitterBackoff",
    "OutboxEnabledAggregateRepository",
    "OutboxEntry",
    "OutboxMetrics",
    "OutboxProcessor",
    "OutboxRepository",
    "OutboxRepositoryProtocol",
    "OutboxRepositoryWrapper",
    "OutboxSagaManager",
    "OutboxServiceConfig",
    "OutboxSettings",
    "OutboxStorage",
    "OwmIngestionTask",
    "RateLimiterInterface",
    "RedisDailyRateLimiterDao",
    "RedisDeduplicationCacheRepository",
    "RedisTaskQueueRepository",
    "SqliteTaskOutbox",
    "TaskConsumer",
    "TaskOutboxInterface",
    "TaskProcessingManager",
    "TaskProducerManager",
    "TaskQueueRepositoryInterface",
];

#[test]
fn every_port_and_class_of_theirs_is_an_alias_and_stands_in_the_glossary() {
    let code = shipped();
    let listed: BTreeSet<String> = names().into_iter().map(|(name, _)| name).collect();
    let mut breaches = Vec::new();
    for name in CLASSES {
        let alias = format!("#[doc(alias = \"{name}\")]");
        if !code.iter().any(|file| file.text.contains(&alias)) {
            breaches.push(format!("crates: nothing has the alias `{name}`"));
        }
        if !listed.contains(*name) {
            breaches.push(format!("docs/GLOSSARY.md: `{name}` is missing"));
        }
    }
    assert_tidy(&breaches);
}
