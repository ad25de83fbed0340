//! The kit's cases can fail: each of these faults is caught by the cases that are about it.
#![allow(clippy::unwrap_used)]
use std::panic::{AssertUnwindSafe, catch_unwind};

use outbox_core::testing::Case;
use outbox_dlq::testing::{DlqCapabilities, DlqHarness, dlq_cases};

mod heap;
#[path = "../memory_store/mod.rs"]
mod memory_store;
mod quarantine;
mod store;

use heap::HeapFault;
use quarantine::QuarantineFault;
use store::{BrokenHarness, Fault};

const HEAP: &[(HeapFault, &[&str])] = &[
    (
        HeapFault::ForgetsWhatItDrains,
        &[
            "a_drained_entry_is_claimed_until_its_lease_ends",
            "a_crash_between_draining_and_quarantining_loses_neither",
            "a_released_entry_is_drained_again",
            "what_a_dropped_drain_has_claimed_comes_back",
        ],
    ),
    (
        HeapFault::ClaimsNothing,
        &[
            "a_drained_entry_is_claimed_until_its_lease_ends",
            "of_many_drains_at_once_each_entry_goes_to_one",
            "a_stale_claim_confirms_and_releases_nothing",
        ],
    ),
    (
        HeapFault::ConfirmsNothing,
        &["a_confirmed_entry_is_forgotten"],
    ),
    (
        HeapFault::ConfirmsAllItDrained,
        &["a_confirmed_entry_is_forgotten"],
    ),
    (
        HeapFault::CountsNoClaims,
        &["the_heap_counts_what_it_holds"],
    ),
    (
        HeapFault::StopsCountingTheClaimed,
        &["failures_of_a_claimed_entry_are_counted_on"],
    ),
    (
        HeapFault::ConfirmsAnyClaim,
        &[
            "a_stale_claim_confirms_and_releases_nothing",
            "an_entry_that_failed_anew_is_not_confirmed_by_an_old_claim",
        ],
    ),
    (
        HeapFault::MixesOrigins,
        &["failures_of_different_subjects_are_counted_apart"],
    ),
    (
        HeapFault::CountsOnceACall,
        &["the_same_subject_twice_in_a_call_is_counted_twice"],
    ),
    (
        HeapFault::LosesErrors,
        &["a_failure_is_counted_with_its_kind_and_text"],
    ),
    (
        HeapFault::IgnoresSuccess,
        &[
            "a_success_forgets_the_count",
            "a_success_forgets_a_claimed_entry",
        ],
    ),
    (
        HeapFault::IgnoresTheThreshold,
        &["a_drain_answers_what_reached_the_threshold_and_nothing_else"],
    ),
    (
        HeapFault::IgnoresAge,
        &["a_drain_answers_what_has_been_failing_for_too_long"],
    ),
    (
        HeapFault::DrainsWithoutBound,
        &["a_drain_is_bounded_and_the_worst_come_first"],
    ),
    (
        HeapFault::PurgesTheYoung,
        &["purging_forgets_what_has_not_failed_for_long"],
    ),
    (
        HeapFault::PurgesWhatIsClaimed,
        &["purging_spares_what_is_claimed"],
    ),
];

