use outbox_core::OutboxError;
use outbox_core::message::Kind;
use outbox_core::testing::CaseResult;

use super::given::{START, after, letter_texts, message};
use super::harness::DlqHarness;
use super::scene::{Scene, sides};
use super::table::{CORRUPTION, DlqCase, case};
use crate::{CountRequest, DeadLetter, Filter, LetterId, Origin, Page};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.5", pages_answer_every_letter_once_in_order),
    case!("10.5", a_page_of_large_letters_may_be_short),
    case!("10.5", each_condition_of_a_filter_is_met),
    case!("10.5", a_letter_is_found_by_its_number),
    case!("10.5", a_filter_with_too_many_ids_is_refused),
    case!("10.4", like_failures_share_a_fingerprint),
    case!("10.5", letters_are_counted_by_what_they_share),
    case!(
        "10.5",
        a_damaged_letter_is_told_and_hides_no_other,
        CORRUPTION
    ),
    case!(
        "12.7",
        a_message_that_cannot_be_read_rests_with_the_others,
        CORRUPTION
    ),
];

async fn pages_answer_every_letter_once_in_order(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let texts: Vec<_> = (0..25).map(|number| number.to_string()).collect();
        let batch: Vec<_> = texts.iter().map(|text| message(text)).collect();
        scene.bury(&batch, "never", START).await?;
        let (mut page, mut found, mut pages) = (Page::first(10), Vec::new(), 0);
        loop {
            let listing = scene.quarantine.list(&Filter::default(), page).await?;
            assert!(listing.letters.len() <= 10);
            found.extend(listing.letters);
            pages += 1;
            page.after = listing.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!((letter_texts(&found), pages), (texts, 3));
        assert!(found.is_sorted_by_key(|letter| letter.id));
    }
    Ok(())
}

async fn a_page_of_large_letters_may_be_short(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let large = "x".repeat(900_000);
        scene
            .bury(&vec![message(&large); 12], "never", START)
            .await?;
        let (mut page, mut found) = (Page::first(100), 0);
        for _ in 0..12 {
            let listing = scene.quarantine.list(&Filter::default(), page).await?;
            assert!(!listing.letters.is_empty());
            found += listing.letters.len();
            page.after = listing.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!((found, page.after), (12, None));
    }
    Ok(())
}

/// Four letters: two of topic `t`, two of kind `k`, two errors, at two moments.
async fn four(scene: &Scene) -> CaseResult {
    let other = |text: &str| {
        let mut new = message(text);
        new.topic = "u".to_owned();
        new
    };
    scene.bury(&[message("a")], "no row 1", START).await?;
    scene
        .bury(&[message("b").kind(Kind::new("l"))], "no row 2", START)
        .await?;
    scene.bury(&[other("c")], "no row 3", after(5)).await?;
    scene
        .bury(&[other("d").kind(Kind::new("l"))], "busy", after(5))
        .await?;
    Ok(())
}

/// Filters, and the letters of [`four`] that each of them means.
fn filters(scene: &Scene, letters: &[DeadLetter]) -> Vec<(Filter, &'static str)> {
    let with = |set: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::default();
        set(&mut filter);
        filter
    };
    let topic = |name: &'static str| with(&|f| f.topic = Some(name.to_owned()));
    let error_kind = |name: &'static str| with(&|f| f.error_kind = Some(name.to_owned()));
    let of_a = Filter::alike(letters[0].fingerprint);
    let nowhere = Origin::Queue("nowhere".to_owned());
    let two = |f: &mut Filter| f.ids = vec![letters[3].id, letters[1].id];
    vec![
        (Filter::default(), "a b c d"),
        (topic("t"), "a b"),
        (topic("T"), ""),
        (with(&|f| f.kind = Some("l".to_owned())), "b d"),
        (error_kind("failed"), "a b c d"),
        (error_kind("refused"), ""),
        (of_a.clone(), "a c"),
        (Filter::from_origin(scene.origin.clone()), "a b c d"),
        (Filter::from_origin(nowhere), ""),
        (with(&|f| f.since = Some(after(5))), "c d"),
        (with(&|f| f.before = Some(after(5))), "a b"),
        (with(&two), "b d"),
        (with(&|f| f.up_to = Some(letters[1].id)), "a b"),
        (Filter::one(letters[2].id), "c"),
        (
            Filter {
                topic: Some("u".to_owned()),
                since: Some(START),
                ..of_a
            },
            "c",
        ),
    ]
}

async fn each_condition_of_a_filter_is_met(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        four(&scene).await?;
        for (filter, meant) in filters(&scene, &scene.letters().await?) {
            let found = letter_texts(&scene.list(&filter).await?).join(" ");
            assert_eq!(found, meant, "{filter}");
        }
    }
    Ok(())
}

