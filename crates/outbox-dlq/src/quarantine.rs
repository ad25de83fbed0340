use std::fmt;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::id::Entropy;
use outbox_core::time::Timestamp;

use crate::heap::DlqEntry;
use crate::letter::{Counts, DeadLetter, Filter, LetterId, Listing, Page};
use crate::origin::Origin;

/// What came of moving a message into quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It rests in quarantine now.
    Moved,
    /// Somebody may be publishing or handling it right now: ask again later.
    InFlight,
    /// It is not where it was said to be: published, handled, or in quarantine already.
    Gone,
}

/// What an operator does, and who he is: the same in all calls that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its identity: calls that share it are one in the audit.
    pub id: ActionId,
    /// Who acts.
    pub by: String,
    /// Why, for those who read the audit; may be empty.
    pub reason: String,
}

/// The identity of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

impl ActionId {
    /// A new, random one.
    #[must_use]
    pub fn new(entropy: &Entropy) -> Self {
        Self(entropy.next_u64())
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// Dead letters were sent back.
    Redrive,
    /// Dead letters were deleted.
    Discard,
    /// Dead letters were read in.
    Import,
}

impl ActionKind {
    /// Its word in a store: `redrive`, `discard`, `import`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
            Self::Import => "import",
        }
    }

    /// The kind that `word` stands for.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let kinds = [Self::Redrive, Self::Discard, Self::Import];
        kinds.into_iter().find(|kind| kind.word() == word)
    }
}

/// What was done, by whom, when, and to how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number, from 1, in the order in which actions began.
    pub number: u64,
    /// What was done.
    pub kind: ActionKind,
    /// The action.
    pub action: Action,
    /// To what: the filter in words.
    pub what: String,
    /// To how many dead letters.
    pub letters: u64,
    /// When its first step took effect.
    pub began_at: Timestamp,
    /// When its last step took effect.
    pub ended_at: Timestamp,
}

/// What becomes of the count of attempts when a message is sent back. The history stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempts {
    /// It begins anew: the message has all its attempts again.
    #[default]
    Reset,
    /// It goes on: a message that had its last attempt has one more.
    Keep,
}

/// Where a redrive has come to: it goes through each origin in the order in which messages stood there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedriveCursor {
    /// The origin of the last dead letter that was looked at.
    pub origin: Origin,
    /// Its place there.
    pub position: u64,
    /// Its number.
    pub id: LetterId,
}

impl RedriveCursor {
    /// Behind every dead letter of an origin.
    #[must_use]
    pub fn behind(origin: Origin) -> Self {
        Self {
            origin,
            position: u64::MAX,
            id: LetterId(u64::MAX),
        }
    }
}

/// Asks a quarantine to send dead letters back, one bounded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveRequest {
    /// Which.
    pub filter: Filter,
    /// Begin behind this; at the first one where `None`.
    pub after: Option<RedriveCursor>,
    /// The most to look at; at least 1.
    pub max: usize,
    /// What becomes of their attempts.
    pub attempts: Attempts,
    /// One that was redriven so often already is refused; none is where `None`.
    pub max_redrives: Option<u32>,
    /// Whether nothing is to be changed, but told what would be.
    pub dry_run: bool,
    /// Who does it.
    pub action: Action,
    /// The present moment.
    pub now: Timestamp,
}

/// Why a dead letter was not sent back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It came back too often: its cause is not mended.
    #[error(
        "dead letter {id} was redriven {redrives} times, its limit is {limit}; force it, or mend the cause"
    )]
    TooOften {
        /// Which.
        id: LetterId,
        /// How often it was redriven.
        redrives: u32,
        /// The limit.
        limit: u32,
    },
    /// There is no message that could be sent.
    #[error("dead letter {id} cannot be read")]
    Unreadable {
        /// Which.
        id: LetterId,
    },
    /// A message with its id is there already, undelivered.
    #[error("the message of dead letter {id} is in {origin} already")]
    AlreadyThere {
        /// Which.
        id: LetterId,
        /// Where its message is.
        origin: Origin,
    },
    /// There is nothing of that name to send it back to.
    #[error("dead letter {id} came from {origin}, which is not here")]
    NoOrigin {
        /// Which.
        id: LetterId,
        /// Where it came from.
        origin: Origin,
    },
}

/// What a redrive did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// Those that were sent back, in the order in which they were.
    pub redriven: Vec<LetterId>,
    /// Those that were not, and why; they stay in quarantine.
    pub refused: Vec<Refusal>,
    /// Where to go on; `None` where nothing is left to look at, or where the first one that was meant
    /// already found its queue full.
    pub next: Option<RedriveCursor>,
    /// The queue that has no room for the one behind `next`; `None` where nothing waits for room.
    pub full: Option<Origin>,
}

