//! Which part of a batch must be there before which.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

use outbox_core::id::Entropy;
use tokio::sync::{Mutex, MutexGuard};

/// The number of a part, among all that one publisher has sent.
pub(super) type PartNumber = u64;

/// Everything that a publisher has under way.
///
/// What is sent follows what was sent before it, as long as that is not answered: a script takes
/// nothing where the part before is not there whole.
pub(super) struct Chain {
    /// What tells this publisher's parts from those of all others.
    nonce: u64,
    /// Held by who sends: the number of the last part. The next one may follow it.
    turn: Mutex<PartNumber>,
    under_way: AtomicUsize,
    /// How many calls ended before they had a turn.
    left: AtomicU64,
}

/// A call, until it comes back or is dropped.
pub(super) struct Call<'a> {
    chain: &'a Chain,
    /// Whether others were under way when it began.
    follows: bool,
    /// How many had left when it began.
    left: u64,
    had_turn: bool,
}

/// A call that waits for its turn.
struct Waiting<'a> {
    left: &'a AtomicU64,
    had_turn: bool,
}

/// The right to send parts, one behind the other. Where it ends before they are all sent, nothing
/// that follows them is taken.
pub(super) struct Turn<'a> {
    chain: &'a Chain,
    last: MutexGuard<'a, PartNumber>,
    follows: bool,
    /// Whether what it sends was sent before.
    again: bool,
    complete: bool,
}

/// What a part is called.
pub(super) struct PartName {
    pub(super) number: PartNumber,
    pub(super) name: String,
    /// The name of the part that it follows; empty where it follows none.
    pub(super) before: String,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self {
            nonce: Entropy::from_system().next_u64(),
            turn: Mutex::default(),
            under_way: AtomicUsize::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// Begins a call, which follows those that are under way.
    pub(super) fn begin(&self) -> Call<'_> {
        let left = self.left.load(Acquire);
        let follows = self.under_way.fetch_add(1, AcqRel) > 0;
        Call {
            chain: self,
            follows,
            left,
            had_turn: false,
        }
    }

    /// Lets nothing be sent for as long as it is held, and tells the number of the last part; nothing
    /// where calls are under way.
    pub(super) async fn pause(&self) -> Option<MutexGuard<'_, PartNumber>> {
        let turn = self.turn.lock().await;
        (self.under_way.load(Acquire) == 0).then_some(turn)
    }

    fn name(&self, number: PartNumber) -> String {
        format!("{:x}-{number}", self.nonce)
    }
}

impl<'a> Call<'a> {
    pub(super) async fn turn(&mut self) -> Turn<'a> {
        let mut turn = self.wait_for_turn(false).await;
        if self.follows && self.chain.left.load(Acquire) != self.left {
            // One that left without a turn was before it: it follows a part that nobody has sent.
            *turn.last += 1;
        }
        turn
    }

    /// A turn for what is sent again. It follows nothing; whatever follows its first try is refused
    /// as that was, and so is what follows this one, which may have been behind the first.
    pub(super) async fn turn_again(&mut self) -> Turn<'a> {
        self.wait_for_turn(true).await
    }

    async fn wait_for_turn(&mut self, again: bool) -> Turn<'a> {
        let mut lock = pin!(self.chain.turn.lock());
        // Dropped before the lock is, so that whoever has it next knows.
        let mut waiting = Waiting {
            left: &self.chain.left,
            had_turn: self.had_turn,
        };
        // Whoever asks first is first, however long this task has been running.
        let last = tokio::task::unconstrained(lock.as_mut()).await;
        waiting.had_turn = true;
        self.had_turn = true;
        Turn {
            chain: self.chain,
            last,
            follows: self.follows && !again,
            again,
            complete: false,
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.chain.under_way.fetch_sub(1, AcqRel);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.had_turn {
            self.left.fetch_add(1, AcqRel);
        }
    }
}

impl Turn<'_> {
    pub(super) fn next_part(&mut self) -> PartName {
        let before = if std::mem::replace(&mut self.follows, true) {
            self.chain.name(*self.last)
        } else {
            String::new()
        };
        *self.last += 1;
        PartName {
            number: *self.last,
            name: self.chain.name(*self.last),
            before,
        }
    }

    /// The next part is the first one of a new try.
    pub(super) fn follow_nothing(&mut self) {
        self.follows = false;
    }

    /// Everything is sent.
    pub(super) fn complete(mut self) {
        self.complete = !self.again;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.complete {
            // A part that nobody has sent.
            *self.last += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;

    /// The names of a part and of the one that it follows.
    fn part(turn: &mut Turn<'_>) -> (String, String) {
        let part = turn.next_part();
        (part.name, part.before)
    }

    #[tokio::test]
    async fn a_call_follows_what_is_under_way_and_nothing_else() {
        let chain = Chain::new();
        let mut first = chain.begin();
        let mut turn = first.turn().await;
        let (one, none) = part(&mut turn);
        assert_eq!(none, "");
        let (two, before) = part(&mut turn);
        assert_eq!(before, one);
        turn.complete();
        let mut second = chain.begin();
        drop(first);
        let mut turn = second.turn().await;
        assert_eq!(part(&mut turn).1, two);
        turn.complete();
        drop(second);
        let mut turn = chain.begin().turn().await;
        assert_eq!(part(&mut turn).1, "");
    }

    #[tokio::test]
    async fn nothing_follows_a_call_that_has_not_sent_everything() {
        let chain = Chain::new();
        let (mut first, mut second) = (chain.begin(), chain.begin());
        let mut turn = first.turn().await;
        let (sent, _) = part(&mut turn);
        drop(turn);
        let (_, before) = part(&mut second.turn().await);
        assert!(!before.is_empty() && before != sent, "{before}");
        assert_eq!(part(&mut first.turn_again().await).1, "");
    }

    #[tokio::test]
    async fn nothing_follows_a_call_that_left_while_it_waited() {
        let chain = Chain::new();
        let mut first = chain.begin();
        let mut turn = first.turn().await;
        let (sent, _) = part(&mut turn);
        let (mut second, mut third) = (chain.begin(), chain.begin());
        assert!(poll_immediate(second.turn()).await.is_none());
        drop(second);
        turn.complete();
        let (_, before) = part(&mut third.turn().await);
        assert!(!before.is_empty() && before != sent, "{before}");
        // Who begins later follows the third, and nothing that is missing.
        let mut fourth = chain.begin();
        assert!(!part(&mut fourth.turn().await).1.is_empty());
    }

    #[tokio::test]
    async fn nothing_follows_what_was_sent_again() {
        let chain = Chain::new();
        let mut first = chain.begin();
        first.turn().await.complete();
        // It is refused as the first try was, and under way until that is heard.
        let _second = chain.begin();
        let mut turn = first.turn_again().await;
        let (again, _) = part(&mut turn);
        turn.complete();
        let (_, before) = part(&mut chain.begin().turn().await);
        assert!(!before.is_empty() && before != again, "{before}");
    }

    #[tokio::test]
    async fn a_pause_is_to_be_had_where_nothing_is_under_way() {
        let chain = Chain::new();
        assert!(chain.pause().await.is_some());
        let call = chain.begin();
        assert!(chain.pause().await.is_none());
        drop(call);
        assert!(chain.pause().await.is_some());
    }
}