async fn a_letter_is_found_by_its_number(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        assert_eq!(scene.quarantine.last().await?, None);
        scene
            .bury(&[message("a"), message("b")], "never", START)
            .await?;
        let letters = scene.letters().await?;
        assert_eq!(
            scene.quarantine.get(letters[1].id).await?.as_ref(),
            Some(&letters[1])
        );
        assert_eq!(scene.quarantine.last().await?, Some(letters[1].id));
        assert_eq!(scene.quarantine.get(LetterId(1_000_000)).await?, None);
    }
    Ok(())
}

async fn a_filter_with_too_many_ids_is_refused(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let filter = Filter {
            ids: (0..1_001).map(LetterId).collect(),
            ..Filter::default()
        };
        let refused = scene.quarantine.list(&filter, Page::first(1)).await;
        let limit = Filter::MOST_IDS as u64;
        assert!(
            matches!(refused, Err(OutboxError::Limit { actual: 1_001, limit: told, .. }) if told == limit),
            "{refused:?}"
        );
    }
    Ok(())
}

async fn like_failures_share_a_fingerprint(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&[message("a")], "order 17 ('x') has no row", START)
            .await?;
        scene
            .bury(&[message("b")], "order 4 ('why') has no row", START)
            .await?;
        scene
            .bury(
                &[message("c").kind(Kind::new("l"))],
                "order 4 ('y') has no row",
                START,
            )
            .await?;
        scene
            .bury(&[message("d")], "order 4 ('y') has two rows", START)
            .await?;
        let prints: Vec<_> = scene
            .letters()
            .await?
            .iter()
            .map(|l| l.fingerprint)
            .collect();
        assert_eq!(prints[0], prints[1]);
        assert!(prints[1] != prints[2] && prints[1] != prints[3] && prints[2] != prints[3]);
    }
    Ok(())
}

async fn letters_are_counted_by_what_they_share(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        four(&scene).await?;
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        let counts = scene.quarantine.count(&request).await?;
        assert_eq!(
            (counts.total, counts.unreadable, counts.came_back),
            (4, 0, 0)
        );
        assert_eq!(counts.oldest, Some(START));
        assert_eq!(counts.origins, [(scene.origin.clone(), 4)]);
        let pair = |name: &str, count| (name.to_owned(), count);
        assert_eq!(counts.topics, [pair("t", 2), pair("u", 2)]);
        assert_eq!(counts.kinds, [pair("k", 2), pair("l", 2)]);
        let group = &counts.groups[0];
        assert_eq!(
            (counts.groups.len(), group.letters, group.redrives),
            (3, 2, 0)
        );
        assert_eq!((group.first, group.last), (START, after(5)));
        assert_eq!(
            (group.error_kind.as_str(), group.kind.as_deref()),
            ("failed", Some("k"))
        );
        let request = CountRequest {
            filter: Filter::alike(group.fingerprint),
            max: 1,
        };
        assert_eq!(scene.quarantine.count(&request).await?.total, 2);
    }
    Ok(())
}

async fn a_damaged_letter_is_told_and_hides_no_other(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let batch = ["a", "b", "c"].map(message);
        scene.bury(&batch, "never", START).await?;
        let numbers = scene.numbers().await?;
        scene.store.corrupt_letter(numbers[1]).await?;
        let letters = scene.letters().await?;
        assert_eq!(letter_texts(&letters), ["a", "c"]);
        let damaged = &letters[1];
        assert_eq!(
            (letters.len(), damaged.id, &damaged.message),
            (3, numbers[1], &None)
        );
        assert!(
            damaged
                .problem
                .as_ref()
                .is_some_and(|problem| !problem.is_empty())
        );
        assert_eq!(
            scene.quarantine.get(numbers[1]).await?.as_ref(),
            Some(damaged)
        );
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        assert_eq!(scene.quarantine.count(&request).await?.total, 3);
    }
    Ok(())
}

async fn a_message_that_cannot_be_read_rests_with_the_others(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        scene.put(&["a", "b", "c"].map(message)).await?;
        let taken = scene.take(3, START).await?;
        scene.retry(&taken, "no luck", START).await?;
        scene.stop().await?;
        scene.store.corrupt(&taken[1].message).await?;
        assert_eq!(scene.deliver_all(after(1)).await?, ["a", "c"]);
        let letter = scene.only_letter().await?;
        assert_eq!(
            (letter.kind.as_str(), &letter.message),
            ("unreadable", &None)
        );
        assert!(!letter.error.is_empty() && letter.problem.is_none());
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        assert_eq!(scene.quarantine.count(&request).await?.unreadable, 1);
    }
    Ok(())
}
