use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Polls `future` up to `polls` times, as its runtime wakes it, and then drops it at the await that it
/// stands at; its output where it was done by then.
///
/// Dropping a future equals dying at that await. Raise `polls` from 0 until this answers `Some`, and
/// every await of the future has been died at.
///
/// # Cancel safety
/// Dropping it drops `future`.
pub async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_dropped_at_the_await_that_its_last_poll_came_to() {
        for (polls, steps) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)] {
            let mut done = 0;
            let end = cut(
                async {
                    for _ in 0..2 {
                        done += 1;
                        tokio::task::yield_now().await;
                    }
                    done += 1;
                },
                polls,
            );
            assert_eq!(end.await.is_some(), polls >= 3);
            assert_eq!(done, steps);
        }
    }
}
