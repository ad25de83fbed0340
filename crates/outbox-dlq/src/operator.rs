use std::sync::Arc;

use outbox_core::OutboxError;
use outbox_core::error::Result;
use outbox_core::id::Entropy;
use outbox_core::ports::Clock;
use outbox_core::signal::Shutdown;
use outbox_core::time::SystemClock;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::RedriveConfig;
use crate::letter::{DeadLetter, Filter, LetterId, Page};
use crate::lines::{read_line, write_line};
use crate::origin::Origin;
use crate::pace::Pace;
use crate::quarantine::{Action, ActionId, DiscardRequest, Quarantine, RedriveRequest, Refusal};
use crate::redrive::{Redrive, RedriveSummary};

/// How many dead letters are read or deleted at a time.
const BATCH: usize = 200;
/// The longest line that is read in.
const LINE_BYTES: u64 = 64 << 20;
/// How many problems a summary tells; the others are only counted.
const TOLD: usize = 100;

/// What an operator can do with a [`Quarantine`], in bounded batches, each action with a record in the
/// audit.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use outbox_core::memory::MemoryOutbox;
/// use outbox_core::signal::Shutdown;
/// use outbox_dlq::{Filter, MemoryQuarantine, Operator, RedriveConfig};
/// use std::sync::Arc;
///
/// let quarantine = MemoryQuarantine::new().with_outbox(MemoryOutbox::default());
/// let operator = Operator::new(Arc::new(quarantine), "ada");
/// let canary = RedriveConfig { most: Some(10), ..RedriveConfig::default() };
/// let summary = operator.redrive(&Filter::default(), &canary, &Shutdown::new()).await?;
/// assert_eq!(summary.redriven, 0, "nothing rests there");
/// # Ok::<_, outbox_core::OutboxError>(())
/// # }).unwrap();
/// ```
pub struct Operator {
    quarantine: Arc<dyn Quarantine>,
    by: String,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
}

/// What was read in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// How many were added.
    pub imported: u64,
    /// How many were there already.
    pub duplicates: u64,
    /// How many lines could not be read; the others were.
    pub unreadable: u64,
    /// The numbers, from 1, of the first 100 of those, and what is wrong with them.
    pub problems: Vec<(u64, String)>,
}

/// Why one dead letter was not sent back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DlqError {
    /// It is not in quarantine.
    #[error("there is no dead letter {0}")]
    NotThere(LetterId),
    /// It was refused, and stays.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its queue is at its high-water mark; it stays until there is room.
    #[error("dead letter {id} does not fit into {origin}, which is full: try again later")]
    Full {
        /// Which.
        id: LetterId,
        /// The queue.
        origin: Origin,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] OutboxError),
}

impl Operator {
    /// What `by` does is recorded under that name.
    pub fn new(quarantine: Arc<dyn Quarantine>, by: impl Into<String>) -> Self {
        Self {
            quarantine,
            by: by.into(),
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
        }
    }

    /// Replaces the clock and the source of identities, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }

    /// Sends one dead letter back, whatever of its key rests before it.
    ///
    /// # Errors
    /// [`DlqError`], where it was not sent back.
    ///
    /// # Cancel safety
    /// It was sent back, or was not.
    pub async fn redrive_one(&self, id: LetterId, config: &RedriveConfig) -> Result<(), DlqError> {
        config.validate()?;
        let action = self.action(&config.reason);
        let request = self.request(&Filter::one(id), config, &action, 1);
        let report = self.quarantine.redrive(&request).await?;
        if let Some(origin) = report.full {
            return Err(DlqError::Full { id, origin });
        }
        match report.refused.into_iter().next() {
            Some(refusal) => Err(refusal.into()),
            None if report.redriven.is_empty() => Err(DlqError::NotThere(id)),
            None => Ok(()),
        }
    }

    /// Sends the dead letters back that are meant and rest there now: those of an origin in the order
    /// in which they stood, at the rate that is set, of which no more than a second is caught up. What
    /// comes to rest meanwhile stays.
    ///
    /// Where a queue is full, its dead letters wait for room while those of others go on. It is looked
    /// for after 100 ms, and as long as there is none after twice as long each time, up to 5 s.
    ///
    /// # Errors
    /// As [`Quarantine::redrive`], and [`OutboxError::Config`] for settings that cannot be used; what
    /// was sent by then stays sent, and the audit tells how many.
    ///
    /// # Cancel safety
    /// A part was sent back, in whole batches.
    pub async fn redrive(
        &self,
        filter: &Filter,
        config: &RedriveConfig,
        shutdown: &Shutdown,
    ) -> Result<RedriveSummary> {
        config.validate()?;
        let filter = self.present(filter).await?;
        let action = self.action(&config.reason);
        let redrive = Redrive {
            quarantine: &*self.quarantine,
            clock: &*self.clock,
            config,
            shutdown,
            request: self.request(&filter, config, &action, config.batch),
            pace: Pace::new(config.rate.filter(|_| !config.dry_run)),
            summary: RedriveSummary::default(),
        };
        redrive.run().await
    }

    /// Those that `filter` means and that rest there now, whatever anybody's clock tells.
    async fn present(&self, filter: &Filter) -> Result<Filter> {
        let last = self.quarantine.last().await?.unwrap_or(LetterId(0));
        Ok(Filter {
            up_to: Some(filter.up_to.map_or(last, |up_to| up_to.min(last))),
            ..filter.clone()
        })
    }