/// Asks a quarantine to delete dead letters, one bounded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscardRequest {
    /// Which.
    pub filter: Filter,
    /// The most to delete; at least 1.
    pub max: usize,
    /// Who does it.
    pub action: Action,
    /// The present moment.
    pub now: Timestamp,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscardReport {
    /// How many.
    pub discarded: u64,
    /// Whether more may be left.
    pub more: bool,
}

/// What was read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// How many were added.
    pub imported: u64,
    /// How many were there already: same origin, same message, or, where that cannot be read, same
    /// place and moment.
    pub duplicates: u64,
}

/// Asks a quarantine to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountRequest {
    /// Which.
    pub filter: Filter,
    /// The most topics, kinds and groups to tell, each; at least 1.
    pub max: usize,
}

/// Where messages rest that cannot be delivered, until an operator decides.
///
/// What a relay or a worker gives up by itself, after the last attempt or because it was refused, rests
/// here as well.
///
/// # Contract
/// - **quarantine** moves messages out of their outbox or queue: at every moment a message is there or
///   here, never both or neither. A message that somebody may be delivering right now is left alone and
///   told as in flight. One that leaves an outbox no longer holds up its key.
/// - A dead letter keeps its payload, headers, origin, attempts, history, first and last failure, and
///   the last error.
/// - **list** answers every dead letter that is meant, once, page by page, in the order of their
///   numbers; a page may be short, its `next` tells whether it was the last. One that cannot be read is
///   told as such, and hides no other.
/// - **redrive** sends back: at every moment a message is here or there. Within an origin those that
///   stood first go first, so that messages of one key keep their order; a message comes back to its old
///   place where its origin still knows it, before those of its key that waited behind it. Attempts begin
///   anew or go on; the history stays, and how often it was redriven is counted with the message,
///   wherever it goes.
/// - What was redriven too often, cannot be read, or is there already is refused by itself, and stays.
/// - A queue takes no more than fits below its high-water mark: the batch ends before the first one that
///   does not fit, and tells which queue is full.
/// - A dry run tells the same, but for want of room, which comes and goes, and changes nothing.
/// - **discard** deletes. **import** adds what is not there, with all that it had; it comes back to the
///   end of its origin.
/// - Each step of an operator's action is recorded in the audit, in the step itself.
///
/// # Cancel safety
/// As for all ports: a dropped call took effect or did not.
#[async_trait]
pub trait Quarantine: Send + Sync {
    /// Moves the messages of drained entries out of their origin into quarantine; one answer each.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; nothing was moved, or that is
    /// unknown: call it again, what was moved is told as gone.
    #[doc(alias = "quarantine_events")]
    async fn quarantine(&self, entries: &[DlqEntry], now: Timestamp) -> Result<Vec<Move>>;

    /// Answers a page of the dead letters that are meant.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed,
    /// [`outbox_core::OutboxError::Limit`] for a filter with too many ids.
    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing>;

    /// Answers one dead letter.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn get(&self, id: LetterId) -> Result<Option<DeadLetter>> {
        let listing = self.list(&Filter::one(id), Page::first(1)).await?;
        Ok(listing.letters.into_iter().next())
    }

    /// Answers the number of the newest dead letter; `None` where none rests. What comes to rest later
    /// has a greater one.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn last(&self) -> Result<Option<LetterId>>;

    /// Sends a batch of dead letters back to where they came from.
    ///
    /// # Errors
    /// As [`Quarantine::list`]; nothing was sent back, or that is unknown: call it again, what was sent
    /// is not here any more.
    async fn redrive(&self, request: &RedriveRequest) -> Result<RedriveReport>;

    /// Deletes a batch of dead letters.
    ///
    /// # Errors
    /// As [`Quarantine::list`].
    async fn discard(&self, request: &DiscardRequest) -> Result<DiscardReport>;

    /// Counts the dead letters that are meant.
    ///
    /// # Errors
    /// As [`Quarantine::list`].
    async fn count(&self, request: &CountRequest) -> Result<Counts>;

    /// Adds dead letters that were exported, here or elsewhere, under new numbers.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; call it again, what is there
    /// already is told as a duplicate.
    async fn import(
        &self,
        letters: &[DeadLetter],
        action: &Action,
        now: Timestamp,
    ) -> Result<ImportReport>;

    /// Answers up to `max` records of the audit behind number `after`, in their order.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn audit(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>>;
}
