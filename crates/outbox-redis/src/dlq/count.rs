use std::cmp::Reverse;
use std::collections::BTreeMap;

use outbox_dlq::{CountRequest, Counts, Fingerprint, Group, Origin};

use super::label::{Index, Label};
use super::port::RedisQuarantine;
use crate::error::Fault;

/// How many labels are counted at once.
const STEP: usize = 1_000;

/// What was counted so far.
#[derive(Default)]
struct Tally {
    counts: Counts,
    origins: BTreeMap<Origin, u64>,
    topics: BTreeMap<String, u64>,
    kinds: BTreeMap<String, u64>,
    /// Each with one of its letters.
    groups: BTreeMap<Fingerprint, (Group, Label)>,
}

impl RedisQuarantine {
    /// Counts those that are meant.
    pub(super) async fn counted(&self, request: &CountRequest) -> Result<Counts, Fault> {
        self.prepare(&request.filter).await?;
        let (mut tally, mut after) = (Tally::default(), None);
        loop {
            let picked = self.pick(&request.filter, Index::Letters, after, STEP);
            let picked = picked.await?;
            after = picked.labels.last().map(|label| label.key(Index::Letters));
            picked.labels.into_iter().for_each(|label| tally.add(label));
            if !picked.more {
                break;
            }
        }
        let (mut counts, groups) = tally.finish(request.max);
        for (mut group, label) in groups {
            let (_, stored) = self.read(&[label]).await?;
            let sample = stored.into_iter().next();
            group.error = sample.map(|sample| sample.letter.error).unwrap_or_default();
            counts.groups.push(group);
        }
        Ok(counts)
    }
}

impl Tally {
    fn add(&mut self, label: Label) {
        let (counts, at) = (&mut self.counts, label.quarantined_at);
        counts.total += 1;
        counts.came_back += u64::from(label.redrives > 0);
        counts.oldest = Some(counts.oldest.map_or(at, |oldest| oldest.min(at)));
        *self.origins.entry(label.origin.clone()).or_default() += 1;
        match label.topic_and_kind() {
            None => counts.unreadable += 1,
            Some((topic, kind)) => {
                *self.topics.entry(topic.to_owned()).or_default() += 1;
                *self.kinds.entry(kind.to_owned()).or_default() += 1;
            }
        }
        let redrives = label.redrives;
        let group = self.groups.entry(label.fingerprint);
        let (group, _) = group.or_insert_with(|| (group_of(&label), label));
        group.letters += 1;
        group.redrives = group.redrives.max(redrives);
        group.first = group.first.min(at);
        group.last = group.last.max(at);
    }

    /// The counts, and the greatest groups, which are still without a text.
    fn finish(self, max: usize) -> (Counts, Vec<(Group, Label)>) {
        let mut groups: Vec<_> = self.groups.into_values().collect();
        groups.sort_by_key(|(group, _)| Reverse(group.letters));
        groups.truncate(max);
        let counts = Counts {
            origins: greatest(self.origins, usize::MAX),
            topics: greatest(self.topics, max),
            kinds: greatest(self.kinds, max),
            ..self.counts
        };
        (counts, groups)
    }
}

fn group_of(label: &Label) -> Group {
    Group {
        fingerprint: label.fingerprint,
        letters: 0,
        redrives: 0,
        error_kind: label.error_kind.clone(),
        kind: label.topic_and_kind().map(|(_, kind)| kind.to_owned()),
        error: String::new(),
        first: label.quarantined_at,
        last: label.quarantined_at,
    }
}

/// No more than `max` of what was counted, the greatest first.
fn greatest<T>(counted: BTreeMap<T, u64>, max: usize) -> Vec<(T, u64)> {
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|(_, count)| Reverse(*count));
    counted.truncate(max);
    counted
}
