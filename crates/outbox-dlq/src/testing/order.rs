use outbox_core::status::OnFailure;
use outbox_core::testing::CaseResult;

use super::given::{START, after, keyed, redrive_all};
use super::harness::DlqHarness;
use super::scene::{Scene, Side, sides};
use super::table::{DlqCase, OUTBOX, case};
use crate::{Origin, RedriveRequest};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.5", redriven_messages_keep_the_order_of_their_key),
    case!("10.5", steps_of_a_redrive_go_in_the_order_of_the_origin),
    case!("10.5", a_message_that_came_back_goes_to_its_old_place),
    case!(
        "10.5",
        a_redriven_message_goes_before_those_that_waited_behind_it,
        OUTBOX
    ),
    case!("10.5", a_redrive_ends_though_what_it_sends_comes_back),
];

/// Takes what is there, and gives it up in the reverse order.
async fn bury_in_reverse(scene: &Scene, names: &[&str]) -> CaseResult {
    let batch: Vec<_> = names.iter().map(|name| keyed("k", name)).collect();
    scene.put(&batch).await?;
    let taken = scene.take(batch.len(), START).await?;
    for one in taken.iter().rev() {
        scene
            .give_up(std::slice::from_ref(one), "never", START)
            .await?;
    }
    scene.stop().await
}

async fn redriven_messages_keep_the_order_of_their_key(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        bury_in_reverse(&scene, &["a", "b", "c", "d", "e"]).await?;
        scene.redrive(after(1)).await?;
        assert_eq!(
            scene.deliver_all(after(1)).await?,
            ["a", "b", "c", "d", "e"]
        );
    }
    Ok(())
}

async fn steps_of_a_redrive_go_in_the_order_of_the_origin(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        bury_in_reverse(&scene, &["a", "b", "c", "d", "e"]).await?;
        let mut request = RedriveRequest {
            max: 2,
            ..redrive_all(after(1))
        };
        let mut delivered = Vec::new();
        loop {
            let report = scene.quarantine.redrive(&request).await?;
            delivered.extend(scene.deliver_all(after(1)).await?);
            request.after = report.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!(delivered, ["a", "b", "c", "d", "e"]);
    }
    Ok(())
}

async fn a_message_that_came_back_goes_to_its_old_place(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&[keyed("k", "a"), keyed("k", "b")], "never", START)
            .await?;
        let canary = RedriveRequest {
            max: 1,
            ..redrive_all(after(1))
        };
        scene.quarantine.redrive(&canary).await?;
        let taken = scene.take(1, after(1)).await?;
        scene.give_up(&taken, "never", after(1)).await?;
        scene.stop().await?;
        // Its number is higher now than that of the one behind it.
        scene.redrive(after(2)).await?;
        assert_eq!(scene.deliver_all(after(2)).await?, ["a", "b"]);
    }
    Ok(())
}

async fn a_redriven_message_goes_before_those_that_waited_behind_it(
    harness: &dyn DlqHarness,
) -> CaseResult {
    let scene = Scene::new(harness, Origin::Outbox).await?;
    scene
        .put(&["a", "b", "c"].map(|text| keyed("k", text)))
        .await?;
    let taken = scene.take(1, START).await?;
    let park = ("never", OnFailure::ParkKey);
    scene.give_up_and(&taken, park, START).await?;
    assert!(scene.take(10, START).await?.is_empty(), "the key is parked");
    scene.stop().await?;
    scene.redrive(after(1)).await?;
    if let Side::Outbox(outbox) = &scene.side {
        assert!(outbox.resume_key("k").await?);
    }
    assert_eq!(scene.deliver_all(after(1)).await?, ["a", "b", "c"]);
    Ok(())
}

async fn a_redrive_ends_though_what_it_sends_comes_back(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        bury_in_reverse(&scene, &["a", "b", "c"]).await?;
        let mut request = RedriveRequest {
            max: 1,
            ..redrive_all(after(1))
        };
        // What rested there when it began.
        request.filter.before = Some(after(1));
        let mut sent = 0;
        loop {
            let report = scene.quarantine.redrive(&request).await?;
            sent += report.redriven.len();
            let taken = scene.take(1, after(1)).await?;
            scene.give_up(&taken, "never", after(1)).await?;
            scene.stop().await?;
            request.after = report.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!((sent, scene.letters().await?.len()), (3, 3));
    }
    Ok(())
}