const QUARANTINE: &[(QuarantineFault, &[&str])] = &[
    (
        QuarantineFault::TellsAllAsMoved,
        &[
            "a_message_in_flight_is_left_alone",
            "a_message_that_is_gone_is_told_as_gone",
        ],
    ),
    (
        QuarantineFault::AnswersInReverse,
        &["answers_come_in_the_order_of_the_entries"],
    ),
    (
        QuarantineFault::MovesOneByOne,
        &["a_dropped_move_neither_loses_nor_doubles"],
    ),
    (
        QuarantineFault::LosesHistory,
        &[
            "a_moved_message_keeps_all_that_it_had",
            "a_message_that_fails_again_comes_back_with_its_history",
        ],
    ),
    (
        QuarantineFault::ForgetsRedrives,
        &[
            "how_often_it_came_back_is_counted_and_shown",
            "a_message_that_fails_again_comes_back_with_its_history",
        ],
    ),
    (
        QuarantineFault::HidesTheDamaged,
        &["a_damaged_letter_is_told_and_hides_no_other"],
    ),
    (
        QuarantineFault::SkipsBetweenPages,
        &["pages_answer_every_letter_once_in_order"],
    ),
    (
        QuarantineFault::NeverEndsItsPages,
        &["pages_answer_every_letter_once_in_order"],
    ),
    (
        QuarantineFault::IgnoresFilters,
        &["each_condition_of_a_filter_is_met"],
    ),
    (
        QuarantineFault::TakesAnyFilter,
        &["a_filter_with_too_many_ids_is_refused"],
    ),
    (
        QuarantineFault::GroupsByPlainText,
        &["like_failures_share_a_fingerprint"],
    ),
    (
        QuarantineFault::CountsNothing,
        &["letters_are_counted_by_what_they_share"],
    ),
    (
        QuarantineFault::RedrivesTheNewestFirst,
        &["steps_of_a_redrive_go_in_the_order_of_the_origin"],
    ),
    (
        QuarantineFault::RedrivesOneByOne,
        &["a_dropped_redrive_neither_loses_nor_doubles"],
    ),
    (
        QuarantineFault::RedrivesInADryRun,
        &["a_dry_run_tells_the_same_and_changes_nothing"],
    ),
    (
        QuarantineFault::RedrivesForEver,
        &[
            "what_was_redriven_too_often_is_refused_unless_forced",
            "a_refusal_stops_no_other",
        ],
    ),
    (
        QuarantineFault::HidesWantOfRoom,
        &[
            "a_redrive_fills_a_queue_to_its_high_water_and_no_further",
            "one_that_does_not_fit_is_told_to_its_operator",
        ],
    ),
    (
        QuarantineFault::AlwaysResets,
        &["attempts_begin_anew_or_go_on"],
    ),
    (
        QuarantineFault::NeverResets,
        &["attempts_begin_anew_or_go_on"],
    ),
    (
        QuarantineFault::DiscardsAll,
        &["discarding_deletes_what_is_meant_in_bounded_batches"],
    ),
    (
        QuarantineFault::ImportsWithoutPayload,
        &["an_exported_letter_comes_back_with_all_that_it_had"],
    ),
    (
        QuarantineFault::KeepsNoAudit,
        &[
            "every_action_stands_in_the_audit",
            "an_action_in_steps_is_one_record_of_the_audit",
        ],
    ),
    (
        QuarantineFault::AuditsEachStep,
        &["an_action_in_steps_is_one_record_of_the_audit"],
    ),
];

#[test]
fn every_fault_is_caught_by_the_cases_about_it() -> std::io::Result<()> {
    let heap = HEAP
        .iter()
        .map(|(fault, names)| (Fault::Heap(*fault), names));
    let quarantine = QUARANTINE
        .iter()
        .map(|(fault, names)| (Fault::Quarantine(*fault), names));
    for (fault, names) in heap.chain(quarantine) {
        for name in *names {
            let case = dlq_cases().find(|case| case.name == *name);
            let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
            assert!(fails(&case, fault)?, "{fault:?} passes {name}");
        }
    }
    Ok(())
}

#[test]
fn without_a_fault_they_pass() -> std::io::Result<()> {
    for case in dlq_cases() {
        assert!(!fails(&case, Fault::None)?, "{}", case.name);
    }
    Ok(())
}

fn fails(case: &Case<dyn DlqHarness, DlqCapabilities>, fault: Fault) -> std::io::Result<bool> {
    let harness: &dyn DlqHarness = &BrokenHarness(fault);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    let end = catch_unwind(AssertUnwindSafe(|| runtime.block_on((case.run)(harness))));
    Ok(!matches!(end, Ok(Ok(()))))
}
