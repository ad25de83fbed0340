//! A line of callers who are served together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often at most those who serve look whether more have come.
const LOOKS: u32 = 16;

/// Those who wait for something that is done for many at once.
///
/// A task that belongs to none of them serves until nobody waits: dropping a caller's future harms
/// no other.
pub(crate) struct Line<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    waiting: VecDeque<T>,
    served: bool,
}

impl<T> Line<T> {
    /// Whether nobody waits, and nobody is served.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        !state.served && state.waiting.is_empty()
    }

    /// Takes out of those who wait, who stand in the order in which they came.
    pub(crate) fn take<R>(&self, from: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        from(&mut self.state().waiting)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Line<T> {
    /// Lets `one` wait. Where the line is not served, it is from now on: by `serve`, again and again
    /// until nobody waits.
    pub(crate) fn join<F>(&self, one: T, serve: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let served = {
            let mut state = self.state();
            state.waiting.push_back(one);
            std::mem::replace(&mut state.served, true)
        };
        // Not under the lock: a runtime that ends drops the service at once, which takes it.
        if !served {
            let service = Service {
                line: self.clone(),
                left: false,
            };
            tokio::spawn(service.run(serve));
        }
    }
}

impl<T> Clone for Line<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            served: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

/// Serves those who wait in line until nobody does.
struct Service<T> {
    line: Line<T>,
    left: bool,
}

impl<T> Drop for Service<T> {
    /// Its runtime may end before the line does: nobody serves those who wait any more, and the
    /// next caller starts anew.
    fn drop(&mut self) {
        if !self.left {
            let mut state = self.line.state();
            state.served = false;
            state.waiting.clear();
        }
    }
}

impl<T> Service<T> {
    async fn run<F: Future<Output = ()> + Send>(mut self, serve: impl Fn() -> F + Send) {
        while !self.left {
            serve().await;
            self.gather().await;
            self.leave_if_done();
        }
    }

    /// Those who were answered may want more: lets them join, as long as more of them come.
    async fn gather(&self) {
        let mut waiting = 0;
        for _ in 0..LOOKS {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut waiting, self.line.state().waiting.len());
            if waiting <= before {
                return;
            }
        }
    }

    fn leave_if_done(&mut self) {
        let mut state = self.line.state();
        self.left = state.waiting.is_empty();
        state.served = !self.left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_can_serve_any_more_hangs_nobody() {
        let line = Line::default();
        let join = || std::panic::catch_unwind(|| line.join((), || async {}));
        // Outside of a runtime, as at its end, the service is dropped at once.
        assert!(join().is_err());
        assert!(line.is_idle());
        assert!(join().is_err());
    }
}
