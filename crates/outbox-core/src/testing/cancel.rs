use std::pin::pin;
use std::task::Poll;

/// Polls `future` up to `polls` times, each time when it asked to be polled, and then drops it: a
/// crash at its await number `polls`. `None` where it was not done by then.
pub(super) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        let Some(rest) = left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        left = rest;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The most polls after which the cases of cancelling drop a future.
pub(super) const MOST_POLLS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_dropped_at_the_await_that_was_chosen() {
        let two_awaits = || async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        };
        assert_eq!(drop_after(0, two_awaits()).await, None);
        assert_eq!(drop_after(2, two_awaits()).await, None);
        assert_eq!(drop_after(3, two_awaits()).await, Some(()));
    }
}