    /// Deletes the dead letters that are meant and rest there now; answers how many. What comes to rest
    /// meanwhile stays.
    ///
    /// # Errors
    /// As [`Quarantine::discard`].
    ///
    /// # Cancel safety
    /// A part was deleted, in whole batches.
    pub async fn discard(&self, filter: &Filter, reason: &str) -> Result<u64> {
        let mut request = DiscardRequest {
            filter: self.present(filter).await?,
            max: BATCH,
            action: self.action(reason),
            now: self.clock.now(),
        };
        let mut discarded = 0;
        loop {
            request.now = self.clock.now();
            let report = self.quarantine.discard(&request).await?;
            discarded += report.discarded;
            if !report.more {
                return Ok(discarded);
            }
        }
    }

    /// Writes the dead letters that are meant to `out`, one line of JSON each; answers how many.
    ///
    /// # Errors
    /// As [`Quarantine::list`], and [`OutboxError::Codec`] where `out` cannot be written to.
    ///
    /// # Cancel safety
    /// `out` has a part of them, the last line perhaps cut; nothing else was changed.
    pub async fn export(
        &self,
        filter: &Filter,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let failed = |error| OutboxError::codec("exported dead letters", error);
        let (mut exported, mut page) = (0, Page::first(BATCH));
        loop {
            let listing = self.quarantine.list(filter, page).await?;
            for letter in &listing.letters {
                let line = write_line(letter)?;
                out.write_all(line.as_bytes()).await.map_err(failed)?;
                exported += 1;
            }
            page.after = listing.next;
            if page.after.is_none() {
                break;
            }
        }
        out.flush().await.map_err(failed)?;
        Ok(exported)
    }

    /// Reads in what was exported. A line that cannot be read is told, and spoils no other.
    ///
    /// # Errors
    /// As [`Quarantine::import`], and [`OutboxError::Codec`] where `input` cannot be read.
    ///
    /// # Cancel safety
    /// A part was added; reading all of it in again adds the rest.
    pub async fn import(
        &self,
        input: &mut (dyn AsyncBufRead + Send + Unpin),
        reason: &str,
    ) -> Result<ImportSummary> {
        let action = self.action(reason);
        let mut summary = ImportSummary::default();
        let (mut letters, mut number) = (Vec::new(), 0);
        while let Some(line) = next_line(input).await? {
            number += 1;
            match line.and_then(|line| read_line(&line).map_err(|error| error.to_string())) {
                Ok(letter) => letters.push(letter),
                Err(problem) => summary.tell(number, problem),
            }
            if letters.len() == BATCH {
                self.import_batch(&mut letters, &action, &mut summary)
                    .await?;
            }
        }
        self.import_batch(&mut letters, &action, &mut summary)
            .await?;
        Ok(summary)
    }

    async fn import_batch(
        &self,
        letters: &mut Vec<DeadLetter>,
        action: &Action,
        summary: &mut ImportSummary,
    ) -> Result<()> {
        let now = self.clock.now();
        let report = self.quarantine.import(letters, action, now).await?;
        letters.clear();
        summary.imported += report.imported;
        summary.duplicates += report.duplicates;
        Ok(())
    }

    fn action(&self, reason: &str) -> Action {
        Action {
            id: ActionId::new(&self.entropy),
            by: self.by.clone(),
            reason: reason.to_owned(),
        }
    }

    fn request(
        &self,
        filter: &Filter,
        config: &RedriveConfig,
        action: &Action,
        max: usize,
    ) -> RedriveRequest {
        RedriveRequest {
            filter: filter.clone(),
            after: None,
            max,
            attempts: config.attempts,
            max_redrives: config.max_redrives,
            dry_run: config.dry_run,
            action: action.clone(),
            now: self.clock.now(),
        }
    }
}

impl ImportSummary {
    fn tell(&mut self, line: u64, problem: String) {
        self.unreadable += 1;
        if self.problems.len() < TOLD {
            self.problems.push((line, problem));
        }
    }
}

/// The next line, where there is one; or what is wrong with it, and it is passed over.
async fn next_line(
    input: &mut (dyn AsyncBufRead + Send + Unpin),
) -> Result<Option<Result<String, String>>> {
    let failed = |error| OutboxError::codec("dead letters to be imported", error);
    let mut line = Vec::new();
    let mut limited = (&mut *input).take(LINE_BYTES);
    let read = limited.read_until(b'\n', &mut line).await.map_err(failed)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE_BYTES && !line.ends_with(b"\n") {
        skip_line(input).await.map_err(failed)?;
        let problem = format!("the line is longer than {LINE_BYTES} bytes");
        return Ok(Some(Err(problem)));
    }
    let text = String::from_utf8(line).map_err(|error| error.to_string());
    Ok(Some(text))
}

/// Reads to the end of the line.
async fn skip_line(input: &mut (dyn AsyncBufRead + Send + Unpin)) -> std::io::Result<()> {
    loop {
        let some = input.fill_buf().await?;
        let end = some.iter().position(|byte| *byte == b'\n');
        let (used, done) = (end.map_or(some.len(), |end| end + 1), end.is_some());
        input.consume(used);
        if done || used == 0 {
            return Ok(());
        }
    }
}
