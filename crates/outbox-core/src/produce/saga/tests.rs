use std::sync::Arc;

use super::*;
use crate::error::HandlerError;
use crate::message::{Headers, NewMessage};
use crate::ports::Appender;
use crate::produce::fakes::{Draft, Fault, Store};

fn step() -> SagaStep {
    let undo = ["release stock", "tell the customer"];
    let undo = undo.map(|text| NewMessage::new("undo", text));
    SagaStep::new("order-7", "pay").compensate_with(undo.into())
}

fn saga(store: &Arc<Store>) -> Saga<Store> {
    Saga::new(
        Arc::clone(store),
        Arc::clone(store) as Arc<dyn Appender<Draft>>,
    )
}

async fn pays(tx: &mut Draft) -> Result<Vec<NewMessage>, HandlerError> {
    tx.insert("payment");
    Ok(vec![NewMessage::new("orders", "paid")])
}

async fn declines(tx: &mut Draft) -> Result<Vec<NewMessage>, HandlerError> {
    tx.insert("payment");
    Err(HandlerError::reject("card declined"))
}

#[tokio::test]
async fn a_step_commits_its_work_and_its_result_events_together() {
    let store = Store::new();
    let saga = saga(&store);
    // Spawned, because futures of generic work must stay `Send`.
    let task = tokio::spawn(async move { saga.execute(&step(), pays).await });
    assert!(matches!(task.await.unwrap(), Ok(StepOutcome::Done(_))));
    assert_eq!(store.rows(), ["payment"]);
    let events = store.messages();
    assert_eq!(events[0].payload, "paid");
    assert_eq!(
        events[0].headers.get(Headers::CORRELATION_ID),
        Some("order-7")
    );
}

#[tokio::test]
async fn a_step_that_fails_is_rolled_back_and_compensated() {
    let store = Store::new();
    let failed = saga(&store).execute(&step(), declines).await.unwrap_err();
    let SagaError::Compensated {
        source,
        compensation,
    } = failed
    else {
        panic!("{failed}")
    };
    assert_eq!(
        (source.to_string(), compensation.added()),
        ("card declined".into(), 2)
    );
    assert!(store.rows().is_empty());
    assert_eq!(store.payloads(), ["release stock", "tell the customer"]);
    let correlated = |event: &NewMessage| event.headers.get(Headers::CORRELATION_ID).is_some();
    assert!(store.messages().iter().all(correlated));
}

#[tokio::test]
async fn a_step_that_was_done_is_neither_done_again_nor_compensated() {
    let store = Store::new();
    let saga = saga(&store);
    saga.execute(&step(), pays).await.unwrap();
    let again = saga.execute(&step(), pays).await;
    assert!(matches!(again, Ok(StepOutcome::DoneBefore(_))), "{again:?}");
    let failing = saga.execute(&step(), declines).await;
    assert!(
        matches!(failing, Ok(StepOutcome::DoneBefore(_))),
        "{failing:?}"
    );
    assert_eq!((store.rows().len(), store.payloads().len()), (1, 1));
}

#[tokio::test]
async fn a_step_that_was_compensated_is_neither_done_nor_compensated_again() {
    let store = Store::new();
    let saga = saga(&store);
    saga.execute(&step(), declines).await.unwrap_err();
    for again in [
        saga.execute(&step(), pays).await,
        saga.execute(&step(), declines).await,
    ] {
        assert!(
            matches!(again, Err(SagaError::CompensatedBefore(_))),
            "{again:?}"
        );
    }
    assert_eq!((store.rows().len(), store.payloads().len()), (0, 2));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_compensated_and_running_again_finds_out() {
    let store = Store::failing([Fault::AnswerLost]);
    let saga = saga(&store);
    let unknown = saga.execute(&step(), pays).await.unwrap_err();
    assert!(matches!(unknown, SagaError::Retry(_)), "{unknown}");
    let again = saga.execute(&step(), declines).await;
    assert!(matches!(again, Ok(StepOutcome::DoneBefore(_))), "{again:?}");
    assert_eq!(store.payloads(), ["paid"]);
}

#[tokio::test]
async fn work_that_asks_for_a_retry_is_rolled_back_and_not_compensated() {
    let store = Store::new();
    let busy = async |tx: &mut Draft| {
        tx.insert("payment");
        Err(HandlerError::retry("bank is closed"))
    };
    let failed = saga(&store).execute(&step(), busy).await.unwrap_err();
    assert!(failed.is_transient(), "{failed}");
    assert!(store.rows().is_empty() && store.payloads().is_empty());
}

#[tokio::test]
async fn a_compensation_that_is_not_stored_asks_for_another_run() {
    let store = Store::failing([Fault::Dead]);
    let saga = saga(&store);
    let failed = saga.execute(&step(), declines).await.unwrap_err();
    assert!(
        matches!(failed, SagaError::Uncompensated { .. }),
        "{failed}"
    );
    assert!(failed.is_transient());
    let again = saga.execute(&step(), declines).await;
    assert!(
        matches!(again, Err(SagaError::Compensated { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_step_whose_commit_fails_for_good_is_compensated() {
    let store = Store::failing([Fault::Dead]);
    let failed = saga(&store).execute(&step(), pays).await.unwrap_err();
    assert!(matches!(failed, SagaError::Compensated { .. }), "{failed}");
    assert!(store.rows().is_empty());
}

#[tokio::test]
async fn events_keep_the_ids_and_keys_that_they_bring() {
    let store = Store::new();
    let work = async |_: &mut Draft| {
        let own = NewMessage::new("orders", "own").idempotency_key("mine");
        Ok(vec![own, NewMessage::new("orders", "free")])
    };
    saga(&store).execute(&step(), work).await.unwrap();
    let keys: Vec<_> = store
        .messages()
        .into_iter()
        .map(|m| m.idempotency_key)
        .collect();
    assert_eq!(keys, [Some("mine".to_owned()), Some(step().key())]);
}

#[test]
fn steps_of_different_sagas_have_different_keys() {
    assert_ne!(
        SagaStep::new("a:b", "c").key(),
        SagaStep::new("a", "b:c").key()
    );
}
